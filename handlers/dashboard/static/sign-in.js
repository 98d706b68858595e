// The sign-in page. The key is sent to the server once; the browser does not store it.
import { takeSignInReason, savedView, fetchAccount } from "./account.js";
import { request } from "./api.js";
import { byId, el, fill } from "./elements.js";

const NOTES = {
  ended: "Your session has expired. Sign in again.",
  "signed-out": "You have signed out.",
};

function enter() {
  location.replace(`/${savedView()}`);
}

function showFailure(text, requestId = null) {
  const box = byId("fault");
  box.hidden = text === "";
  fill(box, text, requestId ? el("span", { class: "request-id" }, ` Request ID ${requestId}`) : null);
  byId("key").toggleAttribute("aria-invalid", text !== "");
}

function reason(error) {
  if (error.status === 401) return "Invalid key. It may be mistyped, expired, or revoked.";
  if (error.status === 429) return `Too many failed attempts from your network address. Try again in ${error.retrySeconds ?? 60} seconds.`;
  if (error.unreachable) return "The server is unreachable. Check your connection and try again.";
  return error.message;
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = byId("key");
  const key = input.value.trim();
  if (key === "") {
    showFailure("Enter your API key.");
    input.focus();
    return;
  }
  const button = byId("submit");
  button.disabled = true;
  showFailure("");
  try {
    await request("/session", { method: "POST", body: { api_key: key } });
    input.value = "";
    enter();
  } catch (error) {
    showFailure(reason(error), error.status === 401 ? null : error.requestId);
    button.disabled = false;
    input.focus();
    input.select();
  }
});

// The button is disabled until this script listens; otherwise the browser would submit the form itself.
byId("submit").disabled = false;

byId("show-key").addEventListener("change", (event) => {
  byId("key").type = event.target.checked ? "text" : "password";
});

const note = takeSignInReason();
if (Object.hasOwn(NOTES, note ?? "")) {
  byId("note").textContent = NOTES[note];
  byId("note").hidden = false;
}
if (note === null) {
  // The visitor came here directly and may already be signed in.
  fetchAccount().then(
    (account) => account && enter(),
    () => {}, // the form reports the failure when it is used
  );
}
