"""The AsyncAPI 3 document of the live connection, from the types of its messages."""

from __future__ import annotations

from typing import Any

from analytics.responses import ConnectionMessage, MetricsUpdate
from handlers.contract.examples import completed
from handlers.contract.openapi import SCHEMES, VERSION, license_name
from handlers.contract.operational import MetricsFailure
from handlers.contract.schemas import Schemas
from handlers.live.frames import (
    CREDENTIAL_ENDED,
    GOING_AWAY,
    NOT_TEXT,
    POLICY_VIOLATION,
    PROTOCOL_ERROR,
    TOO_BIG,
    TRY_AGAIN_LATER,
)

Document = dict[str, Any]

ADDRESS = "/api/analytics/ws/realtime/{user_email}"
EMAIL = "The caller's own e-mail address, percent-encoded, whether in upper or lower case."
CLOSES = {
    GOING_AWAY: "the server stops; connect again",
    PROTOCOL_ERROR: "a frame against RFC 6455",
    NOT_TEXT: "text or a close reason that is not UTF-8",
    POLICY_VIOLATION: "more than a hundred frames in ten seconds, or no answer to a ping",
    TOO_BIG: "a message of more than 4096 bytes",
    TRY_AGAIN_LATER: "the client did not read; connect again when it can keep up",
    CREDENTIAL_ENDED: "the credential has ended, or what it allows has changed",
}
INTRODUCTION = (
    "A message at once, then one at every interval (websocket.interval_seconds, 10 by default). Clients have nothing to say: "
    "what they send is not read. The handshake takes the same credentials as the API; each of them is confirmed again before "
    "every message. A client that does not read is dropped.\n\nClose codes: "
    + "; ".join(f"{code}: {meaning}" for code, meaning in sorted(CLOSES.items()))
    + "."
)
MESSAGES = (
    ("connection", "The first message", ConnectionMessage, "ws_connection"),
    ("metricsUpdate", "The last hour of the caller's organization", MetricsUpdate, "ws_metrics_update"),
    ("metricsFailure", "In place of an update that could not be computed", MetricsFailure, ""),
)


def asyncapi() -> Document:
    """The document."""
    schemas = Schemas()
    payloads = {name: schemas.of(kind) for name, _, kind, _ in MESSAGES}
    components = schemas.components()
    messages: Document = {}
    for name, summary, _, example in MESSAGES:
        messages[name] = {
            "name": name,
            "summary": summary,
            "contentType": "application/json",
            "payload": payloads[name],
        }
        if example:
            messages[name]["examples"] = [{"payload": completed(example, payloads[name], components)}]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "OW-kai Analytics live updates",
            "version": VERSION,
            "description": INTRODUCTION,
            "license": {"name": license_name()["name"], "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "live": {
                "address": ADDRESS,
                "title": "Live metrics",
                "parameters": {"user_email": {"description": EMAIL}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "receiveLive": {
                "action": "send",
                "channel": {"$ref": "#/channels/live"},
                "title": "What the server sends",
                "messages": [{"$ref": f"#/channels/live/messages/{name}"} for name in messages],
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in SCHEMES],
            }
        },
        "components": {
            "schemas": components,
            "messages": messages,
            "securitySchemes": {name: channel_scheme(scheme) for name, scheme in SCHEMES.items()},
        },
    }


def channel_scheme(scheme: Document) -> Document:
    """A security scheme of OpenAPI as AsyncAPI says it: a key in a header or cookie is an httpApiKey there."""
    return {**scheme, "type": "httpApiKey"} if scheme["type"] == "apiKey" else dict(scheme)
