"""The responses of each route, in words and types: the part of the contract that routes and parameters do not contain.

Keyed by the route's name. Generation fails if a route has no entry or an entry has no route.
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
TELEMETRY = "503 if a telemetry source is configured and has delivered no values for telemetry.max_age_seconds."


@dataclass(frozen=True)
class Body:
    """A form of the response body. `kind` is its type, None for bytes other than JSON; `examples` names documented examples."""

    media_type: str = JSON
    kind: Any = None
    examples: tuple[str, ...] = ()
    text: bool = False


@dataclass(frozen=True)
class PathParameter:
    """A variable part of a path. `sample` is a value that the route matches."""

    name: str
    schema: Mapping[str, Any]
    meaning: str
    sample: str


@dataclass(frozen=True)
class Operation:
    """A route in the document. `path` if it differs from the route's name; `further` has statuses specific to the route."""

    id: str
    tag: str
    summary: str
    description: str
    bodies: tuple[Body, ...] = ()
    path: str = ""
    further: Mapping[str, str] = field(default_factory=dict)
    switchable: str = ""  # the setting that disables it (404)
    file_name: bool = False
    revalidated: bool = True  # has an ETag
    parameter: PathParameter | None = None


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        f"{API}/trends": Operation(
            "trends", "Analytics", "Trends of agent actions and risk",
            "High-risk actions by day, most active agents and tools, latest actions. The last day is today so far.",
            (Body(JSON, Trends, ("trends",)),),
        ),
        f"{API}/realtime/metrics": Operation(
            "realtimeMetrics", "Analytics", "The last hour and day",
            "Current activity of agents and users, and platform health if a telemetry source is configured. "
            "With telemetry.strict, " + TELEMETRY,
            (Body(JSON, RealTimeMetrics, ("realtime_metrics_cloudwatch", "realtime_metrics_without_cloudwatch")),),
        ),
        f"{API}/predictive/trends": Operation(
            "predictiveTrends", "Analytics", "Forecasts, anomalies and recommendations",
            "High-risk actions for the next seven days with a calibrated range, the next day's workload of the most active "
            "agents, anomalies and recommendations. With fewer than four complete days of data, what is still missing.",
            (Body(JSON, Predictions | CollectingData, ("predictive_trends_active", "predictive_trends_collecting")),),
        ),
        acknowledging.NAME: Operation(
            "acknowledgement", "Analytics", "Acknowledgement of an anomaly",
            "Marks an anomaly as known. The server reports an acknowledged anomaly for seven more days, with the user who "
            "acknowledged it, and makes no recommendation for it. Acknowledgements survive restarts and new copies of the "
            "source. The server accepts a cookie only with the exact Origin of one of its pages. Analysts are the roles in "
            "auth.analyst_roles.",
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
            "performance", "Analytics", "Host, application and database performance",
            "Host and application values come from the telemetry source. Without one, all members are present and null. " + TELEMETRY,
            (Body(JSON, Performance, ("performance",)),),
        ),
        f"{API}/performance/system": Operation(
            "performanceSystem", "Analytics", "The same as /performance",
            "The path used by older clients of the platform.",
            (Body(JSON, Performance, ("performance",)),),
        ),
        f"{API}/debug": Operation(
            "debug", "Analytics", "The latest actions, unprocessed",
            "As in the source, newest first. Values that the source lacks are null.",
            (Body(JSON, tuple[DebugAction, ...], ("debug",)),),
            switchable="server.debug_endpoint",
        ),
        f"{API}/executive/dashboard": Operation(
            "executiveDashboard", "Analytics", "Executive dashboard",
            "A period compared with the one before: health, security, efficiency, compliance, users and insights.",
            (
                Body(JSON, ExecutiveDashboard, ("executive_dashboard",)),
                Body("text/csv", text=True),
                Body("application/pdf"),
            ),
            file_name=True,
        ),
        f"{API}/ws/realtime": Operation(
            "liveUpdates", "Live", "Live metrics over WebSocket",
            "The handshake of RFC 6455; the AsyncAPI document describes the messages. The e-mail address must be the caller's "
            "own. The Origin must be listed in websocket.allowed_origins; only clients with a key or bearer token "
            "may omit it.",
            path=f"{API}/ws/realtime/{{user_email}}",
            parameter=PathParameter(
                "user_email",
                MappingProxyType({"type": "string", "minLength": 1}),
                "The caller's own e-mail address. Case does not matter; any other address is refused with 403.",
                "user@company.com",
            ),
            further=MappingProxyType(
                {"101": "The connection is open.", "426": "The request is not a WebSocket handshake of version 13."}
            ),
            revalidated=False,
        ),
        OPENAPI_PATH: Operation(
            "openapi", "Reference", "The OpenAPI document", "The same in every installation of this version.",
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
            "referencePage", "Reference", "This reference", "A page without scripts; it loads only its style sheet.",
            (Body("text/html", text=True),),
            switchable="server.reference",
        ),
        STYLE_PATH: Operation(
            "referenceStyle", "Reference", "Style sheet of the reference", "For light and dark themes and print.",
            (Body("text/css", text=True),),
            switchable="server.reference",
        ),
        signin.PATH: Operation(
            "session", "Page", "Sign in on the page, get the signed-in user, sign out",
            "Accepts any credential whose caller belongs to an organization.",
            (Body(JSON, Account),),
            revalidated=False,
        ),
        "/": Operation(
            "dashboardPage", "Page", "The dashboard", "Contains no data; its scripts request it from the API.",
            (Body("text/html", text=True),),
        ),
        "/sign-in": Operation(
            "signInPage", "Page", "The sign-in page", "Contains no data. It exchanges a key for a session.",
            (Body("text/html", text=True),),
        ),
        page.ASSETS: Operation(
            "assets", "Page", "Scripts, styles and images of the pages", "Third-party files are in /assets/vendor/.",
            tuple(Body(kind, text=True) for kind in ("text/javascript", "text/css", "image/svg+xml", "text/plain")),
            path=page.ASSETS + "{file}",
            parameter=PathParameter(
                "file",
                MappingProxyType({"enum": [name for name in page.ASSET_NAMES if "/" not in name]}),
                "File name.",
                "app.js",
            ),
        ),
        "/healthz": Operation(
            "health", "Operations", "Liveness", "Shows that the process responds. For the state of the data, see /readyz.",
            (Body(JSON, Alive),),
            revalidated=False,
        ),
        "/readyz": Operation(
            "readiness", "Operations", "Readiness, lag and guarantee of the data",
            "503 with the same body until the initial copy is complete and during shutdown.",
            (Body(JSON, Ready),),
            revalidated=False,
        ),
        "/metrics": Operation(
            "metrics", "Operations", "Metrics for Prometheus",
            "Direct requests from this machine need no credential; other requests need an admin's.",
            (Body("text/plain", text=True),),
            revalidated=False,
        ),
    }
)  # fmt: skip


def sample_path(name: str, **values: str) -> str:
    """A path that the route of this name matches; `values` replaces its variable part."""
    operation = OPERATIONS[name]
    path = operation.path or name
    if operation.parameter is not None:
        chosen = values.get(operation.parameter.name, operation.parameter.sample)
        path = path.replace(f"{{{operation.parameter.name}}}", chosen)
    return path
