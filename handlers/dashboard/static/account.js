// Who is signed in, and signing out.
import { Problem, ask } from "./api.js";
import { byId, fact, fill, name } from "./elements.js";
import { moment } from "./format.js";

const NOTE = "owkai.sign-in";
const VIEW = "owkai.view";

// To the sign-in page, with a word on why; the view comes back afterwards.
export function leave(reason) {
  try {
    sessionStorage.setItem(NOTE, reason);
    sessionStorage.setItem(VIEW, location.hash);
  } catch {
    // the page then says nothing
  }
  location.replace("/sign-in");
}

export function arrivalNote() {
  try {
    const note = sessionStorage.getItem(NOTE);
    sessionStorage.removeItem(NOTE);
    return note;
  } catch {
    return null;
  }
}

export function lastView() {
  try {
    return /^#[a-z]{1,20}$/.test(sessionStorage.getItem(VIEW) ?? "") ? sessionStorage.getItem(VIEW) : "";
  } catch {
    return "";
  }
}

// The account, or null when nobody is signed in. Asks twice at most: a cookie that another host has set is not ours to delete.
export async function whoIsSignedIn(mayAskAgain = true) {
  try {
    return (await ask("/session")).body;
  } catch (problem) {
    // The browser has forgotten the session that ended; one of the platform may stand behind it.
    if (problem.sessionEnded && mayAskAgain) return whoIsSignedIn(false);
    if (problem.status === 401) return null;
    throw problem;
  }
}

export function showAccount(account) {
  const menu = byId("account");
  byId("account-name").textContent = account.email || "Signed in";
  byId("account-initial").textContent = (account.email || "?").slice(0, 1).toUpperCase();
  const out = byId("sign-out");
  const words = byId("account-note");
  const byPlatform = account.signed_in_by !== "page";
  const show = () =>
    fill(
      byId("account-facts"),
      fact("Signed in as", name(account.email || "no address")),
      fact("Role", name(account.role || "none"), account.admin ? " (administrator)" : ""),
      fact("Organization", String(account.organization_id)),
      fact("Ends at the latest", account.expires_at ? moment(account.expires_at) : "no end of its own"),
    );
  show();
  document.addEventListener("redraw", show);
  if (byPlatform) {
    out.hidden = true;
    words.textContent = "Signed in through the platform. Sign out there.";
  }
  out.addEventListener("click", async () => {
    out.disabled = true;
    try {
      await ask("/session", { method: "DELETE" });
      document.dispatchEvent(new Event("leaving"));
      leave("signed-out");
    } catch (problem) {
      out.disabled = false;
      words.textContent = problem instanceof Problem ? `Not signed out. ${problem.message}` : "Not signed out.";
    }
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  document.addEventListener("pointerdown", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
}
