// The busiest agents and tools: ordered lists, each with a bar for its share of the longest.
import { byId, el, fill, name } from "./elements.js";
import { Panel, empty } from "./panel.js";
import { count } from "./format.js";

export function followRanking(trends, id, rowsOf, nothing) {
  new Panel(`panel-${id}`).follow(trends, (body) => {
    const rows = rowsOf(body);
    const most = Math.max(1, ...rows.map(([, value]) => value));
    const list = el(
      "ol",
      { class: "ranking" },
      rows.map(([label, value]) => {
        const bar = el("span", { class: "ranking-bar", "aria-hidden": "true" });
        bar.style.setProperty("--share", String(value / most));
        return el("li", {}, name(label, { class: "ranking-name", title: label }), el("span", { class: "ranking-count" }, count(value)), bar);
      }),
    );
    fill(byId(`${id}-list`), rows.length ? list : empty(nothing));
  });
}
