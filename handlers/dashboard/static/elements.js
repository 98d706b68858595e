// Building the page. Text is only ever set as text: whatever an agent is called, it cannot become markup.

// el("td", { class: "number" }, "12"): attributes that are null or false are left out, children that are null too.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on") || attribute === "style") throw new TypeError(`no ${attribute} attribute`);
    if (value !== null && value !== undefined && value !== false) element.setAttribute(attribute, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A name from the data: isolated, so that right-to-left and control characters do not move their neighbours.
export function name(text, attributes = {}) {
  return el("bdi", attributes, text);
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

// A value with its sentence: <dt>, <dd>.
export function fact(term, ...value) {
  return el("div", { class: "fact" }, el("dt", {}, term), el("dd", {}, ...value));
}

const RISKS = { critical: "Critical", high: "High", medium: "Medium", low: "Low" };

export function riskBadge(level) {
  const known = Object.hasOwn(RISKS, level);
  return el("span", { class: "badge", "data-risk": known ? level : "unknown" }, known ? RISKS[level] : "Unknown");
}

// Words of state in one form everywhere: good, watch, bad or quiet.
export function stateBadge(text, tone = "neutral") {
  const words = String(text ?? "").replaceAll("_", " ");
  return el("span", { class: "badge", "data-tone": tone }, words.slice(0, 1).toUpperCase() + words.slice(1));
}
