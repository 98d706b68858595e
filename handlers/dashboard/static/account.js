// The signed-in account and signing out.
import { RequestError, request } from "./api.js";
import { byId, fact, fill, isolated } from "./elements.js";
import { timestamp } from "./format.js";

const NOTE = "owkai.sign-in";
const VIEW = "owkai.view";

let signingOut = false;

// Go to the sign-in page, which shows the reason; the current view is restored after signing in.
export function goToSignIn(reason) {
  if (signingOut && reason === "ended") return; // another request noticed the end of the session first
  try {
    sessionStorage.setItem(NOTE, reason);
    sessionStorage.setItem(VIEW, location.hash);
  } catch {
    // without storage, the sign-in page shows no reason
  }
  location.replace("/sign-in");
}

export function takeSignInReason() {
  try {
    const note = sessionStorage.getItem(NOTE);
    sessionStorage.removeItem(NOTE);
    return note;
  } catch {
    return null;
  }
}

export function savedView() {
  try {
    return /^#[a-z]{1,20}$/.test(sessionStorage.getItem(VIEW) ?? "") ? sessionStorage.getItem(VIEW) : "";
  } catch {
    return "";
  }
}

// The account, or null when no one is signed in. Retries once: a cookie set by another host cannot be deleted here.
export async function fetchAccount(mayRetry = true) {
  try {
    return (await request("/session")).body;
  } catch (error) {
    // The browser has dropped the ended session; the cookie of the platform may still be valid.
    if (error.sessionEnded && mayRetry) return fetchAccount(false);
    if (error.status === 401) return null;
    throw error;
  }
}

export function showAccount(account) {
  const menu = byId("account");
  byId("account-name").textContent = account.email || "Signed in";
  byId("account-initial").textContent = (account.email || "?").slice(0, 1).toUpperCase();
  const out = byId("sign-out");
  const note = byId("account-note");
  const byPlatform = account.signed_in_by !== "page";
  const show = () =>
    fill(
      byId("account-facts"),
      fact("Signed in as", isolated(account.email || "no email address")),
      fact("Role", isolated(account.role || "none"), account.admin ? " (admin)" : ""),
      fact("Organization", isolated(account.organization_name ?? ""), account.organization_name ? ` (${account.organization_id})` : String(account.organization_id)),
      fact("Session expires", account.expires_at ? timestamp(account.expires_at) : "never"),
    );
  show();
  document.addEventListener("redraw", show);
  if (byPlatform) {
    out.hidden = true;
    note.textContent = "Signed in by the platform. Sign out there.";
  }
  out.addEventListener("click", async () => {
    out.disabled = true;
    signingOut = true;
    try {
      await request("/session", { method: "DELETE" });
      document.dispatchEvent(new Event("leaving"));
      goToSignIn("signed-out");
    } catch (error) {
      signingOut = false;
      out.disabled = false;
      note.textContent = error instanceof RequestError ? `Sign-out failed. ${error.message}` : "Sign-out failed.";
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
