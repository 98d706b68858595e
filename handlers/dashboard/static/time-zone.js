// The time zone of the page: the viewer's own or UTC, stored in this browser. The API counts days in it where it can.
import { byId } from "./elements.js";

const KEY = "owkai.zone";

function own() {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

function stored() {
  try {
    return localStorage.getItem(KEY) === "utc";
  } catch {
    return false;
  }
}

// Whether these UTC dates are the same days in a zone.
export function areDaysOf(zoneName, utcDates) {
  const local = new Intl.DateTimeFormat("en-GB", { timeZone: zoneName, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return utcDates.every((date) => local.format(new Date(`${date}T00:00:00Z`)) === "00:00");
}

class Zone extends EventTarget {
  #utc = stored();
  #refused = false;

  get current() {
    return this.#utc || this.#refused ? "UTC" : own();
  }

  // Connect a <select> with the values "own" and "utc".
  connect(select) {
    const [first] = select.options;
    first.textContent = own().replaceAll("_", " ");
    if (own() === "UTC") {
      select.replaceChildren(first);
    }
    select.value = this.#utc && own() !== "UTC" ? "utc" : "own";
    this.#name();
    this.addEventListener("change", () => this.#name());
    select.addEventListener("change", () => {
      this.#utc = select.value === "utc";
      this.#refused = false;
      try {
        localStorage.setItem(KEY, select.value);
      } catch {
        // applies to this visit only
      }
      this.dispatchEvent(new Event("change"));
    });
  }

  #name() {
    byId("zone-name").textContent = this.current.replaceAll("_", " ");
  }

  // The server does not know the viewer's zone: use UTC.
  refuse() {
    if (!this.#refused) {
      this.#refused = true;
      this.dispatchEvent(new Event("change"));
    }
  }
}

export const zone = new Zone();
