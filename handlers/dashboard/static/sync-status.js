// The state of sync and its lag, from /readyz: in the status bar and in the System view.
import { byId, el, fact, fill, stateBadge } from "./elements.js";
import { Panel } from "./panel.js";
import { age, count, decimal, noValue, timestamp, percent } from "./format.js";

const PHASES = {
  starting: ["Starting", "warning"],
  copying: ["Initial copy running", "warning"],
  streaming: ["Up to date", "good"],
  polling: ["Up to date (polling)", "good"],
  retrying: ["Source unreachable, retrying", "bad"],
  paused: ["Paused: operator action required", "bad"],
  stopped: ["Stopped", "bad"],
  draining: ["Shutting down", "warning"],
};

function stateText(ready) {
  const [text, tone] = PHASES[ready.state] ?? [ready.state, "neutral"];
  if (ready.stale && tone === "good") return ["Stale", "warning"];
  return [text, tone];
}

export function showSyncStatus(poller) {
  const pill = byId("sync");
  const show = () => {
    if (poller.error || poller.body === null) {
      pill.dataset.tone = "neutral";
      fill(byId("sync-text"), "unknown");
      return;
    }
    const ready = poller.body;
    const [text, tone] = stateText(ready);
    pill.dataset.tone = tone;
    const lag = ready.lag_seconds === null ? "" : [" (lag ", age(ready.lag_seconds), ")"];
    const copied = ready.copy?.percent === undefined ? "" : [" ", percent(ready.copy.percent)];
    fill(byId("sync-text"), text, lag, copied);
  };
  poller.addEventListener("response", show);
}

export function showSyncPanel(poller) {
  const panel = new Panel("panel-sync");
  panel.follow(poller, (ready) => {
    const [text, tone] = stateText(ready);
    fill(
      byId("sync-facts"),
      fact("State", stateBadge(text, tone)),
      fact("Lag", age(ready.lag_seconds), ready.lag_bytes ? [" (", bytes(ready.lag_bytes), " of WAL)"] : ""),
      fact("Guarantee", ready.guarantee),
      fact("Position (LSN)", ready.lsn ?? noValue()),
      fact("Cache version", count(ready.cache_version)),
      fact("WAL retained on source", bytes(ready.retained_wal_bytes)),
      fact("Last verification", ...verification(ready.verify)),
    );
  });
}

function verification(verify) {
  if (!verify) return ["none yet"];
  if (verify.equal === null) return ["failed; see the server log"];
  const result = verify.equal
    ? stateBadge("Verified", "good")
    : stateBadge(`${verify.differing_buckets} ${verify.differing_buckets === 1 ? "difference" : "differences"} found`, "bad");
  return [result, " ", timestamp(verify.at), el("span", { class: "muted" }, ` · ${verify.rows.toLocaleString("en")} rows, ${verify.scope}`)];
}

function bytes(value) {
  if (value === null || value === undefined) return noValue();
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let amount = value;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return [decimal(amount), ` ${units[unit]}`];
}
