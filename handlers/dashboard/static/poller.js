// A question asked again and again: every so many seconds, sooner when somebody calls, more slowly while there is no answer.
import { ask } from "./api.js";
import { Backoff } from "./backoff.js";

export class Feed extends EventTarget {
  body = null; // the newest good answer
  problem = null; // what went wrong last, if it did
  answeredAt = null; // milliseconds of performance.now()
  mock = false;
  #seconds;
  #path;
  #timer = null;
  #asking = null;
  #again = false;
  #running = false;
  #backoff = new Backoff(1000, 30_000);

  // `path` is a function, because zone and period may change.
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
    if (this.#running && !this.#asking && !this.problem) this.#schedule(seconds * 1000);
  }

  // Ask now; while a question is under way, once more after it.
  refresh() {
    if (!this.#running) return;
    if (this.#asking) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#asking = this.#ask().finally(() => {
      this.#asking = null;
      if (!this.#running) return;
      if (this.#again) {
        this.#again = false;
        this.refresh();
      }
    });
  }

  // The answer belongs to another question now (another period, another zone).
  reset() {
    this.body = null;
    this.problem = null;
    this.refresh();
  }

  async #ask() {
    const path = this.#path();
    try {
      const { body, mock } = await ask(path);
      if (path !== this.#path()) {
        this.#again = true;
        return;
      }
      this.body = body;
      this.mock = mock;
      this.problem = null;
      this.answeredAt = performance.now();
      this.#backoff.reset();
      this.#schedule(this.#seconds * 1000);
    } catch (problem) {
      this.problem = problem;
      this.#schedule(problem.retrySeconds ? problem.retrySeconds * 1000 : Math.max(this.#backoff.next(), 1000));
    }
    this.dispatchEvent(new Event("answer"));
  }

  #schedule(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // A page nobody looks at asks nothing; it catches up when it is shown again.
      if (document.hidden) addEventListener("visibilitychange", () => this.refresh(), { once: true });
      else this.refresh();
    }, milliseconds);
  }
}
