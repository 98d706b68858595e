// Requests one path repeatedly: at an interval, at once on demand, with growing pauses while requests fail.
import { request } from "./api.js";
import { Backoff } from "./backoff.js";

export class Poller extends EventTarget {
  body = null; // the newest successful response
  error = null; // the last error; null after a success
  receivedAt = null; // milliseconds of performance.now()
  mock = false;
  #seconds;
  #path;
  #timer = null;
  #inFlight = null;
  #refreshAgain = false;
  #running = false;
  #backoff = new Backoff(1000, 30_000);

  // `path` is a function because time zone and period may change.
  constructor(path, seconds) {
    super();
    this.#path = path;
    this.#seconds = seconds;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.refresh();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  every(seconds) {
    if (seconds === this.#seconds) return;
    this.#seconds = seconds;
    if (this.#running && !this.#inFlight && !this.error) this.#schedule(seconds * 1000);
  }

  // Request now; while a request is running, request once more after it.
  refresh() {
    if (!this.#running) return;
    if (this.#inFlight) {
      this.#refreshAgain = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#inFlight = this.#request().finally(() => {
      this.#inFlight = null;
      if (!this.#running) return;
      if (this.#refreshAgain) {
        this.#refreshAgain = false;
        this.refresh();
      }
    });
  }

  // The path has changed (another period or time zone): drop the data and request again.
  reset() {
    this.body = null;
    this.error = null;
    this.refresh();
  }

  async #request() {
    const path = this.#path();
    try {
      const { body, mock } = await request(path);
      if (path !== this.#path()) {
        this.#refreshAgain = true;
        return;
      }
      this.body = body;
      this.mock = mock;
      this.error = null;
      this.receivedAt = performance.now();
      this.#backoff.reset();
      this.#schedule(this.#seconds * 1000);
    } catch (error) {
      this.error = error;
      this.#schedule(error.retrySeconds ? error.retrySeconds * 1000 : Math.max(this.#backoff.next(), 1000));
    }
    this.dispatchEvent(new Event("response"));
  }

  #schedule(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // A hidden page requests nothing; it catches up when it becomes visible.
      if (document.hidden) addEventListener("visibilitychange", () => this.refresh(), { once: true });
      else this.refresh();
    }, milliseconds);
  }
}
