// Whether data arrives: live, by polling, or not at all, and then since when.
import { byId, fill } from "./elements.js";
import { clock } from "./format.js";

const STALE_SECONDS = 45; // without an update for this long, the data counts as stale in every state of the connection

export class ConnectionStatus {
  #live;
  #pollers;
  #updated = null; // milliseconds of performance.now()
  #updatedAt = null; // Date of the same
  #announced = "";

  constructor(live, pollers) {
    this.#live = live;
    this.#pollers = pollers;
    live?.addEventListener("update", () => this.#recordUpdate());
    live?.addEventListener("state", () => this.show());
    for (const poller of pollers) poller.addEventListener("response", () => (poller.error ? this.show() : this.#recordUpdate()));
    byId("try-now").addEventListener("click", () => {
      this.#live?.tryNow();
      for (const poller of this.#pollers) poller.refresh();
    });
    setInterval(() => this.show(), 1000);
  }

  #recordUpdate() {
    this.#updated = performance.now();
    this.#updatedAt = new Date();
    this.show();
  }

  get secondsSilent() {
    return this.#updated === null ? null : (performance.now() - this.#updated) / 1000;
  }

  // live | polling | lost | connecting
  get state() {
    if (this.#live?.state === "open") return "live";
    if (this.#pollers.some((poller) => poller.error?.unreachable)) return "lost";
    if (this.#live?.state === "connecting" && this.#updated === null) return "connecting";
    return "polling";
  }

  show() {
    const { state } = this;
    const pill = byId("connection");
    pill.dataset.state = state;
    const text = { live: "Live", polling: "Polling", lost: "Connection lost", connecting: "Connecting" }[state];
    if (byId("connection-text").textContent !== text) byId("connection-text").textContent = text;
    const pause = this.#live?.state === "waiting" ? Math.ceil((this.#live.retryAt - performance.now()) / 1000) : null;
    byId("retry").textContent = pause === null ? "" : pause > 0 ? `retrying in ${pause} s` : "retrying";
    byId("try-now").hidden = !this.#live || state === "live" || state === "connecting";
    const stale = state === "lost" || (this.secondsSilent ?? 0) > STALE_SECONDS;
    byId("last-update").textContent = this.#updatedAt ? clock(this.#updatedAt) : "–";
    this.#showStale(stale, state);
  }

  #showStale(stale, state) {
    document.documentElement.toggleAttribute("data-stale", stale);
    const since = this.#updatedAt ? ` Data as of ${clock(this.#updatedAt)}.` : "";
    const text = stale ? `Connection lost.${since}` : "";
    byId("stale").hidden = !stale;
    if (byId("stale-text").textContent !== text) fill(byId("stale-text"), text);
    // For screen readers: only changes of state, never the countdown.
    const announcement = stale ? text : state === "polling" ? "Live updates are unavailable. Polling every few seconds." : "Live updates are on.";
    if (this.#announced !== "" || stale) {
      if (this.#announced !== announcement && state !== "connecting") byId("announcements").textContent = announcement;
    }
    if (state !== "connecting") this.#announced = announcement;
  }
}
