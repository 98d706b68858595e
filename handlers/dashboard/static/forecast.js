// The Forecast view: quality of the forecast, high-risk actions by day, and tomorrow's workload by agent. While the history
// is too short for a forecast, it shows the progress of data collection.
import { anomalyList, recommendationList, topAnomalies } from "./anomalies.js";
import { byId, el, fact, fill, isolated, stateBadge } from "./elements.js";
import { count, dayLong, known, noValue, percent, plural, rate, tenth } from "./format.js";
import { Panel, empty } from "./panel.js";
import { likelyRange } from "./risk-chart.js";
import { table } from "./table.js";

const TRENDS = { increasing: "↗ increasing", decreasing: "↘ decreasing", stable: "→ stable" };
const METHODS = { pattern_based: "recent patterns", trend_based: "trend", ml_powered: "machine learning" };
const QUALITY_TONES = { high: "good", medium: "warning" };

// The panel of the overview: the most severe anomalies and the first recommendations.
export function showAttention(forecast, acknowledgement) {
  new Panel("panel-attention").follow(forecast, (body) => {
    if (body.status !== "active") {
      fill(byId("attention"), collectionProgress(body));
      return;
    }
    fill(
      byId("attention"),
      el("h3", {}, "Anomalies"),
      anomalyList(topAnomalies(body.anomalies, 4), acknowledgement, "No open anomalies."),
      el("h3", {}, "Recommendations"),
      recommendationList(body.risk_predictions.recommended_actions.slice(0, 3)),
    );
  });
}

export function showForecastView(forecast, acknowledgement) {
  showQuality(forecast);
  showRiskForecast(forecast);
  showWorkload(forecast);
  whenActive("anomalies", forecast, (body) => anomalyList(body.anomalies, acknowledgement, "No anomalies in the last seven days."));
  whenActive("recommendations", forecast, (body) => recommendationList(body.risk_predictions.recommended_actions));
}

// Render a panel of the forecast; while there is no forecast, show that history is being collected.
function whenActive(id, forecast, render) {
  new Panel(`panel-${id}`).follow(forecast, (body) => {
    fill(byId(id), body.status === "active" ? render(body) : empty("No forecast yet. Collecting history."));
  });
}

function showQuality(forecast) {
  new Panel("panel-quality").follow(forecast, (body) => {
    if (body.status !== "active") {
      fill(byId("quality"), collectionProgress(body));
      return;
    }
    const { data_collection: collection, meta } = body;
    const [least, most] = meta.confidence_range ?? [];
    fill(
      byId("quality"),
      el(
        "dl",
        { class: "facts" },
        fact("Quality", stateBadge(body.prediction_quality, QUALITY_TONES[body.prediction_quality])),
        fact("Method", METHODS[meta.prediction_method] ?? isolated(meta.prediction_method)),
        fact("Range expected to hold in", ...shareOfDays(least, most)),
        ...accuracy(meta.live_accuracy),
        meta.data_through ? fact("Data through", dayLong(meta.data_through)) : null,
        fact("History", plural(collection.days_collected, "day"), ", ", plural(collection.total_actions, "action")),
      ),
    );
  });
}

function shareOfDays(least, most) {
  if (!known(least) || !known(most)) return [noValue()];
  return least === most ? [rate(least), " of days"] : [rate(least), " to ", rate(most), " of days"];
}

// Accuracy of the forecasts whose day is over: the share within the likely range, next to the share expected.
function accuracy(live) {
  return [
    ["Forecasts within range", live?.risk_forecast],
    ["Workload forecasts within range", live?.agent_workload_forecast],
  ].map(([title, score]) =>
    score?.forecasts_scored
      ? fact(title, rate(score.within_band), " of ", count(score.forecasts_scored), el("span", { class: "muted" }, " (expected ", rate(score.stated_confidence), ")"))
      : fact(title, el("span", { class: "muted" }, "none due yet")),
  );
}

function collectionProgress(body) {
  const { data_collection: collection } = body;
  const collected = `${plural(collection.days_collected, "day")} and ${plural(collection.total_actions, "action")}`;
  const bar = el("progress", { max: "100", value: String(Math.min(100, collection.collection_progress)), "aria-label": "History collected" });
  return el(
    "div",
    { class: "collecting" },
    el("p", {}, `Forecasts need ${plural(collection.minimum_required, "day")} of history. Collected so far: ${collected}.`),
    bar,
    el("p", { class: "muted" }, progressText(collection)),
    el(
      "ul",
      { class: "items" },
      (body.planned_features ?? []).map(({ feature, description }) =>
        el("li", {}, el("strong", {}, feature), el("span", { class: "muted" }, description)),
      ),
    ),
  );
}

function progressText(collection) {
  if (collection.collection_progress >= 100) return "History is complete. Computing the forecast.";
  const ready = collection.estimated_ready_date ? `, ready around ${dayLong(collection.estimated_ready_date)}` : "";
  return [percent(collection.collection_progress), ready];
}

function showRiskForecast(forecast) {
  whenActive("risk-forecast", forecast, (body) => {
    const zone = body.meta.time_zone ?? "UTC";
    if (body.risk_forecast.length === 0) return empty("No forecast for the next days.");
    return [
      table(
        `High-risk actions forecast by day, days in ${zone}`,
        [`Day (${zone})`, "Forecast", "Likely range", "Confidence", "Typical for weekday", "Trend"],
        body.risk_forecast.map((day) => [
          dayLong(day.date),
          count(day.predicted_high_risk_actions),
          likelyRange(day) || noValue(),
          rate(day.confidence),
          tenth(day.usual ?? null),
          TRENDS[day.trend] ?? isolated(day.trend ?? ""),
        ]),
      ),
      el("p", { class: "muted" }, `Days in ${zone}. Confidence is the probability that the actual count is within the likely range.`),
    ];
  });
}

function showWorkload(forecast) {
  whenActive("workload", forecast, (body) => {
    const zone = body.meta.time_zone ?? "UTC";
    if (body.agent_workload_forecast.length === 0) return empty("No agent has enough activity for a forecast.");
    const [{ date }] = body.agent_workload_forecast;
    return [
      table(
        "Forecast actions by agent",
        ["Agent", "Forecast", "Likely range", "% of peak day", "Confidence", "Trend", "Recommendation"],
        body.agent_workload_forecast.map((agent) => [
          isolated(agent.agent_id),
          count(agent.predicted_actions),
          likelyRange(agent) || noValue(),
          peakShare(agent.capacity_utilization),
          rate(agent.confidence),
          TRENDS[agent.trend] ?? isolated(agent.trend ?? ""),
          isolated(agent.recommendation ?? ""),
        ]),
      ),
      el("p", { class: "muted" }, date ? `For ${dayLong(date)} (${zone}).` : `Days in ${zone}.`),
    ];
  });
}

function peakShare(value) {
  if (!known(value)) return noValue();
  const bar = el("span", { class: "meter", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.min(1, value)));
  return el("span", { class: "metered", "data-tone": value >= 0.8 ? "bad" : value >= 0.6 ? "warning" : "good" }, bar, rate(value));
}
