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
EMAIL = "The caller's own e-mail address, percent-encoded. Case does not matter."
CLOSES = {
    GOING_AWAY: "the server is shutting down; reconnect",
    PROTOCOL_ERROR: "a frame that violates RFC 6455",
    NOT_TEXT: "a text message or close reason that is not valid UTF-8",
    POLICY_VIOLATION: "more than 100 frames in ten seconds, or no response to a ping",
    TOO_BIG: "a message larger than 4096 bytes",
    TRY_AGAIN_LATER: "the client did not read fast enough; reconnect when it can keep up",
    CREDENTIAL_ENDED: "the credential has ended, or its permissions have changed",
}
INTRODUCTION = (
    "The server sends one message on connection, then one per interval (websocket.interval_seconds, 10 by default). It ignores "
    "what clients send. The handshake accepts the same credentials as the API and the server checks them again before "
    "every message. It disconnects clients that do not read.\n\nClose codes: "
    + "; ".join(f"{code}: {meaning}" for code, meaning in sorted(CLOSES.items()))
    + "."
)
MESSAGES = (
    ("connection", "The first message", ConnectionMessage, "ws_connection"),
    ("metricsUpdate", "Metrics of the caller's organization for the last hour", MetricsUpdate, "ws_metrics_update"),
    ("metricsFailure", "Sent when an update could not be computed", MetricsFailure, ""),
)


def asyncapi() -> Document:
    """The AsyncAPI document."""
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
    """An OpenAPI security scheme in AsyncAPI's terms, where a key in a header or cookie is an httpApiKey."""
    return {**scheme, "type": "httpApiKey"} if scheme["type"] == "apiKey" else dict(scheme)
