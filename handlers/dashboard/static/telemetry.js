// The machine, the application and the source's database: live, stale, unavailable or off, each with its age.
import { byId, el, fact, fill, name, stateBadge } from "./elements.js";
import { Panel } from "./panel.js";
import { age, count, decimal, known, milliseconds, missing, percent, smallRate, tenth } from "./format.js";

const STATES = {
  live: ["Live", "good"],
  stale: ["Stale", "warning"],
  unavailable: ["Unavailable", "bad"],
  phase_2_planned: ["Off", "neutral"],
  cloudwatch_required: ["Off", "neutral"],
  cloudwatch_disabled: ["Off", "neutral"],
  cloudwatch_error: ["Unavailable", "bad"],
};
const OFF = "No telemetry source is set up, so the machine is not measured (telemetry.source in the settings).";
const SOURCES = { host: "this machine", cloudwatch: "CloudWatch", cloudwatch_logs: "CloudWatch Logs", none: "no source" };
const LATENCY = { host: "Round trip to the source" };
const DEGRADED_PERCENT = 5;
const BOUNDS = { cpu: 80, memory: 85, storage: 80 }; // percent from which the server calls it high

const state = (status) => STATES[status] ?? [status, "neutral"];
const isOff = (status) => state(status)[0] === "Off";
const source = (text) => SOURCES[text] ?? text;

// The short form beside the rankings.
export function followHealthSummary(realtime) {
  new Panel("panel-health").follow(realtime, ({ system_health: health, performance_metrics: requests }) => {
    fill(byId("health-state"), stateBadge(...state(health.status)), " ", ageOf(health));
    if (isOff(health.status)) {
      fill(byId("health"), el("p", { class: "empty" }, OFF));
      return;
    }
    fill(
      byId("health"),
      machineGauges(health),
      el(
        "dl",
        { class: "facts" },
        fact("Response time", milliseconds(health.api_response_time)),
        fact("Requests per second", decimal(requests.requests_per_second ?? null)),
        fact("Errors", smallRate(requests.error_rate ?? null)),
      ),
      health.fallback_reason ? el("p", { class: "note" }, health.fallback_reason) : null,
    );
  });
}

function ageOf(part) {
  if (!known(part.metrics_age_seconds)) return el("span", { class: "muted" }, isOff(part.status) ? "not measured" : "no sample");
  return el("span", { class: "muted" }, "measured ", age(part.metrics_age_seconds), " ago, ", source(part.source));
}

export function followSystem(realtime, performance) {
  followMachine(realtime);
  followRequests(realtime);
  followDatabase(performance);
  followMeasured(realtime, performance);
}

function followMachine(realtime) {
  new Panel("panel-machine").follow(realtime, ({ system_health: health }) => {
    fill(byId("machine-state"), stateBadge(...state(health.status)), " ", ageOf(health));
    fill(
      byId("machine"),
      isOff(health.status)
        ? el("p", { class: "empty" }, OFF)
        : [
            machineGauges(health),
            el("dl", { class: "facts" }, fact(LATENCY[health.source] ?? "Network latency", milliseconds(health.network_latency))),
          ],
      health.fallback_reason ? el("p", { class: "note" }, health.fallback_reason) : null,
    );
  });
}

function followRequests(realtime) {
  new Panel("panel-requests").follow(realtime, ({ performance_metrics: requests }) => {
    fill(byId("requests-state"), stateBadge(...state(requests.status)), " ", ageOf(requests));
    fill(
      byId("requests"),
      isOff(requests.status)
        ? el("p", { class: "empty" }, "Requests are not measured without a telemetry source.")
        : el(
            "dl",
            { class: "facts" },
            fact("Requests per second", decimal(requests.requests_per_second)),
            fact("Response time, mean", milliseconds(requests.avg_response_time)),
            fact("Response time, 95th percentile", milliseconds(requests.p95_response_time)),
            fact("Errors", smallRate(requests.error_rate)),
          ),
      requests.fallback_reason ? el("p", { class: "note" }, requests.fallback_reason) : null,
    );
  });
}

const WORDS = {
  ...Object.fromEntries(["live", "healthy", "optimal", "normal", "good"].map((status) => [status, "good"])),
  ...Object.fromEntries(["degraded", "warning", "slow", "elevated", "stale"].map((status) => [status, "warning"])),
  high: "bad",
};

const word = (status) => stateBadge(status, WORDS[status] ?? "neutral");

// Some slow ones are normal: their share stands beside the limit, instead of a word that would contradict the number.
function slowWord({ status, slow_queries_estimate: slow, recent_queries: all }) {
  if (status === "degraded" || !slow) return word(status);
  return el("span", { class: "muted" }, `(${tenth((100 * slow) / all)} %; limit ${DEGRADED_PERCENT} %)`);
}

function followDatabase(performance) {
  new Panel("panel-database").follow(performance, ({ database_metrics: { connections, query_performance: queries } }) => {
    const measured = queries.source === "pg_stat_statements";
    fill(
      byId("database"),
      el("dl", { class: "gauges" }, gauge("Connections", connections.utilization, 80)),
      el(
        "dl",
        { class: "facts" },
        fact("Connections", count(connections.active), " active, ", count(connections.idle), " idle"),
        fact("Total", count(connections.total), " of ", count(connections.max), " ", word(connections.status)),
        fact(measured ? "Statements in the last hour" : "Actions in the last hour", count(queries.recent_queries)),
        fact(measured ? "Slow statements" : "Pending over 5 minutes", count(queries.slow_queries_estimate), " ", slowWord(queries)),
        measured ? fact("Mean duration", milliseconds(queries.average_duration)) : null,
      ),
    );
  });
}

// What /realtime/metrics measures stands in the panels above too, so it is taken from that answer: two answers may be of two
// samples. Means, targets and sources come from /performance, the words from the values that are shown.
function followMeasured(realtime, performance) {
  const render = ({ system_metrics: system, application_metrics: application }) => {
    const health = realtime.body?.system_health;
    const requests = realtime.body?.performance_metrics;
    const machine = (live, own) => (health && !isOff(health.status) ? live(health) : own);
    const served = (live, own) => (requests && !isOff(requests.status) ? live(requests) : own);
    const cpu = machine((now) => now.cpu_usage, system.cpu.current);
    const memory = machine((now) => now.memory_usage, system.memory.current);
    const storage = machine((now) => now.disk_usage, system.storage.used);
    const mean = served((now) => now.avg_response_time, application.response_times.average);
    const errors = served((now) => now.error_rate, application.error_rates.current);
    const { response_times: times, throughput, error_rates: rates } = application;
    const rows = [
      ["CPU now", percent(cpu), null, against(cpu, BOUNDS.cpu, "normal", "high"), system.cpu.source],
      ["CPU, mean of the last hour", percent(system.cpu.average), null, null, system.cpu.source],
      ["Memory in use", percent(memory), null, against(memory, BOUNDS.memory, "normal", "high"), system.memory.source],
      ["Storage in use", percent(storage), null, against(storage, BOUNDS.storage, "healthy", "warning"), system.storage.source],
      ["Response time, mean", milliseconds(mean), milliseconds(times.target), against(mean, times.target, "good", "slow"), times.source],
      ["Response time, 95th percentile", milliseconds(served((now) => now.p95_response_time, times.p95)), null, null, times.source],
      ["Requests per second", decimal(served((now) => now.requests_per_second, throughput.requests_per_second)), null, throughput.status, throughput.source],
      ["Errors", smallRate(errors), smallRate(rates.target), against(errors, rates.target, "good", "elevated"), rates.source],
    ];
    fill(
      byId("measured-rows"),
      rows.map(([title, value, target, status, from]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, title),
          el("td", { class: "number" }, value),
          el("td", { class: "number" }, target ?? missing()),
          el("td", {}, status ? word(status) : null),
          el("td", {}, name(source(from))),
        ),
      ),
    );
    const messages = [...new Set([system.message, application.message].filter(Boolean))];
    fill(byId("measured-notes"), messages.map((text) => el("p", { class: "note" }, text)));
  };
  new Panel("panel-measured").follow(performance, render);
  realtime.addEventListener("answer", () => performance.body !== null && render(performance.body));
}

// The server's own rule for the words, on the value that is shown.
const against = (value, bound, below, fromThere) => (!known(value) ? "unavailable" : value >= bound ? fromThere : below);

function machineGauges(health) {
  return el(
    "dl",
    { class: "gauges" },
    gauge("CPU", health.cpu_usage, BOUNDS.cpu),
    gauge("Memory", health.memory_usage, BOUNDS.memory),
    gauge("Disk", health.disk_usage, BOUNDS.storage),
  );
}

// A labelled bar of 0 to 100 percent; the words carry the meaning, the bar repeats it.
function gauge(title, value, bound) {
  const bar = el("span", { class: "gauge-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(known(value) ? Math.min(1, value / 100) : 0));
  const tone = !known(value) ? "neutral" : value >= bound ? "bad" : value >= bound - 15 ? "warning" : "good";
  return el("div", { class: "gauge", "data-tone": tone }, el("dt", {}, title), el("dd", {}, percent(value), bar));
}
