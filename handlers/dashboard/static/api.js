// Requests to the server. Every failure is a RequestError with a message for the viewer and the request ID for the logs.
export const API = "/api/analytics";
const TIMEOUT_MILLISECONDS = 20_000;

export class RequestError extends Error {
  constructor(status, detail, { requestId = null, retrySeconds = null, parameter = null, sessionEnded = false } = {}) {
    super(detail);
    this.status = status; // 0: no response
    this.requestId = requestId;
    this.retrySeconds = retrySeconds;
    this.parameter = parameter;
    this.sessionEnded = sessionEnded;
  }

  get unreachable() {
    return this.status === 0;
  }
}

export async function request(path, { method = "GET", body = null } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      body: body === null ? null : JSON.stringify(body),
      headers: body === null ? {} : { "Content-Type": "application/json" },
      cache: method === "GET" ? "no-cache" : "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
    });
  } catch {
    throw new RequestError(0, "The server is unreachable.");
  }
  const text = await response.text().catch(() => {
    throw new RequestError(0, "The connection was lost during the response.");
  });
  let document = null;
  try {
    document = text === "" ? null : JSON.parse(text);
  } catch {
    throw new RequestError(response.status, "The server sent an invalid response.", { requestId: response.headers.get("X-Request-Id") });
  }
  const mock = response.headers.get("X-OWKAI-Mock-Data") === "true";
  if (response.ok || (path === "/readyz" && document?.state)) return { body: document, mock };
  throw new RequestError(response.status, sentence(document?.detail ?? `The server responded with status ${response.status}.`), {
    requestId: document?.request_id ?? response.headers.get("X-Request-Id"),
    retrySeconds: Number.parseInt(response.headers.get("Retry-After") ?? "", 10) || null,
    parameter: document?.parameter ?? null,
    sessionEnded: document?.session_ended === true,
  });
}

function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
