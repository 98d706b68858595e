// What is expected and what stands out: forecast by day, anomalies, recommendations, workload of the agents. While too few
// days are collected, how far the collection is.
import { byId, el, fact, fill, name, stateBadge } from "./elements.js";
import { Panel, empty } from "./panel.js";
import { count, dayLong, known, missing, moment, percent, plural, rate } from "./words.js";

const SEVERITIES = { critical: "bad", high: "bad", medium: "watch", low: "quiet" };
const KINDS = { spike: "Spike", drop: "Drop", new_agent: "New agent", risk_shift: "Risk shift" };
const TRENDS = { increasing: "↗ increasing", decreasing: "↘ decreasing", stable: "→ stable" };
const METHODS = { pattern_based: "patterns of few days", trend_based: "trend", ml_powered: "learnt models" };

export function followAttention(outlook) {
  new Panel("panel-attention").follow(outlook, (body) => {
    if (body.status !== "active") {
      fill(byId("attention"), collecting(body));
      return;
    }
    const anomalies = body.anomalies.slice(0, 4);
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
        fact("Quality", name(body.prediction_quality)),
        fact("Made by", METHODS[meta.prediction_method] ?? name(meta.prediction_method)),
        fact("Confidence shown", known(least) && known(most) ? [rate(least), " to ", rate(most)] : missing()),
        fact("Kept so far", ...accuracy(meta.live_accuracy)),
        fact("History", plural(collection.days_collected, "day"), ", ", plural(collection.total_actions, "action")),
      ),
    );
  });
}

// `live_accuracy`: how earlier forecasts did, once their days were over. Numbers in it are shown under their names.
function accuracy(live) {
  if (live === null || live === undefined) return ["no forecast is over yet"];
  if (known(live)) return [rate(live)];
  if (known(live.coverage) && known(live.days)) return [rate(live.coverage), ` of ${plural(live.days, "day")} inside the band`];
  const parts = Object.entries(live).filter(([, value]) => known(value));
  return parts.length ? parts.map(([key, value], index) => [index ? ", " : "", key.replaceAll("_", " "), " ", el("span", {}, String(value))]).flat() : [missing()];
}

function collecting(body) {
  const { data_collection: collection } = body;
  const bar = el("progress", { max: "100", value: String(Math.min(100, collection.collection_progress)), "aria-label": "History collected" });
  return el(
    "div",
    { class: "collecting" },
    el("p", {}, `Forecasts need ${plural(collection.minimum_required, "day")} of history; ${plural(collection.days_collected, "day")} with ${plural(collection.total_actions, "action")} are there.`),
    bar,
    el("p", { class: "soft" }, percent(collection.collection_progress), collection.estimated_ready_date ? ` · ready about ${dayLong(collection.estimated_ready_date)}` : ""),
    el("ul", { class: "items" }, (body.planned_features ?? []).map((feature) => el("li", {}, el("strong", {}, feature.feature), el("span", { class: "soft" }, feature.description)))),
  );
}

function followForecast(outlook) {
  active("forecast", outlook, (body) =>
    body.risk_forecast.length
      ? table(
          "High-risk actions expected by day",
          ["Day", "Expected", "Band", "Confidence", "Trend"],
          body.risk_forecast.map((day) => [
            dayLong(day.date),
            count(day.predicted_high_risk_actions),
            known(day.lower) && known(day.upper) ? `${day.lower} to ${day.upper}` : missing(),
            rate(day.confidence),
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
          ["Agent", "Expected", "Band", "Of capacity", "Confidence", "Recommendation"],
          body.agent_workload_forecast.map((agent) => [
            name(agent.agent_id),
            count(agent.predicted_actions),
            known(agent.lower) && known(agent.upper) ? `${agent.lower} to ${agent.upper}` : missing(),
            capacity(agent.capacity_utilization),
            rate(agent.confidence),
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
  return el("span", { class: "metered", "data-tone": value >= 0.8 ? "bad" : value >= 0.6 ? "watch" : "good" }, bar, rate(value));
}

function followAnomalies(outlook) {
  active("anomalies", outlook, (body) =>
    body.anomalies.length ? el("ul", { class: "items" }, body.anomalies.map(anomaly)) : empty("Nothing unusual in the hours that are over."),
  );
}

function followAdvice(outlook) {
  active("advice", outlook, (body) => {
    const advice = body.risk_predictions.recommended_actions;
    return advice.length ? adviceList(advice) : empty("Nothing to do.");
  });
}

const adviceList = (advice) => el("ul", { class: "items advice" }, advice.map((text) => el("li", {}, name(text))));

function anomaly(found) {
  const measured = known(found.observed) && known(found.expected) ? ` · ${count(found.observed)} seen, ${count(found.expected)} expected` : "";
  return el(
    "li",
    { class: "anomaly" },
    el("span", { class: "anomaly-head" }, stateBadge(KINDS[found.type] ?? found.type, SEVERITIES[found.severity] ?? "quiet"), el("span", { class: "soft" }, `${found.severity} · `, moment(found.timestamp), measured)),
    name(found.description),
  );
}

// A plain table; the first column names its row.
export function table(caption, heads, rows) {
  return el(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map(([first, ...others]) => el("tr", {}, el("th", { scope: "row" }, first), others.map((cell) => el("td", {}, cell))))),
    ),
  );
}
