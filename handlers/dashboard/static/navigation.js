// Which view is on show. The address keeps it (#system), so that a wall screen can be pointed at one.
import { byId } from "./elements.js";

export class Navigation extends EventTarget {
  current = null;
  #views;

  constructor(names) {
    super();
    this.#views = names;
    byId("skip").addEventListener("click", (event) => {
      event.preventDefault();
      byId("main").focus();
    });
    addEventListener("hashchange", () => this.#show(true));
  }

  start() {
    this.#show(false);
  }

  #show(byPerson) {
    const wanted = location.hash.slice(1);
    const view = this.#views.includes(wanted) ? wanted : this.#views[0];
    if (view === this.current) return;
    this.current = view;
    for (const name of this.#views) {
      byId(`view-${name}`).hidden = name !== view;
      const link = byId(`link-${name}`);
      if (name === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const heading = byId(`title-${view}`);
    document.title = `${heading.textContent} · OW-kai Analytics`;
    if (byPerson) {
      scrollTo(0, 0);
      heading.focus({ preventScroll: true });
    }
    this.dispatchEvent(new Event("view"));
  }
}
