// Signing in: the key goes to the server once, and nothing of it stays in the browser.
import { arrivalNote, lastView, whoIsSignedIn } from "./account.js";
import { ask } from "./api.js";
import { byId, el, fill } from "./elements.js";

const NOTES = {
  ended: "Your session has ended. Please sign in again.",
  "signed-out": "You are signed out.",
};

function enter() {
  location.replace(`/${lastView()}`);
}

function say(words, requestId = null) {
  const box = byId("fault");
  box.hidden = words === "";
  fill(box, words, requestId ? el("span", { class: "request-id" }, ` Request id ${requestId}`) : null);
  byId("key").toggleAttribute("aria-invalid", words !== "");
}

function reason(problem) {
  if (problem.status === 401) return "This key is not accepted. It may be mistyped, expired or revoked.";
  if (problem.status === 429) return `Too many failed attempts from your address. Try again in ${problem.retrySeconds ?? 60} seconds.`;
  if (problem.unreachable) return "The server does not answer. Check the connection and try again.";
  return problem.message;
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = byId("key");
  const key = input.value.trim();
  if (key === "") {
    say("Enter your API key.");
    input.focus();
    return;
  }
  const button = byId("submit");
  button.disabled = true;
  say("");
  try {
    await ask("/session", { method: "POST", body: { api_key: key } });
    input.value = "";
    enter();
  } catch (problem) {
    say(reason(problem), problem.status === 401 ? null : problem.requestId);
    button.disabled = false;
    input.focus();
    input.select();
  }
});

// Until here the button was off: a form that is sent before this listens would be sent by the browser itself.
byId("submit").disabled = false;

byId("show-key").addEventListener("change", (event) => {
  byId("key").type = event.target.checked ? "text" : "password";
});

const note = arrivalNote();
if (Object.hasOwn(NOTES, note ?? "")) {
  byId("note").textContent = NOTES[note];
  byId("note").hidden = false;
}
if (note === null) {
  // Nobody has sent the visitor here: they may be signed in already.
  whoIsSignedIn().then(
    (account) => account && enter(),
    () => {}, // the form says what is wrong when it is used
  );
}
