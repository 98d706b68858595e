// Whether numbers arrive, in words: live, by asking, or not at all and then since when.
import { byId, fill } from "./elements.js";
import { clock } from "./format.js";

const OLD_SECONDS = 45; // nothing heard for so long: the numbers may be old, whatever the connection says

export class Connection {
  #live;
  #feeds;
  #heard = null; // milliseconds of performance.now()
  #heardAt = null; // Date of the same
  #told = "";

  constructor(live, feeds) {
    this.#live = live;
    this.#feeds = feeds;
    live?.addEventListener("update", () => this.#hear());
    live?.addEventListener("state", () => this.show());
    for (const feed of feeds) feed.addEventListener("answer", () => (feed.problem ? this.show() : this.#hear()));
    byId("try-now").addEventListener("click", () => {
      this.#live?.tryNow();
      for (const feed of this.#feeds) feed.refresh();
    });
    setInterval(() => this.show(), 1000);
  }

  #hear() {
    this.#heard = performance.now();
    this.#heardAt = new Date();
    this.show();
  }

  get secondsSilent() {
    return this.#heard === null ? null : (performance.now() - this.#heard) / 1000;
  }

  // live | asking | lost | connecting
  get state() {
    if (this.#live?.state === "open") return "live";
    if (this.#feeds.some((feed) => feed.problem?.unreachable)) return "lost";
    if (this.#live?.state === "connecting" && this.#heard === null) return "connecting";
    return "asking";
  }

  show() {
    const { state } = this;
    const pill = byId("connection");
    pill.dataset.state = state;
    const words = { live: "Live", asking: "Live updates off", lost: "No connection", connecting: "Connecting" }[state];
    if (byId("connection-text").textContent !== words) byId("connection-text").textContent = words;
    const pause = this.#live?.state === "waiting" ? Math.ceil((this.#live.retryAt - performance.now()) / 1000) : null;
    byId("retry").textContent = pause === null ? "" : pause > 0 ? `trying again in ${pause} s` : "trying again";
    byId("try-now").hidden = !this.#live || state === "live" || state === "connecting";
    const old = state === "lost" || (this.secondsSilent ?? 0) > OLD_SECONDS;
    byId("last-update").textContent = this.#heardAt ? clock(this.#heardAt) : "–";
    this.#showOld(old, state);
  }

  #showOld(old, state) {
    document.documentElement.toggleAttribute("data-stale", old);
    const since = this.#heardAt ? ` Shown is what was known at ${clock(this.#heardAt)}.` : "";
    const words = old ? `The data may be old: the server does not answer.${since}` : "";
    byId("stale").hidden = !old;
    if (byId("stale-text").textContent !== words) fill(byId("stale-text"), words);
    // For screen readers: changes of state alone, never the seconds.
    const told = old ? words : state === "asking" ? "Live updates are off; the page asks every few seconds." : "Numbers are live.";
    if (this.#told !== "" || old) {
      if (this.#told !== told && state !== "connecting") byId("announcements").textContent = told;
    }
    if (state !== "connecting") this.#told = told;
  }
}
