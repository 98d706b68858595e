// How far the numbers are behind the platform's database: from /readyz, always in sight.
import { byId, el, fact, fill, stateBadge } from "./elements.js";
import { Panel } from "./panel.js";
import { age, count, decimal, missing, moment, percent } from "./format.js";

const PHASES = {
  starting: ["Starting", "warning"],
  copying: ["First copy under way", "warning"],
  streaming: ["In step", "good"],
  polling: ["In step by polling", "good"],
  retrying: ["Database out of reach", "bad"],
  paused: ["Sync is paused: an operator must act", "bad"],
  stopped: ["Sync has stopped", "bad"],
  draining: ["Server is stopping", "warning"],
};

function standing(ready) {
  const [words, tone] = PHASES[ready.state] ?? [ready.state, "neutral"];
  if (ready.stale && tone === "good") return ["Behind the database", "warning"];
  return [words, tone];
}

export function followFreshness(feed) {
  const pill = byId("sync");
  const show = () => {
    if (feed.problem || feed.body === null) {
      pill.dataset.tone = "neutral";
      fill(byId("sync-text"), "not known");
      return;
    }
    const ready = feed.body;
    const [words, tone] = standing(ready);
    pill.dataset.tone = tone;
    const lag = ready.lag_seconds === null ? "" : [", ", age(ready.lag_seconds), " behind"];
    const copied = ready.copy?.percent === undefined ? "" : [" ", percent(ready.copy.percent)];
    fill(byId("sync-text"), words, lag, copied);
  };
  feed.addEventListener("answer", show);
}

export function followSyncPanel(feed) {
  const panel = new Panel("panel-sync");
  panel.follow(feed, (ready) => {
    const [words, tone] = standing(ready);
    fill(
      byId("sync-facts"),
      fact("State", stateBadge(words, tone)),
      fact("Behind by", age(ready.lag_seconds), ready.lag_bytes ? [" (", count(ready.lag_bytes), " bytes of log)"] : ""),
      fact("Guarantee", ready.guarantee),
      fact("Position", ready.lsn ?? missing()),
      fact("Cache version", count(ready.cache_version)),
      fact("Kept for us at the source", bytes(ready.retained_wal_bytes)),
      fact("Last comparison", ...comparison(ready.verify)),
    );
  });
}

function comparison(verify) {
  if (!verify) return ["none yet"];
  if (verify.equal === null) return ["could not be made; the server's log says why"];
  const result = verify.equal
    ? stateBadge("Equal to the database", "good")
    : stateBadge(`${verify.differing_buckets} parts differ`, "bad");
  return [result, " ", moment(verify.at), el("span", { class: "muted" }, ` · ${verify.rows.toLocaleString("en")} rows, ${verify.scope}`)];
}

function bytes(value) {
  if (value === null || value === undefined) return missing();
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let amount = value;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return [decimal(amount), ` ${units[unit]}`];
}
