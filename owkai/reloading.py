"""What SIGHUP does: reads the settings again, exchanges keys, certificate and revocation list, and reopens the audit file.

Each part is independent: a broken one stays as it was, with one line in the log, and the others are still exchanged.
The record in the audit trail has the outcome of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from config.load import Loaded
from config.problems import SettingsError
from config.secrets import secret_texts
from config.setting_keys import leaves
from config.settings import Settings
from handlers.application import ApiServer
from handlers.auth.revocations import RevokedFileError
from handlers.auth.token_keys import KeyFileError
from handlers.connections.tls import CertificateError
from handlers.services import Services
from owkai import logs

log = logging.getLogger(__name__)

# What is exchanged while the server runs; everything else waits for a restart.
EXCHANGED = frozenset(
    {
        "auth.jwt_secret", "auth.jwt_secret_file", "auth.jwt_public_key_file", "auth.jwt_overlap_seconds",
        "server.tls_certificate_file", "server.tls_key_file", "server.tls_key_password_file", "log.level", "log.format",
    }
)  # fmt: skip


class Reloading:
    """Holds the settings in force. `again` reads the settings again; None: only the files they name can change."""

    def __init__(
        self,
        loaded: Loaded,
        again: Callable[[], Loaded] | None,
        services: Services,
        server: ApiServer,
        try_source_now: Callable[[], None],
    ) -> None:
        self._settings = loaded.settings
        self._secrets = secret_texts(loaded.settings)
        self._again = again
        self._services = services
        self._server = server
        self._try_source_now = try_source_now

    def reload(self) -> None:
        """Exchange what can be. Raises nothing that a broken file can cause."""
        services = self._services
        services.audit.reopen()
        outcome, settings = self._read_settings()
        parts = {"settings": outcome}
        now = services.clock().timestamp()
        parts["tokens"] = attempt("tokens", lambda: services.verifier.ring.reload(settings.auth, now))
        parts["revocations"] = attempt("revocations", services.revocations.load)
        parts["certificate"] = attempt("certificate", lambda: self._server.reload_identity(settings.server))
        self._try_source_now()  # with the password that source.password_file holds now
        failed = [name for name, result in parts.items() if result == "kept"]
        services.audit.note("reload", outcome="error" if failed else "success", **parts)
        log.info("SIGHUP: %s", ", ".join(f"{name} {result}" for name, result in parts.items()))

    def _read_settings(self) -> tuple[str, Settings]:
        """The outcome (exchanged, unchanged, kept), and the settings in force now."""
        if self._again is None:
            return "unchanged", self._settings
        try:
            loaded = self._again()
        except SettingsError as error:
            log.error("the settings stay as they are: %s", "; ".join(error.lines))
            return "kept", self._settings
        different = [leaf.key for leaf in leaves() if leaf.value(loaded.settings) != leaf.value(self._settings)]
        if not different:
            return "unchanged", self._settings
        self._secrets = tuple(sorted({*self._secrets, *secret_texts(loaded.settings)}, key=len, reverse=True))
        logs.set_up(loaded.settings.log, self._secrets)
        exchanged = EXCHANGED | ({"source.password"} if self._reads_password_file(loaded.settings) else set())
        waiting = [key for key in different if key not in exchanged]
        if waiting:
            log.warning("a restart is needed for: %s", ", ".join(waiting))
        self._settings = loaded.settings
        return "exchanged, in part after a restart" if waiting else "exchanged", self._settings

    def _reads_password_file(self, later: Settings) -> bool:
        """Whether the source's password comes from a file, which every new connection reads."""
        file = self._settings.source.password_file
        return file is not None and file == later.source.password_file


def attempt(name: str, exchange: Callable[[], object]) -> str:
    """exchanged, unchanged, or kept where the new one cannot be used, which is logged."""
    try:
        return "exchanged" if exchange() else "unchanged"
    except (KeyFileError, RevokedFileError, CertificateError) as error:
        log.error("%s stay as they are: %s", name, error)
        return "kept"
