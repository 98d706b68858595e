// Anomalies, their acknowledgement, and recommendations.
import { API, request } from "./api.js";
import { byId, el, isolated, stateBadge } from "./elements.js";
import { known, rate, timestampText, whole } from "./format.js";
import { empty } from "./panel.js";

const SEVERITY_TONES = { critical: "bad", high: "bad", medium: "warning", low: "neutral" };
const SEVERITY_ORDER = { critical: 3, high: 2, medium: 1 };
const KINDS = { spike: "Spike", drop: "Drop", new_agent: "New agent", risk_shift: "Risk shift" };

// Acknowledges anomalies for callers who may, and withdraws acknowledgements. `refresh` reads the anomalies again.
export class Acknowledgement {
  #refresh;

  constructor(allowed, refresh) {
    this.allowed = allowed;
    this.#refresh = refresh;
  }

  button(anomaly) {
    if (!this.allowed || !anomaly.id) return null;
    const withdraw = Boolean(anomaly.acknowledged_at);
    const text = withdraw ? "Withdraw acknowledgement" : "Acknowledge";
    const button = el("button", { type: "button", class: "small", "aria-label": `${text}: ${inViewerZone(anomaly.description)}` }, text);
    const failure = el("span", { class: "failure", role: "alert" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      failure.textContent = "";
      // The list is drawn again, so the focus moves to the heading of its panel.
      const heading = button.closest(".panel").querySelector("h2");
      try {
        await request(`${API}/predictive/anomalies/${anomaly.id}/acknowledgement`, { method: withdraw ? "DELETE" : "PUT" });
        byId("announcements").textContent = withdraw ? "Acknowledgement withdrawn." : "Anomaly acknowledged.";
        heading.tabIndex = -1;
        heading.focus();
        this.#refresh();
      } catch (error) {
        button.disabled = false;
        failure.textContent = error.message;
      }
    });
    return el("span", { class: "anomaly-action" }, button, failure);
  }
}

// The most severe anomalies that no one has acknowledged.
export function topAnomalies(anomalies, limit) {
  return anomalies.filter((anomaly) => !anomaly.acknowledged_at).sort(bySeverity).slice(0, limit);
}

// Most severe first; of the same severity, ongoing ones first, then the newest.
function bySeverity(one, other) {
  return (
    (SEVERITY_ORDER[other.severity] ?? 0) - (SEVERITY_ORDER[one.severity] ?? 0) ||
    Number(one.ends_at !== null) - Number(other.ends_at !== null) ||
    String(other.timestamp).localeCompare(String(one.timestamp))
  );
}

export function anomalyList(anomalies, acknowledgement, none) {
  if (anomalies.length === 0) return empty(none);
  return el("ul", { class: "items" }, anomalies.map((anomaly) => item(anomaly, acknowledgement)));
}

function item(anomaly, acknowledgement) {
  const badge = stateBadge(KINDS[anomaly.type] ?? anomaly.type ?? "anomaly", SEVERITY_TONES[anomaly.severity] ?? "neutral");
  const state = anomaly.type === "new_agent" ? "" : anomaly.ends_at ? " · ended" : " · ongoing";
  const acknowledged = anomaly.acknowledged_at ? [" · acknowledged by ", isolated(anomaly.acknowledged_by ?? "")] : "";
  const head = el("span", { class: "muted" }, `${anomaly.severity} · ${timestampText(anomaly.timestamp)}`, measured(anomaly), state, acknowledged);
  return el(
    "li",
    { class: "anomaly" },
    el("span", { class: "anomaly-head" }, badge, head),
    isolated(inViewerZone(anomaly.description)),
    acknowledgement.button(anomaly),
  );
}

export function recommendationList(sentences) {
  if (sentences.length === 0) return empty("No recommendations.");
  return el("ul", { class: "items recommendations" }, sentences.map((text) => el("li", {}, isolated(inViewerZone(text)))));
}

// The server writes times as "2026-03-30 09:00 UTC"; the page shows all times in the viewer's zone.
function inViewerZone(text) {
  return String(text ?? "").replace(/(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}) UTC/g, (_, day, time) => timestampText(`${day}T${time}:00Z`));
}

// Observed and expected: actions, or for a shift of risk the shares of elevated risk.
function measured({ type, observed, expected }) {
  if (!known(observed) || !known(expected) || type === "new_agent") return "";
  if (type === "risk_shift") return ` · ${rate(observed)} elevated risk (expected ${rate(expected)})`;
  return ` · ${whole(observed)} ${observed === 1 ? "action" : "actions"} (expected ${expected > 0 && expected < 1 ? "< 1" : whole(expected)})`;
}
