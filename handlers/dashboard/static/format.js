// Numbers, times and ages as text. A missing value is a dash, read aloud as "no value".
import { el } from "./elements.js";
import { zone } from "./time-zone.js";

const wholeNumber = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const upToOne = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const upToTwo = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export const known = (value) => typeof value === "number" && Number.isFinite(value);

export function noValue() {
  return el("span", { class: "missing" }, el("span", { "aria-hidden": "true" }, "–"), el("span", { class: "visually-hidden" }, "no value"));
}

export const whole = (value) => wholeNumber.format(value);
export const count = (value) => (known(value) ? wholeNumber.format(value) : noValue());
export const decimal = (value) => (known(value) ? upToTwo.format(value) : noValue());
export const tenth = (value) => (known(value) ? upToOne.format(value) : noValue());
export const percent = (value) => (known(value) ? `${upToOne.format(value)} %` : noValue());
export const rate = (value) => (known(value) ? `${upToOne.format(100 * value)} %` : noValue());
export const smallRate = (value) => (known(value) ? `${upToTwo.format(100 * value)} %` : noValue());
export const milliseconds = (value) => (known(value) ? `${upToOne.format(value)} ms` : noValue());

// "actions" for 0 and many, "action" for 1.
export const plural = (value, one, many = `${one}s`) => `${wholeNumber.format(value)} ${value === 1 ? one : many}`;

export function age(seconds) {
  if (!known(seconds)) return noValue();
  if (seconds < 1) return "< 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return plural(Math.round(seconds / 86400), "day");
}

const day = (options) => new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" });
const shortDay = day({ day: "numeric", month: "short" });
const longDay = day({ weekday: "short", day: "numeric", month: "short", year: "numeric" });

// A calendar day has no time zone: 2025-01-15 stays the 15th for every viewer.
const asUtc = (date) => new Date(`${date.slice(0, 10)}T00:00:00Z`);
export const dayShort = (date) => (Number.isNaN(asUtc(date).getTime()) ? date : shortDay.format(asUtc(date)));
export const dayLong = (date) => (Number.isNaN(asUtc(date).getTime()) ? date : longDay.format(asUtc(date)));

function inZone(time, options) {
  return new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone.current }).format(time);
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
export const clock = (time) => inZone(time, CLOCK);

// The time of day, with the date when it is not today's.
export function timestamp(text) {
  const at = new Date(text ?? NaN);
  if (Number.isNaN(at.getTime())) return noValue();
  const date = { day: "numeric", month: "short" };
  const today = inZone(new Date(), date) === inZone(at, date) && Math.abs(Date.now() - at) < 172800000;
  const shown = today ? clock(at) : `${inZone(at, date)}, ${inZone(at, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })}`;
  return el("time", { datetime: at.toISOString(), title: inZone(at, { dateStyle: "full", timeStyle: "long" }) }, shown);
}

export function date(text) {
  const at = new Date(text ?? NaN);
  return Number.isNaN(at.getTime()) ? noValue() : el("time", { datetime: at.toISOString() }, inZone(at, { dateStyle: "medium" }));
}

// Date and time with the name of the zone, for use inside sentences.
export function timestampText(text) {
  const at = new Date(text ?? NaN);
  if (Number.isNaN(at.getTime())) return String(text ?? "");
  const parts = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return inZone(at, { ...parts, timeZoneName: "short" });
}
