// The WebSocket connection, reopened when it is lost. It dispatches "update" for each message and "state" for each change.
import { request } from "./api.js";
import { Backoff } from "./backoff.js";

const MISSED_UPDATES = 3; // after this many missing updates, the connection counts as lost
const LEAST_SILENCE_SECONDS = 15;
const ENDED = [4401, 1008];

export class LiveConnection extends EventTarget {
  state = "connecting"; // connecting | open | waiting
  retryAt = null; // milliseconds of performance.now(), while waiting
  #path;
  #socket = null;
  #timer = null;
  #timeout = null;
  #backoff = new Backoff(500, 30_000);
  #timeoutMilliseconds;

  // `seconds`: the server's update interval.
  constructor(path, seconds) {
    super();
    this.#path = path;
    this.#timeoutMilliseconds = 1000 * Math.max(LEAST_SILENCE_SECONDS, (MISSED_UPDATES + 0.5) * seconds);
    addEventListener("online", () => this.tryNow());
    addEventListener("offline", () => this.#giveUp(this.#socket));
    addEventListener("visibilitychange", () => {
      if (!document.hidden) this.tryNow();
    });
  }

  connect() {
    clearTimeout(this.#timer);
    this.#setState("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.#path}`);
    this.#socket = socket;
    this.#restartTimeout();
    socket.addEventListener("message", (event) => this.#receive(socket, event.data));
    socket.addEventListener("close", (event) => {
      if (socket === this.#socket) this.#lost(event.code);
    });
  }

  close() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#timeout);
    socket?.close();
  }

  // Reconnect now instead of at the end of the pause.
  tryNow() {
    if (this.state === "waiting") this.connect();
  }

  #receive(socket, data) {
    if (socket !== this.#socket) return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    this.#restartTimeout();
    this.#backoff.reset();
    this.#setState("open");
    if (message.type === "metrics_update" && message.metrics?.status !== "error") {
      this.dispatchEvent(new CustomEvent("update", { detail: message }));
    }
  }

  #lost(code) {
    clearTimeout(this.#timeout);
    this.#socket = null;
    if (ENDED.includes(code)) {
      // Responds with 401 if the session has ended.
      request("/session").catch((error) => {
        if (error.status === 401) document.dispatchEvent(new Event("signed-out"));
      });
    }
    const pause = this.#backoff.next();
    this.retryAt = performance.now() + pause;
    this.#timer = setTimeout(() => this.connect(), pause);
    this.#setState("waiting");
  }

  #restartTimeout() {
    clearTimeout(this.#timeout);
    const socket = this.#socket;
    this.#timeout = setTimeout(() => this.#giveUp(socket), this.#timeoutMilliseconds);
  }

  // Closing a dead connection can take long, so it counts as lost first.
  #giveUp(socket) {
    if (socket === null || socket !== this.#socket) return;
    this.#lost(0);
    socket.close();
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
