"""/session: signing in on the page with a key, showing who is signed in, signing out.

The key comes once, in the body or a header of the POST, and is forgotten when it has been proved. The browser keeps the id
of a session, in a cookie that no script reads and no other site sends. POST and DELETE change something, so they need the
exact origin of one of our pages; a browser always sends it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from http.cookies import Morsel
from typing import Any
from urllib.parse import quote

from config.utc_text import utc_text
from handlers.auth.authenticator import Authentication, Proof, require_organization
from handlers.auth.credentials import (
    COOKIE,
    PAGE_COOKIE,
    PAGE_COOKIES,
    SECURE_PAGE_COOKIE,
    Presented,
    token_or_key,
)
from handlers.auth.request_authentication import may_analyze
from handlers.auth.sessions import Session, SessionsFullError
from handlers.auth.sessions import digest as digest_of
from handlers.auth.tokens import Claims
from handlers.base import ApiHandler
from handlers.live.broadcaster import user_of
from handlers.parameters import read_options
from handlers.problem import Refusal, bad_request, forbidden
from handlers.redaction import shown

PATH = "/session"
METHODS = ("GET", "HEAD", "POST", "DELETE")
LIVE_PATH = "/api/analytics/ws/realtime/"
MAX_BODY_BYTES = 4096
ORIGIN_REFUSED = "This page may not sign in here; its address is not in websocket.allowed_origins"
BODY_FORM = 'The body must be {"api_key": "..."} and nothing else'
ONE_CREDENTIAL = "Give one API key, in the body or in a header"
RETRY_SECONDS = 60


class SessionHandler(ApiHandler):
    """The caller's session. Public in the table of routes because each method has its own rule, stated here.

    GET: any credential with an organization; 401 without. POST: a valid key or token of such a caller, 201. DELETE:
    anyone; without a session nothing happens, 204.
    """

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")  # type: ignore[assignment]
    event = "access"
    ended: Session[Proof] | None = None

    async def get(self) -> None:
        read_options(self.request.query_arguments, (), self.services.zones)
        try:
            self.caller = await self.authentication.authenticate()
        except Refusal as refusal:
            raise self._without_dead_cookie(refusal) from refusal
        self.count_request(self.caller.principal)
        require_organization(self.caller.principal)
        self._send_account(self.caller)

    async def head(self) -> None:
        await self.get()

    async def post(self) -> None:
        self.event = "sign_in"
        read_options(self.request.query_arguments, (), self.services.zones)
        self._require_own_origin()
        self.authentication.require_safe_arrival()
        presented = self._presented_key()
        self.caller = await self.authentication.verify((presented,))
        self.count_request(self.caller.principal)
        require_organization(self.caller.principal)
        services, now = self.services, self.services.clock()
        self._close_presented()
        name = SECURE_PAGE_COOKIE if self.request.headers["Origin"].startswith("https://") else PAGE_COOKIE
        try:
            text, session = services.sessions.open(self.caller.proof, user_of(self.caller), now, name)
        except SessionsFullError:
            raise Refusal(
                503, "Too many people are signed in", "sessions_full", {"Retry-After": str(RETRY_SECONDS)}
            ) from None
        await services.sessions.settled()
        self.caller = replace(self.caller, proof=replace(self.caller.proof, session=session.digest))
        self.add_header("Set-Cookie", cookie(name, text))
        self.set_status(201)
        self._send_account(self.caller)

    async def delete(self) -> None:
        self.event = "sign_out"
        read_options(self.request.query_arguments, (), self.services.zones)
        self._require_own_origin()
        self._close_presented()
        await self.services.sessions.settled()
        for name in PAGE_COOKIES:
            self.add_header("Set-Cookie", cookie(name, None))
        self.set_status(204)
        self.clear_header("Content-Type")
        self.finish()

    def audit_entry(self, path: str, status: int) -> dict[str, Any]:
        entry = super().audit_entry(path, status) | {"event": self.event}
        if self.event == "sign_out" and self.ended is not None:
            organization_id, user_id, email = self.ended.owner
            entry |= {
                "principal": shown(str(email)),
                "user_id": user_id,
                "organization_id": organization_id,
                "credential_id": self.ended.proof.identifier[:16],
            }
        return entry

    # -- the request -----------------------------------------------------------------------------------------------

    def _require_own_origin(self) -> None:
        headers = self.request.headers
        origins = headers.get_list("Origin")
        # Sec-Fetch-Site is set by the browser itself; an allowed origin that is not this page's own does not sign in here.
        if (
            len(origins) != 1
            or origins[0] not in self.services.origins
            or headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        ):
            raise forbidden(ORIGIN_REFUSED, "origin_not_allowed")

    def _presented_key(self) -> Presented:
        headers, body = self.request.headers, self.request.body
        presented = [
            found
            for found in self.authentication.find_presented(self.services.settings.auth.cookie_names)
            if not found.from_cookie
        ]
        if "Content-Type" in headers:  # the gate lets none but JSON through
            presented.append(token_or_key(read_key(body), "sign-in"))
        elif headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers:
            raise Refusal(415, "The body must be application/json", "content_type")
        if len(presented) != 1:
            raise bad_request(ONE_CREDENTIAL, "one_credential")
        return presented[0]

    def _page_session(self) -> Presented | None:
        """The session of ours that the request presents, open or not."""
        try:
            presented = self.authentication.find_presented(())
        except Refusal:
            return None
        return next((found for found in presented if found.kind == "session"), None)

    def _close_presented(self) -> None:
        presented = self._page_session()
        if presented is not None:
            sessions, session_digest = self.services.sessions, digest_of(presented.text)
            self.ended = sessions.find(session_digest, self.services.clock())
            sessions.close(session_digest)

    def _without_dead_cookie(self, refusal: Refusal) -> Refusal:
        """The refusal that also makes the browser forget a session which has ended, or every later request would be refused. A session
        that is open stays, whatever else was refused."""
        presented = self._page_session()
        if presented is None or self.authentication.is_known(presented):
            return refusal
        forget = cookie(presented.source.removeprefix(COOKIE), None)
        return replace(refusal, headers={**refusal.headers, "Set-Cookie": forget}, extra={"session_ended": True})

    # -- the response -----------------------------------------------------------------------------------------------

    def _send_account(self, caller: Authentication) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Vary", "Cookie, Authorization, X-API-Key")
        self.finish(json.dumps(self._account(caller)).encode())

    def _account(self, caller: Authentication) -> dict[str, Any]:
        """Who is signed in. `expires_at` is when at the latest; null: the credential has no end of its own."""
        principal, proof = caller.principal, caller.proof
        services = self.services
        session = None if proof.session is None else services.sessions.find(proof.session, services.clock())
        ends = [] if session is None else [session.ends_at.timestamp()]
        if isinstance(proof.subject, Claims):
            ends.append(proof.subject.expires_at)
        elif proof.subject.expires_at is not None:
            ends.append(proof.subject.expires_at.timestamp())
        return {
            "email": principal.email,
            "role": principal.role,
            "admin": principal.admin,
            "organization_id": principal.organization_id,
            "organization_name": services.board.current.organization_names.get(principal.organization_id or 0),
            "may_acknowledge": may_analyze(principal, self.services.settings.auth.analyst_roles),
            "signed_in_by": "page" if session is not None else "platform" if caller.by_cookie else "credential",
            "expires_at": utc_text(datetime.fromtimestamp(min(ends), services.clock().tzinfo)) if ends else None,
            "idle_seconds": None if session is None else services.settings.auth.session_idle_seconds,
            "live_path": LIVE_PATH + quote(principal.email, safe="@") if principal.email else None,
            "live_seconds": services.settings.websocket.interval_seconds,
            "mock_data": services.settings.mock_data,
        }


def read_key(body: bytes) -> str:
    """The key in a sign-in's JSON; raises `Refusal` 400 or 413."""
    if len(body) > MAX_BODY_BYTES:
        raise Refusal(413, "The body is too large", "body_size")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request(BODY_FORM, "body_form") from None
    if not isinstance(document, dict) or document.keys() != {"api_key"} or not isinstance(document["api_key"], str):
        raise bad_request(BODY_FORM, "body_form")
    return document["api_key"]


def cookie(name: str, text: str | None) -> str:
    """A Set-Cookie value for the page's session; `text` None makes the browser forget it."""
    morsel: Morsel[str] = Morsel()
    morsel.set(name, text or "", text or "")
    morsel["path"] = "/"
    morsel["httponly"] = True
    morsel["samesite"] = "Strict"
    morsel["secure"] = name == SECURE_PAGE_COOKIE
    if text is None:
        morsel["max-age"] = 0
    return morsel.OutputString()
