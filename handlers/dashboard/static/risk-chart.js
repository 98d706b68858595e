// High-risk actions by day: bars for actual counts, a line and its likely range for the forecast. A table holds the same values.
import { byId, el, fill } from "./elements.js";
import { Panel } from "./panel.js";
import { count, dayLong, dayShort, known, plural, rate } from "./format.js";
import { areDaysOf } from "./time-zone.js";

const HEIGHT = { narrow: 220, wide: 300 };

export class RiskChart {
  #panel = new Panel("panel-risk");
  #chart = null;
  #days = []; // { date, actual, partial } or { date, foreign, expected, lower, upper, confidence }; foreign: the forecast's zone, where it differs from the viewer's
  #trends;
  #forecast;

  constructor(trends, forecast) {
    this.#trends = trends;
    this.#forecast = forecast;
    this.#panel.follow(trends, () => this.#show());
    forecast.addEventListener("response", () => trends.body !== null && this.#show());
    document.addEventListener("theme", () => this.#draw());
    new ResizeObserver(() => this.#resize()).observe(byId("risk-chart"));
  }

  #show() {
    const history = this.#trends.body.high_risk_actions_by_day;
    const last = history.at(-1)?.date ?? "";
    const forecast = this.#forecast.body;
    const all = forecast?.status === "active" ? forecast.risk_forecast : [];
    // Actual days are in the viewer's zone, forecast days in the server's. They share a row only where both are the same days:
    // equal dates in two zones are different days.
    const foreign = this.#sameDays(all) ? "" : this.#forecastZone;
    const ahead = foreign ? all.filter((day) => Date.parse(`${day.date}T24:00:00Z`) > Date.now()) : all.filter((day) => day.date >= last);
    const counted = history.map((day, index) => ({ date: day.date, actual: day.count, partial: index === history.length - 1 }));
    const expected = ahead.map((day) => ({
      date: day.date,
      foreign,
      expected: day.predicted_high_risk_actions,
      lower: day.lower ?? null,
      upper: day.upper ?? null,
      confidence: day.confidence,
    }));
    const days = foreign ? [...counted, ...expected] : joined(counted, expected);
    const same = JSON.stringify(days) === JSON.stringify(this.#days);
    this.#days = days;
    this.#summarize(history, expected);
    if (!same || this.#chart === null) this.#draw();
    this.#table();
  }

  #summarize(history, expected) {
    const total = history.reduce((sum, day) => sum + day.count, 0);
    const peak = history.reduce((most, day) => (day.count > (most?.count ?? -1) ? day : most), null);
    const summary = total
      ? `${plural(total, "high-risk action")} in ${plural(history.length, "day")}. Peak: ${peak.count} on ${dayLong(peak.date)}.`
      : `No high-risk actions in ${plural(history.length, "day")}.`;
    const ahead = expected.length ? ` Forecast for ${title(expected[0])}: ${expected[0].expected}.` : "";
    byId("risk-chart").setAttribute("aria-label", `Chart. ${summary}${ahead} The table below has the same values.`);
    byId("risk-summary").textContent = summary + ahead;
    byId("risk-key-forecast").hidden = expected.length === 0;
    byId("risk-key-band").hidden = !expected.some((day) => known(day.lower) && known(day.upper));
    const zones = this.#zones();
    byId("risk-zone").textContent = zones;
  }

  get #viewerZone() {
    return this.#trends.body.meta?.time_zone ?? "UTC";
  }

  get #forecastZone() {
    return this.#forecast.body?.meta?.time_zone ?? "UTC";
  }

  #sameDays(forecast) {
    return this.#viewerZone === this.#forecastZone || (this.#forecastZone === "UTC" && areDaysOf(this.#viewerZone, forecast.map((day) => day.date)));
  }

  #zones() {
    const foreign = this.#days.some((day) => day.foreign) ? ` Forecast days are in ${this.#forecastZone}.` : "";
    return `Days in ${this.#viewerZone.replaceAll("_", " ")}. Today is partial.${foreign}`;
  }

  #table() {
    const rows = this.#days.toReversed().map((day) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, title(day)),
        el("td", { class: "number" }, day.actual === undefined ? "" : count(day.actual), day.partial ? " so far" : ""),
        el("td", { class: "number" }, day.expected === undefined ? "" : count(day.expected)),
        el("td", { class: "number" }, likelyRange(day)),
        el("td", { class: "number" }, day.confidence === undefined ? "" : rate(day.confidence)),
      ),
    );
    fill(byId("risk-rows"), rows);
  }

  // -- the drawing -----------------------------------------------------------------------------------------------

  #draw() {
    const box = byId("risk-chart");
    this.#chart?.destroy();
    this.#chart = null;
    if (this.#days.length === 0 || box.clientWidth === 0) return;
    this.#chart = new uPlot(this.#options(box.clientWidth), this.#columns(), box);
    this.#describe(null);
  }

  #resize() {
    const width = byId("risk-chart").clientWidth;
    if (width === 0) return;
    if (this.#chart === null) this.#draw();
    else if (this.#chart.width !== width) this.#chart.setSize({ width, height: height(width) });
  }

  #columns() {
    const days = this.#days;
    return [
      days.map((_, index) => index),
      days.map((day) => (day.partial ? null : (day.actual ?? null))),
      days.map((day) => (day.partial ? day.actual : null)),
      days.map((day) => day.expected ?? null),
      days.map((day) => day.upper ?? null),
      days.map((day) => day.lower ?? null),
    ];
  }

  #options(width) {
    const style = getComputedStyle(document.documentElement);
    const color = (token) => style.getPropertyValue(`--${token}`).trim();
    const days = this.#days;
    const size = Number.parseFloat(style.fontSize);
    const font = `${Math.round(size * 0.75)}px ${style.fontFamily}`;
    const axis = { stroke: color("muted"), font, ticks: { show: false } };
    const bars = uPlot.paths.bars({ size: [0.72, 64], radius: 0.12 });
    const most = Math.max(4, ...days.map((day) => Math.max(day.actual ?? 0, day.upper ?? 0, day.expected ?? 0)));
    return {
      width,
      height: height(width),
      legend: { show: false },
      cursor: { x: true, y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: [-0.6, days.length - 0.4] }, y: { range: [0, most * 1.08] } },
      axes: [
        {
          ...axis,
          size: size * 2,
          grid: { show: false },
          splits: () => labeledDays(days.length, width / (size * 4.4)),
          values: (_, splits) => splits.map((index) => (days[index] ? dayShort(days[index].date) + mark(days[index]) : "")),
        },
        {
          ...axis,
          size: size * 2.8,
          grid: { stroke: color("line"), width: 1 },
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000],
          values: (_, splits) => splits.map((value) => value.toLocaleString("en")),
        },
      ],
      series: [
        {},
        { fill: color("bar"), stroke: color("bar"), width: 0, paths: bars, points: { show: false } },
        { fill: color("bar-partial"), stroke: color("bar"), width: 1, dash: [4, 3], paths: bars, points: { show: false } },
        { stroke: color("forecast"), width: 2.5, dash: [7, 4], points: { show: true, size: 7, fill: color("card"), stroke: color("forecast"), width: 2 } },
        { stroke: color("band-edge"), width: 1, points: { show: false } },
        { stroke: color("band-edge"), width: 1, points: { show: false } },
      ],
      bands: [{ series: [4, 5], fill: color("band") }],
      hooks: { setCursor: [(chart) => this.#describe(chart.cursor.idx ?? null)] },
    };
  }

  // Describe the day under the pointer.
  #describe(index) {
    const day = index === null ? null : this.#days[index];
    const readout = byId("risk-readout");
    if (!day) {
      readout.textContent = "";
      return;
    }
    const counted = day.actual === undefined ? "" : `${day.actual}${day.partial ? " so far" : ""}`;
    const range = likelyRange(day);
    const confidence = known(day.confidence) ? `, ${Math.round(100 * day.confidence)} % confidence` : "";
    const expected = day.expected === undefined ? "" : `forecast ${day.expected}${range ? ` (${range}${confidence})` : ""}`;
    readout.textContent = `${title(day)}: ${[counted, expected].filter(Boolean).join(", ")}`;
  }
}

function joined(counted, expected) {
  const byDate = new Map(counted.map((day) => [day.date, day]));
  for (const day of expected) byDate.set(day.date, { ...byDate.get(day.date), ...day });
  return [...byDate.values()];
}

const mark = (day) => (day.foreign ? ` ${day.foreign}` : "");
const title = (day) => dayLong(day.date) + mark(day);
const rounded = (value) => value.toLocaleString("en", { maximumFractionDigits: 1 });

// The likely range as text; empty without one.
export function likelyRange({ lower, upper }) {
  return known(lower) && known(upper) ? `${rounded(lower)} to ${rounded(upper)}` : "";
}

function height(width) {
  const size = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  return Math.round((width < 520 ? HEIGHT.narrow : HEIGHT.wide) * size);
}

// Evenly spaced days whose labels fit, including the newest.
function labeledDays(days, available) {
  const step = Math.max(1, Math.ceil(days / Math.max(2, Math.floor(available))));
  const found = [];
  for (let index = days - 1; index >= 0; index -= step) found.push(index);
  return found.reverse();
}
