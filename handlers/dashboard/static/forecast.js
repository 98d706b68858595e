// What is expected and what stands out: forecast by day, anomalies, recommendations, workload of the agents. While too few
// days are collected, how far the collection is.
import { byId, el, fact, fill, name, stateBadge } from "./elements.js";
import { Panel, empty } from "./panel.js";
import { band } from "./risk-chart.js";
import { count, dayLong, known, missing, percent, plural, rate, tenth } from "./format.js";
import { zone } from "./time-zone.js";

const SEVERITIES = { critical: "bad", high: "bad", medium: "warning", low: "neutral" };
const KINDS = { spike: "Spike", drop: "Drop", new_agent: "New agent", risk_shift: "Risk shift" };
const TRENDS = { increasing: "↗ increasing", decreasing: "↘ decreasing", stable: "→ stable" };
const METHODS = { pattern_based: "patterns of few days", trend_based: "trend", ml_powered: "learnt models" };

export function followAttention(outlook) {
  new Panel("panel-attention").follow(outlook, (body) => {
    if (body.status !== "active") {
      fill(byId("attention"), collecting(body));
      return;
    }
    const anomalies = body.anomalies.filter((one) => !one.acknowledged_at).sort(graver).slice(0, 4);
    const advice = body.risk_predictions.recommended_actions.slice(0, 3);
    fill(
      byId("attention"),
      el("h3", {}, "Anomalies"),
      anomalies.length ? el("ul", { class: "items" }, anomalies.map(anomaly)) : empty("Nothing unusual."),
      el("h3", {}, "Recommended"),
      advice.length ? adviceList(advice) : empty("Nothing to do."),
    );
  });
}

export function followOutlook(outlook) {
  followCollection(outlook);
  followForecast(outlook);
  followWorkload(outlook);
  followAnomalies(outlook);
  followAdvice(outlook);
}

// Panels of an outlook that does not exist yet say so; the collection panel says how far it is.
function active(id, outlook, render) {
  new Panel(`panel-${id}`).follow(outlook, (body) => {
    fill(byId(id), body.status === "active" ? render(body) : empty("There is no forecast yet: history is still being collected."));
  });
}

function followCollection(outlook) {
  new Panel("panel-collection").follow(outlook, (body) => {
    if (body.status !== "active") {
      fill(byId("collection"), collecting(body));
      return;
    }
    const { data_collection: collection, meta } = body;
    const [least, most] = meta.confidence_range ?? [];
    fill(
      byId("collection"),
      el(
        "dl",
        { class: "facts" },
        fact("Quality", stateBadge(body.prediction_quality, { high: "good", medium: "warning" }[body.prediction_quality])),
        fact("Made by", METHODS[meta.prediction_method] ?? name(meta.prediction_method)),
        fact("Confidence shown", known(least) && known(most) ? [rate(least), " to ", rate(most)] : missing()),
        ...accuracy(meta.live_accuracy),
        meta.data_through ? fact("Learnt from days up to", dayLong(meta.data_through)) : null,
        fact("History", plural(collection.days_collected, "day"), ", ", plural(collection.total_actions, "action")),
      ),
    );
  });
}

// How forecasts did whose days are over: the share inside the band beside the share that was promised.
function accuracy(live) {
  return [
    ["Days kept in the band", live?.risk_forecast],
    ["Workloads kept in the band", live?.agent_workload_forecast],
  ].map(([title, score]) =>
    score?.forecasts_scored
      ? fact(title, rate(score.within_band), " of ", count(score.forecasts_scored), el("span", { class: "muted" }, ", promised ", rate(score.stated_confidence)))
      : fact(title, el("span", { class: "muted" }, "none is over yet")),
  );
}

function collecting(body) {
  const { data_collection: collection } = body;
  const there = `${plural(collection.days_collected, "day")} with ${plural(collection.total_actions, "action")}`;
  const bar = el("progress", { max: "100", value: String(Math.min(100, collection.collection_progress)), "aria-label": "History collected" });
  return el(
    "div",
    { class: "collecting" },
    el("p", {}, `Forecasts need ${plural(collection.minimum_required, "day")} of history; ${there} are there.`),
    bar,
    el("p", { class: "muted" }, progressWords(collection)),
    el(
      "ul",
      { class: "items" },
      (body.planned_features ?? []).map(({ feature, description }) =>
        el("li", {}, el("strong", {}, feature), el("span", { class: "muted" }, description)),
      ),
    ),
  );
}

function progressWords(collection) {
  if (collection.collection_progress >= 100) return "Enough history is there; the forecast follows.";
  const ready = collection.estimated_ready_date ? `, ready about ${dayLong(collection.estimated_ready_date)}` : "";
  return [percent(collection.collection_progress), ready];
}

function followForecast(outlook) {
  active("forecast", outlook, (body) =>
    body.risk_forecast.length
      ? table(
          "High-risk actions expected by day",
          ["Day", "Expected", "Band", "Confidence", "Usual for the weekday", "Trend"],
          body.risk_forecast.map((day) => [
            dayLong(day.date),
            count(day.predicted_high_risk_actions),
            band(day) || missing(),
            rate(day.confidence),
            tenth(day.usual ?? null),
            TRENDS[day.trend] ?? name(day.trend ?? ""),
          ]),
        )
      : empty("No forecast for the coming days."),
  );
}

function followWorkload(outlook) {
  active("workload", outlook, (body) =>
    body.agent_workload_forecast.length
      ? table(
          "Actions expected of the busiest agents on the next day",
          ["Agent", "Expected", "Band", "Of its busiest day", "Confidence", "Trend", "Recommendation"],
          body.agent_workload_forecast.map((agent) => [
            name(agent.agent_id),
            count(agent.predicted_actions),
            band(agent) || missing(),
            capacity(agent.capacity_utilization),
            rate(agent.confidence),
            TRENDS[agent.trend] ?? name(agent.trend ?? ""),
            name(agent.recommendation ?? ""),
          ]),
        )
      : empty("No agent has been busy enough to forecast."),
  );
}

function capacity(value) {
  if (!known(value)) return missing();
  const bar = el("span", { class: "meter", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.min(1, value)));
  return el("span", { class: "metered", "data-tone": value >= 0.8 ? "bad" : value >= 0.6 ? "warning" : "good" }, bar, rate(value));
}

function followAnomalies(outlook) {
  active("anomalies", outlook, (body) =>
    body.anomalies.length
      ? el("ul", { class: "items" }, body.anomalies.map(anomaly))
      : empty("Nothing unusual in the hours that are over."),
  );
}

function followAdvice(outlook) {
  active("advice", outlook, (body) => {
    const advice = body.risk_predictions.recommended_actions;
    return advice.length ? adviceList(advice) : empty("Nothing to do.");
  });
}

const adviceList = (advice) => el("ul", { class: "items advice" }, advice.map((text) => el("li", {}, name(localized(text)))));

const GRAVITY = { critical: 3, high: 2, medium: 1 };

// The most severe first, and among those the ones that still last, then the newest.
function graver(one, other) {
  return (
    (GRAVITY[other.severity] ?? 0) - (GRAVITY[one.severity] ?? 0) ||
    Number(one.ends_at !== null) - Number(other.ends_at !== null) ||
    String(other.timestamp).localeCompare(String(one.timestamp))
  );
}

function anomaly(found) {
  const badge = stateBadge(KINDS[found.type] ?? found.type ?? "anomaly", SEVERITIES[found.severity] ?? "neutral");
  const ended = found.type === "new_agent" ? "" : found.ends_at ? " · ended" : " · still going on";
  const word = found.acknowledged_at ? [" · acknowledged by ", name(found.acknowledged_by ?? "")] : "";
  const head = el("span", { class: "muted" }, `${found.severity} · ${inZone(found.timestamp)}`, measured(found), ended, word);
  return el("li", { class: "anomaly" }, el("span", { class: "anomaly-head" }, badge, head), name(localized(found.description)));
}

// Sentences of the server hold moments as "2026-03-30 09:00 UTC"; the reader gets every moment of the page in one zone.
function localized(text) {
  return String(text ?? "").replace(/(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}) UTC/g, (_, day, time) => inZone(`${day}T${time}:00Z`));
}

function inZone(text) {
  const at = new Date(text ?? NaN);
  if (Number.isNaN(at.getTime())) return String(text ?? "");
  const parts = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: zone.current, timeZoneName: "short" }).format(at);
}

// What was seen and what was expected: shares where the kind of risk has shifted, else actions.
function measured({ type, observed, expected }) {
  if (!known(observed) || !known(expected) || type === "new_agent") return "";
  const shown = type === "risk_shift" ? rate : tenth;
  return ` · ${shown(observed)} seen, ${shown(expected)} expected`;
}

// A plain table; the first column names its row.
export function table(caption, heads, rows) {
  return el(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el(
      "table",
      {},
      el("caption", { class: "visually-hidden" }, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map(([first, ...others]) => el("tr", {}, el("th", { scope: "row" }, first), others.map((cell) => el("td", {}, cell))))),
    ),
  );
}
