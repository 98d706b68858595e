"""From presented credentials to a principal, against the users and api_keys tables as they are now.

A credential is first proved (signature, key hash), then confirmed (the user's row, dates, revocation). Confirming again
needs no secret, so an open WebSocket can be confirmed at every tick by the same rules as a new request.

Rules: the users row decides e-mail, activity and log-out; admin needs an admin role in both token and row; the token's
organization must be the row's. A key of the platform carries the current role and organization of its owner; a local key
carries its own. A user the table does not have is refused, unless the settings map no users table (source.tables.users = ""): what the
table currently holds decides nothing, or emptying it would give rights back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from analytics.directory import ApiKey, Directory, User
from config.enumerations import normal
from config.settings import AuthSettings
from handlers.auth.credentials import COOKIE, Presented, well_formed_key
from handlers.auth.key_store import KeyStore, LocalKey
from handlers.auth.revocations import Revocations
from handlers.auth.sessions import Sessions
from handlers.auth.tokens import Claims, TokenError, TokenVerifier
from handlers.problem import ORGANIZATION_REQUIRED, Refusal, forbidden, unauthenticated

SESSION_ENDED = "session_ended"
PREFIX_LENGTHS = (32, 16)  # the platform's, and that of its older rows


@dataclass(frozen=True)
class Principal:
    """An authenticated caller. `organization_id` None: it may do nothing that belongs to an organization."""

    email: str
    user_id: int | None
    organization_id: int | None
    admin: bool
    role: str = ""

    @property
    def account(self) -> tuple[int | None, int | str]:
        """Whose use counts together: the user, or the e-mail where there is no user."""
        return self.organization_id, self.email.lower() if self.user_id is None else self.user_id

    @property
    def name(self) -> str:
        return self.email or (f"user {self.user_id}" if self.user_id is not None else "unnamed")


@dataclass(frozen=True)
class Proof:
    """A proved credential: how it was presented and what it proves. Holds no secret."""

    source: str
    identifier: str  # key prefix, or hash of the token's id
    subject: Claims | ApiKey | LocalKey
    prefixes: tuple[str, ...] = ()  # under which a key of the platform is looked up
    session: bytes | None = None  # digest of the page's session that the proof is presented by


@dataclass(frozen=True)
class Authentication:
    """The caller of one request, and the credential that proved it."""

    principal: Principal
    proof: Proof

    @property
    def by_cookie(self) -> bool:
        return self.proof.source.startswith(COOKIE)


class WrongKey(Refusal):
    """401: a text in the form of a key was compared with the known keys and matches none."""

    def __init__(self, presented: Presented) -> None:
        plain = unauthenticated("key_unknown")
        super().__init__(plain.status, plain.detail, plain.reason, plain.headers)
        self.presented = presented


class Authenticator:
    """Proves and confirms credentials. Raises `Refusal` (401) and passes on `CacheNotReadyError`."""

    def __init__(
        self,
        auth: AuthSettings,
        verifier: TokenVerifier,
        directory: Directory,
        keys: KeyStore,
        sessions: Sessions[Proof],
        revocations: Revocations,
        *,
        users_are_mapped: bool,
    ) -> None:
        self._auth = auth
        self._users_are_mapped = users_are_mapped
        self._sessions = sessions
        self._revocations = revocations
        self._verifier = verifier
        self._directory = directory
        self._keys = keys

    async def authenticate(self, presented: Sequence[Presented], now: datetime) -> Authentication:
        """All presented credentials must hold; the first of them is the caller's."""
        outcomes = []
        for credential in presented:
            proof = await self._prove(credential, now)
            outcomes.append(Authentication(await self._confirm_presented(proof, now), proof))
        return outcomes[0]

    async def confirm(self, proof: Proof, now: datetime) -> Principal:
        """The principal behind a proof now; raises `Refusal` when the proof no longer holds."""
        if proof.session is not None and self._sessions.find(proof.session, now) is None:
            raise unauthenticated(SESSION_ENDED)
        subject = proof.subject
        if isinstance(subject, Claims):
            principal = await self._confirm_claims(subject, now)
        elif isinstance(subject, ApiKey):
            principal = await self._confirm_platform_key(subject, proof.prefixes, now)
        else:
            principal = self._confirm_local_key(subject, now)
        self._refuse_revoked(proof, principal)
        return principal

    def _refuse_revoked(self, proof: Proof, principal: Principal) -> None:
        revoked, subject = self._revocations.now, proof.subject
        if isinstance(subject, Claims):
            named = subject.identifier in revoked.tokens
        else:
            named = proof.identifier in revoked.keys or str(subject.id) in revoked.keys
        if named or principal.user_id in revoked.users:
            raise unauthenticated("revoked")

    async def _confirm_presented(self, proof: Proof, now: datetime) -> Principal:
        try:
            return await self.confirm(proof, now)
        except Refusal:
            if proof.session is not None:
                # The end of a credential may be reversed later; its user then signs in again.
                self._sessions.close(proof.session)
            raise

    async def _prove(self, presented: Presented, now: datetime) -> Proof:
        if presented.kind == "session":
            session = self._sessions.use(presented.text, now)
            if session is None or presented.source != f"{COOKIE}{session.cookie}":
                raise unauthenticated(SESSION_ENDED)
            return replace(session.proof, source=presented.source, session=session.digest)
        if presented.kind == "token":
            try:
                claims = self._verifier.verify(presented.text, now.timestamp())
            except TokenError as error:
                raise unauthenticated(str(error)) from error
            return Proof(presented.source, claims.identifier, claims)
        if not well_formed_key(presented.text):
            raise unauthenticated("key_form")  # no key at all, so no guess at one
        local = self._keys.find(presented.text)
        if local is not None:
            return Proof(presented.source, local.prefix, local)
        stored = prefixes(presented.text)
        candidates = await self._directory.keys_with_prefix(stored)
        row = matching_key(presented.text, candidates, self._auth.key_hash_order)
        if row is None:
            raise WrongKey(presented)
        return Proof(presented.source, row.key_prefix, row, stored)

    async def _confirm_claims(self, claims: Claims, now: datetime) -> Principal:
        try:
            self._verifier.confirm(claims, now.timestamp())
        except TokenError as error:
            raise unauthenticated(str(error)) from error
        user = await self._directory.user(claims.user_id) if claims.user_id is not None else None
        if user is None:
            if self._users_are_mapped:
                raise unauthenticated("user_unknown")
            return Principal(
                claims.email, claims.user_id, claims.organization_id, self._is_admin(claims.role), claims.role
            )
        _refuse_inactive(user)
        if user.last_logout is not None and user.last_logout.timestamp() > claims.issued_at:
            raise unauthenticated("user_logged_out")
        if (
            None not in (claims.organization_id, user.organization_id)
            and claims.organization_id != user.organization_id
        ):
            raise unauthenticated("organization_changed")
        return Principal(
            user.email,
            user.id,
            user.organization_id and claims.organization_id,
            self._is_admin(user.role) and self._is_admin(claims.role),
            user.role,
        )

    async def _confirm_platform_key(self, known: ApiKey, stored: tuple[str, ...], now: datetime) -> Principal:
        rows = await self._directory.keys_with_prefix(stored)
        row = next((row for row in rows if row.id == known.id and same_digest(row.key_hash, known.key_hash)), None)
        if row is None or not row.active:
            raise unauthenticated("key_revoked")
        if row.expires_at is not None and now >= row.expires_at:
            raise unauthenticated("key_expired")
        owner = await self._directory.user(row.user_id)
        if owner is None:
            raise unauthenticated("user_unknown")
        _refuse_inactive(owner)
        return Principal(owner.email, owner.id, owner.organization_id, self._is_admin(owner.role), owner.role)

    def _confirm_local_key(self, known: LocalKey, now: datetime) -> Principal:
        key = self._keys.get(known.id)
        if key is None or not same_digest(key.key_hash, known.key_hash):
            raise unauthenticated("key_revoked")
        if key.expires_at is not None and now >= key.expires_at:
            raise unauthenticated("key_expired")
        return Principal(key.email, None, key.organization_id, self._is_admin(key.role), key.role)

    def _is_admin(self, role: str) -> bool:
        return normal(role) in self._auth.admin_roles


SUBJECTS: dict[str, type[Claims | ApiKey | LocalKey]] = {"token": Claims, "key": ApiKey, "local_key": LocalKey}
TIMES = ("expires_at", "created_at")


def write_proof(proof: Proof) -> dict[str, Any]:
    """A proof as a JSON value, without the session that presents it."""
    (kind,) = (name for name, known in SUBJECTS.items() if isinstance(proof.subject, known))
    subject = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(proof.subject).items()
    }
    return {
        "source": proof.source,
        "identifier": proof.identifier,
        "prefixes": proof.prefixes,
        "kind": kind,
        "subject": subject,
    }


def read_proof(value: Any) -> Proof:
    """What `write_proof` wrote; raises ValueError, KeyError or TypeError for anything else."""
    subject: dict[str, Any] = {
        name: datetime.fromisoformat(found) if name in TIMES and isinstance(found, str) else found
        for name, found in value["subject"].items()
    }
    found = SUBJECTS[value["kind"]](**subject)
    return Proof(value["source"], value["identifier"], found, tuple(value["prefixes"]))


def require_organization(principal: Principal) -> int:
    """The organization of a caller; raises `Refusal` 403 when there is none."""
    if not principal.organization_id:
        raise forbidden(ORGANIZATION_REQUIRED, "no_organization")
    return principal.organization_id


def prefixes(key: str) -> tuple[str, ...]:
    """The stored prefixes under which a key may be found."""
    return tuple(dict.fromkeys(key[:length] for length in PREFIX_LENGTHS))


def matching_key(key: str, candidates: Sequence[ApiKey], order: str) -> ApiKey | None:
    """The candidate whose stored hash is that of the key; every candidate is compared, whichever matches."""
    found = None
    for row in candidates:
        text = key + row.salt if order == "key_salt" else row.salt + key
        digest = hashlib.sha256(text.encode()).hexdigest()
        if same_digest(digest, row.key_hash.lower()) and found is None:
            found = row
    return found


def same_digest(left: str, right: str) -> bool:
    """Equality of two hex digests in constant time."""
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))


def _refuse_inactive(user: User) -> None:
    if not user.active:
        raise _inactive()


def _inactive() -> Refusal:
    return unauthenticated("user_inactive")
