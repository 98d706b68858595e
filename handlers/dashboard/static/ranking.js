// Ordered lists of the busiest agents and most used tools, with bars relative to the first.
import { byId, el, fill, isolated } from "./elements.js";
import { Panel, empty } from "./panel.js";
import { count } from "./format.js";

export function showRanking(trends, id, rowsOf, nothing) {
  new Panel(`panel-${id}`).follow(trends, (body) => {
    const rows = rowsOf(body);
    const most = Math.max(1, ...rows.map(([, value]) => value));
    const list = el(
      "ol",
      { class: "ranking" },
      rows.map(([label, value]) => {
        const bar = el("span", { class: "ranking-bar", "aria-hidden": "true" });
        bar.style.setProperty("--share", String(value / most));
        return el("li", {}, isolated(label, { class: "ranking-name", title: label }), el("span", { class: "ranking-count" }, count(value)), bar);
      }),
    );
    fill(byId(`${id}-list`), rows.length ? list : empty(nothing));
  });
}
