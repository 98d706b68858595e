// Telemetry of the host, the application and the source database, each with its status and age.
import { byId, el, fact, fill, isolated, stateBadge } from "./elements.js";
import { Panel } from "./panel.js";
import { age, count, decimal, known, milliseconds, noValue, percent, smallRate, tenth } from "./format.js";

const STATES = {
  live: ["Live", "good"],
  stale: ["Stale", "warning"],
  unavailable: ["Unavailable", "bad"],
  phase_2_planned: ["Off", "neutral"],
  cloudwatch_required: ["Off", "neutral"],
  cloudwatch_disabled: ["Off", "neutral"],
  cloudwatch_error: ["Unavailable", "bad"],
};
const OFF = "Telemetry is off. Set telemetry.source to measure the host.";
const SOURCES = { host: "this host", cloudwatch: "CloudWatch", cloudwatch_logs: "CloudWatch Logs", none: "none" };
const LATENCY = { host: "Round trip to source" };
const DEGRADED_PERCENT = 5;
const BOUNDS = { cpu: 80, memory: 85, storage: 80 }; // percent at which the server reports "high"

const state = (status) => STATES[status] ?? [status, "neutral"];
const isOff = (status) => state(status)[0] === "Off";
const source = (text) => SOURCES[text] ?? text;

// The summary in the overview.
export function showHealthSummary(realtime) {
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
        fact("Error rate", smallRate(requests.error_rate ?? null)),
      ),
      health.fallback_reason ? el("p", { class: "note" }, health.fallback_reason) : null,
    );
  });
}

function ageOf(part) {
  if (!known(part.metrics_age_seconds)) return el("span", { class: "muted" }, isOff(part.status) ? "not measured" : "no sample");
  return el("span", { class: "muted" }, age(part.metrics_age_seconds), " ago, ", source(part.source));
}

export function showSystemView(realtime, performance) {
  showMachine(realtime);
  showRequests(realtime);
  showDatabase(performance);
  showMeasured(realtime, performance);
}

function showMachine(realtime) {
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

function showRequests(realtime) {
  new Panel("panel-requests").follow(realtime, ({ performance_metrics: requests }) => {
    fill(byId("requests-state"), stateBadge(...state(requests.status)), " ", ageOf(requests));
    fill(
      byId("requests"),
      isOff(requests.status)
        ? el("p", { class: "empty" }, "Telemetry is off. Requests are not measured.")
        : el(
            "dl",
            { class: "facts" },
            fact("Requests per second", decimal(requests.requests_per_second)),
            fact("Mean response time", milliseconds(requests.avg_response_time)),
            fact("95th percentile response time", milliseconds(requests.p95_response_time)),
            fact("Error rate", smallRate(requests.error_rate)),
          ),
      requests.fallback_reason ? el("p", { class: "note" }, requests.fallback_reason) : null,
    );
  });
}

const STATUS_TONES = {
  ...Object.fromEntries(["live", "healthy", "optimal", "normal", "good"].map((status) => [status, "good"])),
  ...Object.fromEntries(["degraded", "warning", "slow", "elevated", "stale"].map((status) => [status, "warning"])),
  high: "bad",
};

const statusBadge = (status) => stateBadge(status, STATUS_TONES[status] ?? "neutral");

// A few slow statements are normal: show their share and the limit instead of a word that contradicts the number.
function slowBadge({ status, slow_queries_estimate: slow, recent_queries: all }) {
  if (status === "degraded" || !slow) return statusBadge(status);
  return el("span", { class: "muted" }, `(${tenth((100 * slow) / all)} %; limit ${DEGRADED_PERCENT} %)`);
}

function showDatabase(performance) {
  new Panel("panel-database").follow(performance, ({ database_metrics: { connections, query_performance: queries } }) => {
    const measured = queries.source === "pg_stat_statements";
    fill(
      byId("database"),
      el("dl", { class: "gauges" }, gauge("Connections", connections.utilization, 80)),
      el(
        "dl",
        { class: "facts" },
        fact("Connections", count(connections.active), " active, ", count(connections.idle), " idle"),
        fact("Total", count(connections.total), " of ", count(connections.max), " ", statusBadge(connections.status)),
        fact(measured ? "Statements, last hour" : "Actions, last hour", count(queries.recent_queries)),
        fact(measured ? "Slow statements" : "Pending more than 5 minutes", count(queries.slow_queries_estimate), " ", slowBadge(queries)),
        measured ? fact("Mean duration", milliseconds(queries.average_duration)) : null,
      ),
    );
  });
}

// Values that the panels above also show come from /realtime/metrics, because two responses may hold different samples. Averages,
// targets and sources come from /performance. The status follows from the value shown.
function showMeasured(realtime, performance) {
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
      ["CPU", percent(cpu), null, against(cpu, BOUNDS.cpu, "normal", "high"), system.cpu.source],
      ["CPU, last hour average", percent(system.cpu.average), null, null, system.cpu.source],
      ["Memory", percent(memory), null, against(memory, BOUNDS.memory, "normal", "high"), system.memory.source],
      ["Storage", percent(storage), null, against(storage, BOUNDS.storage, "healthy", "warning"), system.storage.source],
      ["Mean response time", milliseconds(mean), milliseconds(times.target), against(mean, times.target, "good", "slow"), times.source],
      ["95th percentile response time", milliseconds(served((now) => now.p95_response_time, times.p95)), null, null, times.source],
      ["Requests per second", decimal(served((now) => now.requests_per_second, throughput.requests_per_second)), null, throughput.status, throughput.source],
      ["Error rate", smallRate(errors), smallRate(rates.target), against(errors, rates.target, "good", "elevated"), rates.source],
    ];
    fill(
      byId("measured-rows"),
      rows.map(([title, value, target, status, from]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, title),
          el("td", { class: "number" }, value),
          el("td", { class: "number" }, target ?? noValue()),
          el("td", {}, status ? statusBadge(status) : null),
          el("td", {}, isolated(source(from))),
        ),
      ),
    );
    const messages = [...new Set([system.message, application.message].filter(Boolean))];
    fill(byId("measured-notes"), messages.map((text) => el("p", { class: "note" }, text)));
  };
  new Panel("panel-measured").follow(performance, render);
  realtime.addEventListener("response", () => performance.body !== null && render(performance.body));
}

// The server's own rule for the status, applied to the value shown.
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

// A labeled bar from 0 to 100 percent. The text holds the value; the bar is hidden from screen readers.
function gauge(title, value, bound) {
  const bar = el("span", { class: "gauge-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(known(value) ? Math.min(1, value / 100) : 0));
  const tone = !known(value) ? "neutral" : value >= bound ? "bad" : value >= bound - 15 ? "warning" : "good";
  return el("div", { class: "gauge", "data-tone": tone }, el("dt", {}, title), el("dd", {}, percent(value), bar));
}
