"""Wires the packages together: builds everything that a running server uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache as cached
from importlib.metadata import version as installed_version
from zoneinfo import available_timezones

from analytics.directory import Directory
from analytics.predictive.forecast_record import open_forecast_record
from analytics.predictive.schedule import Forecasting
from analytics.state.cache import Cache
from analytics.state.sync_status import StatusBoard
from analytics.state.telemetry_board import TelemetryBoard
from analytics.views import Publisher
from config.rules import advice
from config.settings import Settings
from handlers.allowance import Allowances
from handlers.audit.audit_log import open_journal
from handlers.auth.authenticator import Authenticator, Proof, read_proof, write_proof
from handlers.auth.failure_limits import FailureLimiter
from handlers.auth.key_store import KeyStore
from handlers.auth.revocations import Revocations
from handlers.auth.session_file import SessionFile
from handlers.auth.sessions import Sessions
from handlers.auth.tokens import TokenVerifier
from handlers.connections.address import parse_networks
from handlers.metrics.server_metrics import ServerMetrics
from handlers.origins import Origins
from handlers.services import Services
from owkai.commands.build_facts import DISTRIBUTION, gathered

NOT_ZONES = frozenset({"localtime", "Factory"})  # a machine's own setting, and "no zone"


def make_services(
    settings: Settings,
    cache: Cache,
    board: StatusBoard,
    clock: Callable[[], datetime],
    telemetry: TelemetryBoard | None = None,
) -> Services:
    """Build the services. Raises `AuditFileError` or ValueError (key files, key store, revocation list), each naming its setting."""
    verifier = TokenVerifier(settings.auth)
    trusted_proxies = parse_networks(settings.server.trusted_proxies)
    keys = KeyStore(settings.keys_file, clock)
    keys.load()
    revocations = Revocations(settings.auth.revoked_file)
    revocations.load()
    audit = open_journal(settings, clock, board.jobs)
    telemetry = telemetry or TelemetryBoard()
    forecast_record = open_forecast_record(None if settings.cache.in_memory else settings.cache.directory)
    forecasting = Forecasting(cache, settings, clock, forecast_record, board.jobs)
    publisher = Publisher(cache, board, settings, clock, telemetry, forecasting)
    directory = Directory(cache, publisher.lookups)
    sessions: Sessions[Proof] = Sessions(
        timedelta(seconds=settings.auth.session_idle_seconds),
        timedelta(seconds=settings.auth.session_max_seconds),
        settings.auth.max_sessions,
        settings.auth.max_sessions_per_user,
        None if settings.cache.in_memory else SessionFile(settings.cache.directory, write_proof, read_proof),
    )
    sessions.restore(clock())
    return Services(
        settings=settings,
        cache=cache,
        board=board,
        telemetry=telemetry,
        publisher=publisher,
        forecasting=forecasting,
        directory=directory,
        keys=keys,
        audit=audit,
        limiter=FailureLimiter(settings.auth.failed_limit, settings.auth.failed_window_seconds),
        prefix_limiter=FailureLimiter(settings.auth.failed_limit_per_key, settings.auth.failed_window_seconds),
        allowances=Allowances(settings.server),
        sessions=sessions,
        origins=Origins(settings),
        authenticator=Authenticator(
            settings.auth,
            verifier,
            directory,
            keys,
            sessions,
            revocations,
            users_are_mapped=bool(settings.source.tables.users),
        ),
        verifier=verifier,
        revocations=revocations,
        clock=clock,
        zones=zone_names(),
        trusted_proxies=trusted_proxies,
        settings_warnings=len(advice(settings)),
        metrics=ServerMetrics(build_labels()),
    )


@cached
def zone_names() -> frozenset[str]:
    """The names that `tz` may have. Reading the zone database takes a while, so it is read once."""
    return frozenset(available_timezones()) - NOT_ZONES


@cached
def build_labels() -> Mapping[str, str]:
    """The labels of owkai_build_info."""
    facts = gathered(installed_version(DISTRIBUTION))
    return {name: str(facts.get(name, "")) for name in ("version", "commit", "python")}
