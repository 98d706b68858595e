// Asking the server. Every failure is a Problem: words for people, the request id for whoever looks it up.
export const API = "/api/analytics";
const PATIENCE_MILLISECONDS = 20_000;

export class Problem extends Error {
  constructor(status, detail, { requestId = null, retrySeconds = null, parameter = null, sessionEnded = false } = {}) {
    super(detail);
    this.status = status; // 0: no answer
    this.requestId = requestId;
    this.retrySeconds = retrySeconds;
    this.parameter = parameter;
    this.sessionEnded = sessionEnded;
  }

  get unreachable() {
    return this.status === 0;
  }
}

export async function ask(path, { method = "GET", body = null } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      body: body === null ? null : JSON.stringify(body),
      headers: body === null ? {} : { "Content-Type": "application/json" },
      cache: method === "GET" ? "no-cache" : "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MILLISECONDS),
    });
  } catch {
    throw new Problem(0, "The server does not answer.");
  }
  const text = await response.text().catch(() => {
    throw new Problem(0, "The answer broke off.");
  });
  let document = null;
  try {
    document = text === "" ? null : JSON.parse(text);
  } catch {
    throw new Problem(response.status, "The answer is not what was asked for.", { requestId: response.headers.get("X-Request-Id") });
  }
  const mock = response.headers.get("X-OWKAI-Mock-Data") === "true";
  if (response.ok || (path === "/readyz" && document?.state)) return { body: document, mock };
  throw new Problem(response.status, sentence(document?.detail ?? `The server answered ${response.status}.`), {
    requestId: document?.request_id ?? response.headers.get("X-Request-Id"),
    retrySeconds: Number.parseInt(response.headers.get("Retry-After") ?? "", 10) || null,
    parameter: document?.parameter ?? null,
    sessionEnded: document?.session_ended === true,
  });
}

function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
