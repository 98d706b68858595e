// The current view, kept in the address (#system) so that a wall screen can open it directly.
import { byId } from "./elements.js";

const RENAMED = { outlook: "forecast" }; // addresses of earlier versions

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

  #show(byViewer) {
    const hash = location.hash.slice(1);
    const wanted = RENAMED[hash] ?? hash;
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
    if (byViewer) {
      scrollTo(0, 0);
      heading.focus({ preventScroll: true });
    }
    this.dispatchEvent(new Event("view"));
  }
}
