// High-risk actions a day: bars for what was, a line and its band for what is expected. Beside the chart the same as a table.
import { byId, el, fill } from "./elements.js";
import { Panel } from "./panel.js";
import { count, dayLong, dayShort, known, plural, rate } from "./format.js";
import { areDaysOf } from "./time-zone.js";

const HEIGHT = { narrow: 220, wide: 300 };

export class RiskChart {
  #panel = new Panel("panel-risk");
  #chart = null;
  #days = []; // { date, actual, partial } or { date, foreign, expected, lower, upper, confidence }; foreign: the zone, where it is not the viewer's
  #trends;
  #outlook;

  constructor(trends, outlook) {
    this.#trends = trends;
    this.#outlook = outlook;
    this.#panel.follow(trends, () => this.#show());
    outlook.addEventListener("answer", () => trends.body !== null && this.#show());
    document.addEventListener("theme", () => this.#draw());
    new ResizeObserver(() => this.#resize()).observe(byId("risk-chart"));
  }

  #show() {
    const history = this.#trends.body.high_risk_actions_by_day;
    const last = history.at(-1)?.date ?? "";
    const outlook = this.#outlook.body;
    const all = outlook?.status === "active" ? outlook.risk_forecast : [];
    // The days counted are those of the viewer's zone, the days forecast those of the server's. Only where they are the same days
    // do they stand in one row: equal dates of two zones are different days.
    const foreign = this.#sameDays(all) ? "" : this.#theirs;
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
    this.#words(history, expected);
    if (!same || this.#chart === null) this.#draw();
    this.#table();
  }

  #words(history, expected) {
    const total = history.reduce((sum, day) => sum + day.count, 0);
    const peak = history.reduce((most, day) => (day.count > (most?.count ?? -1) ? day : most), null);
    const summary = total
      ? `${plural(total, "high-risk action")} in ${plural(history.length, "day")}; most on ${dayLong(peak.date)}: ${peak.count}.`
      : `No high-risk action in ${plural(history.length, "day")}.`;
    const ahead = expected.length ? ` Expected for ${title(expected[0])}: ${expected[0].expected}.` : "";
    byId("risk-chart").setAttribute("aria-label", `Chart. ${summary}${ahead} The same numbers stand in the table below.`);
    byId("risk-summary").textContent = summary + ahead;
    byId("risk-key-forecast").hidden = expected.length === 0;
    byId("risk-key-band").hidden = !expected.some((day) => known(day.lower) && known(day.upper));
    const zones = this.#zones();
    byId("risk-zone").textContent = zones;
  }

  get #own() {
    return this.#trends.body.meta?.time_zone ?? "UTC";
  }

  get #theirs() {
    return this.#outlook.body?.meta?.time_zone ?? "UTC";
  }

  #sameDays(forecast) {
    return this.#own === this.#theirs || (this.#theirs === "UTC" && areDaysOf(this.#own, forecast.map((day) => day.date)));
  }

  #zones() {
    const foreign = this.#days.some((day) => day.foreign) ? ` The forecast is for days in ${this.#theirs}, which begin at another hour.` : "";
    return `Days in ${this.#own.replaceAll("_", " ")}; today is not over.${foreign}`;
  }

  #table() {
    const rows = this.#days.toReversed().map((day) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, title(day)),
        el("td", { class: "number" }, day.actual === undefined ? "" : count(day.actual), day.partial ? " so far" : ""),
        el("td", { class: "number" }, day.expected === undefined ? "" : count(day.expected)),
        el("td", { class: "number" }, band(day)),
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
    this.#read(null);
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
    const colour = (token) => style.getPropertyValue(`--${token}`).trim();
    const days = this.#days;
    const size = Number.parseFloat(style.fontSize);
    const font = `${Math.round(size * 0.75)}px ${style.fontFamily}`;
    const axis = { stroke: colour("muted"), font, ticks: { show: false } };
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
          splits: () => labelled(days.length, width / (size * 4.4)),
          values: (_, splits) => splits.map((index) => (days[index] ? dayShort(days[index].date) + mark(days[index]) : "")),
        },
        {
          ...axis,
          size: size * 2.8,
          grid: { stroke: colour("line"), width: 1 },
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000],
          values: (_, splits) => splits.map((value) => value.toLocaleString("en")),
        },
      ],
      series: [
        {},
        { fill: colour("bar"), stroke: colour("bar"), width: 0, paths: bars, points: { show: false } },
        { fill: colour("bar-partial"), stroke: colour("bar"), width: 1, dash: [4, 3], paths: bars, points: { show: false } },
        { stroke: colour("forecast"), width: 2.5, dash: [7, 4], points: { show: true, size: 7, fill: colour("card"), stroke: colour("forecast"), width: 2 } },
        { stroke: colour("band-edge"), width: 1, points: { show: false } },
        { stroke: colour("band-edge"), width: 1, points: { show: false } },
      ],
      bands: [{ series: [4, 5], fill: colour("band") }],
      hooks: { setCursor: [(chart) => this.#read(chart.cursor.idx ?? null)] },
    };
  }

  // The day under the pointer, in words.
  #read(index) {
    const day = index === null ? null : this.#days[index];
    const readout = byId("risk-readout");
    if (!day) {
      readout.textContent = "";
      return;
    }
    const counted = day.actual === undefined ? "" : `${day.actual}${day.partial ? " so far" : ""}`;
    const range = band(day);
    const sure = known(day.confidence) ? `, ${Math.round(100 * day.confidence)} % likely` : "";
    const expected = day.expected === undefined ? "" : `${day.expected} expected${range ? ` (${range}${sure})` : ""}`;
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

// The band of a day in words; empty without one.
export function band({ lower, upper }) {
  return known(lower) && known(upper) ? `${rounded(lower)} to ${rounded(upper)}` : "";
}

function height(width) {
  const size = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  return Math.round((width < 520 ? HEIGHT.narrow : HEIGHT.wide) * size);
}

// As many evenly spaced days as have room for their label, the newest among them.
function labelled(days, room) {
  const step = Math.max(1, Math.ceil(days / Math.max(2, Math.floor(room))));
  const found = [];
  for (let index = days - 1; index >= 0; index -= step) found.push(index);
  return found.reverse();
}
