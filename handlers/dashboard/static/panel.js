// A panel shows the data of a poller, or an error message. Older data stays visible below the message.
import { byId, el, fill } from "./elements.js";

export function errorMessage(error) {
  const id = error.requestId ? el("span", { class: "request-id" }, `Request ID ${error.requestId}`) : null;
  return [el("span", {}, error.message), " ", id];
}

export class Panel {
  constructor(id) {
    this.element = byId(id);
    this.note = el("p", { class: "note", hidden: true });
    this.element.querySelector("h2").closest(".panel-head").after(this.note);
    this.element.setAttribute("aria-busy", "true");
  }

  // Render each response of a poller, and its error if there is one.
  follow(poller, render) {
    const show = () => {
      if (poller.body !== null) {
        this.element.removeAttribute("aria-busy");
        render(poller.body);
      }
      this.showError(poller.error, poller.body !== null);
    };
    poller.addEventListener("response", show);
    document.addEventListener("redraw", () => poller.body !== null && render(poller.body));
    if (poller.body !== null || poller.error) show();
  }

  showError(error, hasOldData) {
    this.note.hidden = error === null;
    if (error === null) return;
    this.element.removeAttribute("aria-busy");
    fill(this.note, ...errorMessage(error), hasOldData ? " Showing the last data received." : "");
  }
}

export function empty(...text) {
  return el("p", { class: "empty" }, ...text);
}
