// Builds elements. Text is only ever set as text, so a name from the data cannot become markup.

// el("td", { class: "number" }, "12"): omits attributes and children that are null or false.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on") || attribute === "style") throw new TypeError(`no ${attribute} attribute`);
    if (value !== null && value !== undefined && value !== false) element.setAttribute(attribute, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Text from the data, isolated so that bidirectional control characters do not affect the text around it.
export function isolated(text, attributes = {}) {
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

// A labeled value: <dt>, <dd>.
export function fact(term, ...value) {
  return el("div", { class: "fact" }, el("dt", {}, term), el("dd", {}, ...value));
}

const RISKS = { critical: "Critical", high: "High", medium: "Medium", low: "Low" };

export function riskBadge(level) {
  const known = Object.hasOwn(RISKS, level);
  return el("span", { class: "badge", "data-risk": known ? level : "unknown" }, known ? RISKS[level] : "Unknown");
}

// A status badge. `tone`: good, warning, bad or neutral.
export function stateBadge(text, tone = "neutral") {
  const label = String(text ?? "").replaceAll("_", " ");
  return el("span", { class: "badge", "data-tone": tone }, label.slice(0, 1).toUpperCase() + label.slice(1));
}
