// The latest actions: a table with filters, sortable by every column.
import { byId, el, fill, isolated, riskBadge } from "./elements.js";
import { Panel } from "./panel.js";
import { timestamp, plural } from "./format.js";

const SEVERITY = { critical: 4, high: 3, medium: 2, low: 1 };
const COLUMNS = [
  {
    key: "timestamp",
    title: "Time",
    cell: (action) => timestamp(action.timestamp),
    order: (action) => Date.parse(action.timestamp) || 0,
    first: "descending",
  },
  {
    key: "risk_level",
    title: "Risk",
    cell: (action) => riskBadge(action.risk_level),
    order: (action) => SEVERITY[action.risk_level] ?? 0,
    first: "descending",
  },
  { key: "agent_id", title: "Agent", strong: true },
  { key: "action_type", title: "Action" },
  { key: "tool_name", title: "Tool" },
  { key: "mitre_tactic", title: "Tactic" },
  { key: "nist_control", title: "Control" },
  { key: "recommendation", title: "Recommendation", wide: true },
];
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

export class LatestActions {
  #rows = [];
  #sorted = { key: "timestamp", direction: "descending" };

  constructor(trends) {
    this.#head();
    byId("actions-filter").addEventListener("input", () => this.#show());
    byId("actions-risk").addEventListener("change", () => this.#show());
    byId("actions-clear").addEventListener("click", () => {
      byId("actions-filter").value = "";
      byId("actions-risk").value = "";
      this.#show();
      byId("actions-filter").focus();
    });
    new Panel("panel-actions").follow(trends, (body) => {
      this.#rows = body.enriched_actions;
      this.#show();
    });
  }

  #head() {
    const cells = COLUMNS.map((column) => {
      const button = el("button", { type: "button", class: "sort" }, column.title, el("span", { class: "sort-mark", "aria-hidden": "true" }));
      button.addEventListener("click", () => this.#sort(column));
      return el("th", { scope: "col", role: "columnheader", id: `sort-${column.key}` }, button);
    });
    fill(byId("actions-head"), cells);
  }

  #sort(column) {
    const again = this.#sorted.key === column.key;
    const other = this.#sorted.direction === "ascending" ? "descending" : "ascending";
    this.#sorted = { key: column.key, direction: again ? other : (column.first ?? "ascending") };
    this.#show();
  }

  #show() {
    const text = byId("actions-filter").value.trim().toLowerCase();
    const risk = byId("actions-risk").value;
    const shown = this.#rows.filter(
      (action) =>
        (risk === "" || (risk === "elevated" ? SEVERITY[action.risk_level] >= 3 : action.risk_level === risk)) &&
        (text === "" || COLUMNS.some((column) => String(action[column.key] ?? "").toLowerCase().includes(text))),
    );
    this.#sortRows(shown);
    for (const column of COLUMNS) {
      const head = byId(`sort-${column.key}`);
      if (column.key === this.#sorted.key) head.setAttribute("aria-sort", this.#sorted.direction);
      else head.removeAttribute("aria-sort");
    }
    fill(byId("actions-rows"), shown.map((action) => row(action)));
    const filtered = text !== "" || risk !== "";
    byId("actions-clear").hidden = !filtered;
    byId("actions-count").textContent = filtered
      ? `${shown.length} of ${plural(this.#rows.length, "action")}`
      : plural(this.#rows.length, "action");
    const nothing = byId("actions-empty");
    nothing.hidden = shown.length > 0;
    nothing.textContent = this.#rows.length === 0 ? "No actions recorded yet." : "No matching actions.";
  }

  #sortRows(rows) {
    const column = COLUMNS.find(({ key }) => key === this.#sorted.key);
    const sign = this.#sorted.direction === "ascending" ? 1 : -1;
    const compare = column.order
      ? (one, other) => column.order(one) - column.order(other)
      : (one, other) => collator.compare(String(one[column.key] ?? ""), String(other[column.key] ?? ""));
    rows.sort((one, other) => sign * compare(one, other));
  }
}

function row(action) {
  const cells = COLUMNS.map((column) =>
    el(
      column.strong ? "th" : "td",
      { role: column.strong ? "rowheader" : "cell", scope: column.strong ? "row" : null, "data-title": column.title, class: column.wide ? "wide" : null },
      column.cell ? column.cell(action) : isolated(action[column.key] ?? "–"),
    ),
  );
  return el("tr", { role: "row", "data-risk": action.risk_level }, cells);
}
