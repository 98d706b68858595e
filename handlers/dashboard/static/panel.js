// A panel: what it shows, or in words why it cannot. An old answer stays on show beside the words.
import { byId, el, fill } from "./elements.js";

export function problemWords(problem) {
  const id = problem.requestId ? el("span", { class: "request-id" }, `Request id ${problem.requestId}`) : null;
  return [el("span", {}, problem.message), " ", id];
}

export class Panel {
  constructor(id) {
    this.element = byId(id);
    this.note = el("p", { class: "note", hidden: true });
    this.element.querySelector("h2").closest(".panel-head").after(this.note);
    this.element.setAttribute("aria-busy", "true");
  }

  // Show a feed's answer by `render`; its problem in words.
  follow(feed, render) {
    const show = () => {
      if (feed.body !== null) {
        this.element.removeAttribute("aria-busy");
        render(feed.body);
      }
      this.tell(feed.problem, feed.body !== null);
    };
    feed.addEventListener("answer", show);
    document.addEventListener("redraw", () => feed.body !== null && render(feed.body));
    if (feed.body !== null || feed.problem) show();
  }

  tell(problem, hasOldAnswer) {
    this.note.hidden = problem === null;
    if (problem === null) return;
    this.element.removeAttribute("aria-busy");
    fill(this.note, ...problemWords(problem), hasOldAnswer ? " Shown is the last answer." : "");
  }
}

export function empty(...words) {
  return el("p", { class: "empty" }, ...words);
}
