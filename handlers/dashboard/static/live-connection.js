// The live connection: open, lost, opened again. Its messages are events; whoever shows numbers listens.
import { ask } from "./api.js";
import { Backoff } from "./backoff.js";

const MISSED_UPDATES = 3; // so many may fail to come before the connection counts as dead
const LEAST_SILENCE_SECONDS = 15;
const ENDED = [4401, 1008];

export class Live extends EventTarget {
  state = "connecting"; // connecting | open | waiting
  retryAt = null; // milliseconds of performance.now(), while waiting
  #path;
  #socket = null;
  #timer = null;
  #silence = null;
  #backoff = new Backoff(500, 30_000);
  #patience;

  // `seconds`: the server's interval between two updates.
  constructor(path, seconds) {
    super();
    this.#path = path;
    this.#patience = 1000 * Math.max(LEAST_SILENCE_SECONDS, (MISSED_UPDATES + 0.5) * seconds);
    addEventListener("online", () => this.tryNow());
    addEventListener("offline", () => this.#giveUp(this.#socket));
    addEventListener("visibilitychange", () => {
      if (!document.hidden) this.tryNow();
    });
  }

  connect() {
    clearTimeout(this.#timer);
    this.#be("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.#path}`);
    this.#socket = socket;
    this.#listenForSilence();
    socket.addEventListener("message", (event) => this.#receive(socket, event.data));
    socket.addEventListener("close", (event) => {
      if (socket === this.#socket) this.#lost(event.code);
    });
  }

  close() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    socket?.close();
  }

  // Do not wait for the pause to end.
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
    this.#listenForSilence();
    this.#backoff.reset();
    this.#be("open");
    if (message.type === "metrics_update" && message.metrics?.status !== "error") {
      this.dispatchEvent(new CustomEvent("update", { detail: message }));
    }
  }

  #lost(code) {
    clearTimeout(this.#silence);
    this.#socket = null;
    if (ENDED.includes(code)) {
      // Says 401 when the sign-in has ended, which leads to the sign-in page.
      ask("/session").catch((problem) => {
        if (problem.status === 401) document.dispatchEvent(new Event("signed-out"));
      });
    }
    const pause = this.#backoff.next();
    this.retryAt = performance.now() + pause;
    this.#timer = setTimeout(() => this.connect(), pause);
    this.#be("waiting");
  }

  #listenForSilence() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#silence = setTimeout(() => this.#giveUp(socket), this.#patience);
  }

  // A connection that seems dead: closing it may take long, so it counts as lost first.
  #giveUp(socket) {
    if (socket === null || socket !== this.#socket) return;
    this.#lost(0);
    socket.close();
  }

  #be(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
