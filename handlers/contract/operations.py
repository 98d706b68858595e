"""What each route answers, in words and types: the part of the contract that routes and parameters do not say themselves.

Keyed by the route's name. A route without an entry, or an entry without a route, stops the document from being made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from analytics.executive.responses import ExecutiveDashboard
from analytics.performance_responses import Performance
from analytics.predictive.responses import CollectingData, Predictions
from analytics.responses import DebugAction, RealTimeMetrics, Trends
from handlers import acknowledgements as acknowledging
from handlers.auth import signin
from handlers.contract.operational import Account, Acknowledged, Alive, Ready
from handlers.contract.reference import ASYNCAPI_PATH, OPENAPI_PATH, PAGE_PATH, STYLE_PATH
from handlers.dashboard import page

API = "/api/analytics"
JSON = "application/json"
TELEMETRY = "503 where a telemetry source is configured and has had nothing for telemetry.max_age_seconds."


@dataclass(frozen=True)
class Body:
    """A form of the answer. `kind` is its type, None for bytes that are no JSON; `examples` name documented ones."""

    media_type: str = JSON
    kind: Any = None
    examples: tuple[str, ...] = ()
    text: bool = False


@dataclass(frozen=True)
class PathParameter:
    """A part of a path that varies. `sample` is one that a route matches."""

    name: str
    schema: Mapping[str, Any]
    meaning: str
    sample: str


@dataclass(frozen=True)
class Operation:
    """A route in the document. `path` where it is not the route's name; `further` are statuses of its own."""

    id: str
    tag: str
    summary: str
    description: str
    bodies: tuple[Body, ...] = ()
    path: str = ""
    further: Mapping[str, str] = field(default_factory=dict)
    switchable: str = ""  # the setting that turns it into 404
    file_name: bool = False
    revalidated: bool = True  # has an ETag
    parameter: PathParameter | None = None


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        f"{API}/trends": Operation(
            "trends", "Analytics", "Trends of agents' actions and their risk",
            "High-risk actions by day, busiest agents and tools, newest actions. The last day is today, up to now.",
            (Body(JSON, Trends, ("trends",)),),
        ),
        f"{API}/realtime/metrics": Operation(
            "realtimeMetrics", "Analytics", "The last hour and day",
            "What agents and people do now, and the health of the platform where a telemetry source is configured. "
            "Under telemetry.strict " + TELEMETRY,
            (Body(JSON, RealTimeMetrics, ("realtime_metrics_cloudwatch", "realtime_metrics_without_cloudwatch")),),
        ),
        f"{API}/predictive/trends": Operation(
            "predictiveTrends", "Analytics", "Forecasts, anomalies and advice",
            "Seven days of high-risk actions with a calibrated band, the next day of the busiest agents, anomalies, what "
            "to do. With fewer than four complete days the answer says what is still missing.",
            (Body(JSON, Predictions | CollectingData, ("predictive_trends_active", "predictive_trends_collecting")),),
        ),
        acknowledging.NAME: Operation(
            "acknowledgement", "Analytics", "Acknowledging an anomaly",
            "For an analyst (auth.analyst_roles) or admin: an anomaly is known and needs nothing more. It is told for seven "
            "more days, with who acknowledged it, and leads to no recommendation. Survives restarts and new copies of the "
            "source. A cookie is taken with the exact Origin of a page of this server alone.",
            (Body(JSON, Acknowledged),),
            path=f"{API}/predictive/anomalies/{{anomaly_id}}/acknowledgement",
            parameter=PathParameter(
                "anomaly_id",
                MappingProxyType({"type": "string", "pattern": "^[0-9a-f]{16}$"}),
                "The anomaly's id in /predictive/trends.",
                "0123456789abcdef",
            ),
            revalidated=False,
        ),
        f"{API}/performance": Operation(
            "performance", "Analytics", "Performance of machine, application and database",
            "Machine and application come from the telemetry source; without one every key is there, with null. " + TELEMETRY,
            (Body(JSON, Performance, ("performance",)),),
        ),
        f"{API}/performance/system": Operation(
            "performanceSystem", "Analytics", "The same as /performance",
            "The path that older clients of the platform use.",
            (Body(JSON, Performance, ("performance",)),),
        ),
        f"{API}/debug": Operation(
            "debug", "Analytics", "The newest actions as the source has them",
            "Newest first; what the source does not have is null.",
            (Body(JSON, tuple[DebugAction, ...], ("debug",)),),
            switchable="server.debug_endpoint",
        ),
        f"{API}/executive/dashboard": Operation(
            "executiveDashboard", "Analytics", "Key figures for executives",
            "A period against the one before it: health, security, efficiency, compliance, users, insights. For admins.",
            (
                Body(JSON, ExecutiveDashboard, ("executive_dashboard",)),
                Body("text/csv", text=True),
                Body("application/pdf"),
            ),
            file_name=True,
        ),
        f"{API}/ws/realtime": Operation(
            "liveUpdates", "Live", "Live metrics over WebSocket",
            "The handshake of RFC 6455; the messages are in the AsyncAPI document. The address must be the caller's own. A "
            "browser's Origin must be listed in websocket.allowed_origins; only a client that shows a key or bearer token "
            "may come without one.",
            path=f"{API}/ws/realtime/{{user_email}}",
            parameter=PathParameter(
                "user_email",
                MappingProxyType({"type": "string", "minLength": 1}),
                "The caller's own e-mail address, whether in upper or lower case; any other is 403.",
                "user@company.com",
            ),
            further=MappingProxyType(
                {"101": "The connection is open.", "426": "The request is no WebSocket handshake of version 13."}
            ),
            revalidated=False,
        ),
        OPENAPI_PATH: Operation(
            "openapi", "Reference", "This document", "The same in every installation of this version.",
            (Body(JSON, dict),),
            switchable="server.reference",
        ),
        ASYNCAPI_PATH: Operation(
            "asyncapi", "Reference", "The AsyncAPI document of the live connection",
            "The same in every installation of this version.",
            (Body(JSON, dict),),
            switchable="server.reference",
        ),
        PAGE_PATH: Operation(
            "referencePage", "Reference", "This document to read", "A page without scripts; loads its style sheet alone.",
            (Body("text/html", text=True),),
            switchable="server.reference",
        ),
        STYLE_PATH: Operation(
            "referenceStyle", "Reference", "The style sheet of the page", "For light, dark and paper.",
            (Body("text/css", text=True),),
            switchable="server.reference",
        ),
        signin.PATH: Operation(
            "session", "Page", "Signing in on the page, asking who is signed in, signing out",
            "For any credential of a caller with an organization.",
            (Body(JSON, Account),),
            revalidated=False,
        ),
        "/": Operation(
            "dashboardPage", "Page", "The dashboard", "Holds no data; its scripts ask the API.", (Body("text/html", text=True),),
        ),
        "/sign-in": Operation(
            "signInPage", "Page", "Where a key is exchanged for a session", "Holds no data.", (Body("text/html", text=True),),
        ),
        page.ASSETS: Operation(
            "assets", "Page", "What the pages load", "The vendored files lie in /assets/vendor/.",
            tuple(Body(kind, text=True) for kind in ("text/javascript", "text/css", "image/svg+xml", "text/plain")),
            path=page.ASSETS + "{file}",
            parameter=PathParameter(
                "file",
                MappingProxyType({"enum": [name for name in page.ASSET_NAMES if "/" not in name]}),
                "Name of the file.",
                "app.js",
            ),
        ),
        "/healthz": Operation(
            "health", "Operations", "Whether the process answers", "Says nothing of the data; see /readyz.",
            (Body(JSON, Alive),),
            revalidated=False,
        ),
        "/readyz": Operation(
            "readiness", "Operations", "Whether data is served, how far behind, by which guarantee",
            "503 with the same body before the first copy of the source and while the server stops.",
            (Body(JSON, Ready),),
            revalidated=False,
        ),
        "/metrics": Operation(
            "metrics", "Operations", "Metrics for Prometheus",
            "Without a credential for direct requests from this machine; for an admin from elsewhere.",
            (Body("text/plain", text=True),),
            revalidated=False,
        ),
    }
)  # fmt: skip


def sample_path(name: str, **values: str) -> str:
    """A path that the route of this name matches; `values` stand for its varying part."""
    operation = OPERATIONS[name]
    path = operation.path or name
    if operation.parameter is not None:
        chosen = values.get(operation.parameter.name, operation.parameter.sample)
        path = path.replace(f"{{{operation.parameter.name}}}", chosen)
    return path
