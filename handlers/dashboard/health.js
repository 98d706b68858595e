// The machine, the application and the source's database: live, stale, unavailable or off, each with its age.
import { byId, el, fact, fill, name, stateBadge } from "./elements.js";
import { Panel } from "./panel.js";
import { age, count, decimal, known, milliseconds, missing, percent, smallRate, tenth } from "./words.js";

const STATES = {
  live: ["Live", "good"],
  stale: ["Stale", "watch"],
  unavailable: ["Unavailable", "bad"],
  phase_2_planned: ["Off", "quiet"],
  cloudwatch_required: ["Off", "quiet"],
  cloudwatch_disabled: ["Off", "quiet"],
  cloudwatch_error: ["Unavailable", "bad"],
};
const OFF = "No telemetry source is set up, so the machine is not measured (telemetry.source in the settings).";
const SOURCES = { host: "this machine", cloudwatch: "CloudWatch", cloudwatch_logs: "CloudWatch Logs", none: "no source" };
const LATENCY = { host: "Round trip to the source" };
const DEGRADED_PERCENT = 5;
const BOUNDS = { cpu: 80, memory: 85, storage: 80 }; // percent from which the server calls it high

const state = (status) => STATES[status] ?? [status, "quiet"];
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
  if (!known(part.metrics_age_seconds)) return el("span", { class: "soft" }, isOff(part.status) ? "not measured" : "no sample");
  return el("span", { class: "soft" }, "measured ", age(part.metrics_age_seconds), " ago, ", source(part.source));
}

// Everything measured on this view comes from one answer, so that no two numbers on one screen are of different samples.
export function followSystem(realtime, performance) {
  followMachine(realtime, performance);
  followRequests(performance);
  followDatabase(performance);
  followMeasured(performance);
}

// A part of /performance with how old it is; off where there is no telemetry.
function part(telemetry, name, from) {
  return telemetry === null ? { status: "phase_2_planned" } : { ...telemetry[name], source: from };
}

function showState(id, performance, described) {
  const failed = performance.problem !== null && !isOff(described.status);
  fill(byId(id), failed ? stateBadge(...STATES.unavailable) : [stateBadge(...state(described.status)), " ", ageOf(described)]);
}

function followMachine(realtime, performance) {
  const latency = () => realtime.body?.system_health.network_latency;
  const render = ({ system_metrics: system, meta }) => {
    const described = part(meta.telemetry, "system_metrics", meta.data_sources.system_metrics);
    showState("machine-state", performance, described);
    fill(
      byId("machine"),
      isOff(described.status)
        ? el("p", { class: "empty" }, OFF)
        : [
            machineGauges({ cpu_usage: system.cpu.current, memory_usage: system.memory.current, disk_usage: system.storage.used }),
            el("dl", { class: "facts" }, fact(LATENCY[system.cpu.source] ?? "Network latency", milliseconds(latency()))),
          ],
      system.message && !isOff(described.status) ? el("p", { class: "note" }, system.message) : null,
    );
  };
  new Panel("panel-machine").follow(performance, render);
  realtime.addEventListener("answer", () => performance.body !== null && render(performance.body));
  performance.addEventListener("answer", () => performance.problem && performance.body !== null && render(performance.body));
}

function followRequests(performance) {
  const render = ({ application_metrics: requests, meta }) => {
    const described = part(meta.telemetry, "application_metrics", meta.data_sources.application_metrics);
    showState("requests-state", performance, described);
    fill(
      byId("requests"),
      isOff(described.status)
        ? el("p", { class: "empty" }, "Requests are not measured without a telemetry source.")
        : el(
            "dl",
            { class: "facts" },
            fact("Requests per second", decimal(requests.throughput.requests_per_second)),
            fact("Response time, mean", milliseconds(requests.response_times.average)),
            fact("Response time, 95th percentile", milliseconds(requests.response_times.p95)),
            fact("Errors", smallRate(requests.error_rates.current)),
          ),
      requests.message && !isOff(described.status) ? el("p", { class: "note" }, requests.message) : null,
    );
  };
  new Panel("panel-requests").follow(performance, render);
}

const WORDS = {
  ...Object.fromEntries(["live", "healthy", "optimal", "normal", "good"].map((status) => [status, "good"])),
  ...Object.fromEntries(["degraded", "warning", "slow", "elevated", "stale"].map((status) => [status, "watch"])),
  high: "bad",
};

const word = (status) => stateBadge(status, WORDS[status] ?? "quiet");

// Some slow ones are normal: their share stands beside the limit, instead of a word that would contradict the number.
function slowWord({ status, slow_queries_estimate: slow, recent_queries: all }) {
  if (status === "degraded" || slow === 0) return word(status);
  return el("span", { class: "soft" }, `(${tenth((100 * slow) / all)} %; limit ${DEGRADED_PERCENT} %)`);
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
        fact("In all", count(connections.total), " of ", count(connections.max), " ", word(connections.status)),
        fact(measured ? "Statements in the last hour" : "Actions in the last hour", count(queries.recent_queries)),
        fact(measured ? "Slow statements" : "Pending over 5 minutes", count(queries.slow_queries_estimate), " ", slowWord(queries)),
        measured ? fact("Mean duration", milliseconds(queries.average_duration)) : null,
      ),
    );
  });
}

function followMeasured(performance) {
  new Panel("panel-measured").follow(performance, ({ system_metrics: system, application_metrics: application }) => {
    const rows = [
      ["CPU now", percent(system.cpu.current), system.cpu],
      ["CPU, mean of the last hour", percent(system.cpu.average), { source: system.cpu.source }],
      ["Memory in use", percent(system.memory.current), system.memory],
      ["Storage in use", percent(system.storage.used), system.storage],
      ["Response time, mean", milliseconds(application.response_times.average), application.response_times, milliseconds(application.response_times.target)],
      ["Response time, 95th percentile", milliseconds(application.response_times.p95), { source: application.response_times.source }],
      ["Requests per second", decimal(application.throughput.requests_per_second), application.throughput],
      ["Errors", smallRate(application.error_rates.current), application.error_rates, smallRate(application.error_rates.target)],
    ];
    fill(
      byId("measured-rows"),
      rows.map(([title, value, part, target]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, title),
          el("td", { class: "number" }, value),
          el("td", { class: "number" }, target ?? missing()),
          el("td", {}, part.status ? word(part.status) : null),
          el("td", {}, name(source(part.source))),
        ),
      ),
    );
    const messages = [...new Set([system.message, application.message].filter(Boolean))];
    fill(byId("measured-notes"), messages.map((text) => el("p", { class: "note" }, text)));
  });
}

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
  const tone = !known(value) ? "quiet" : value >= bound ? "bad" : value >= bound - 15 ? "watch" : "good";
  return el("div", { class: "gauge", "data-tone": tone }, el("dt", {}, title), el("dd", {}, percent(value), bar));
}
