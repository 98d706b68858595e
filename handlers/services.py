"""What the handlers work with: one object, built by `owkai.wiring` and passed to every handler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from analytics.directory import Directory
from analytics.predictive.schedule import Forecasting
from analytics.state.cache import Cache
from analytics.state.sync_status import StatusBoard
from analytics.state.telemetry_board import TelemetryBoard
from analytics.views import Publisher
from config.settings import Settings
from handlers.allowance import Allowances
from handlers.audit.audit_log import AuditLog
from handlers.auth.authenticator import Authenticator, Proof
from handlers.auth.failure_limits import FailureLimiter
from handlers.auth.key_store import KeyStore
from handlers.auth.revocations import Revocations
from handlers.auth.sessions import Sessions
from handlers.auth.tokens import TokenVerifier
from handlers.connections.address import Network
from handlers.metrics.server_metrics import ServerMetrics
from handlers.origins import Origins


@dataclass
class Services:
    """Everything a request may touch. `draining` is set when the server stops taking work."""

    settings: Settings
    cache: Cache
    board: StatusBoard
    telemetry: TelemetryBoard
    publisher: Publisher
    forecasting: Forecasting
    directory: Directory
    keys: KeyStore
    audit: AuditLog
    limiter: FailureLimiter
    prefix_limiter: FailureLimiter
    allowances: Allowances
    sessions: Sessions[Proof]
    origins: Origins
    authenticator: Authenticator
    verifier: TokenVerifier
    revocations: Revocations
    clock: Callable[[], datetime]
    zones: frozenset[str]
    trusted_proxies: tuple[Network, ...]
    settings_warnings: int  # `owkai check` and the log at start name them
    metrics: ServerMetrics
    draining: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Stop the workers and write the rest of the audit record. The cache belongs to the caller. Idempotent."""
        self.forecasting.close()
        self.publisher.close()
        self.sessions.shut()
        self.audit.close()
