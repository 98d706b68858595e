"""Checks before a credential is created: would the server accept it, according to the source?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from config.secrets import masked
from config.settings import Settings
from sync.source.connection_failure import diagnose
from sync.source.connections import SourceError
from sync.source.known_tenants import PLATFORM_ROLES, Tenants, known_tenants


class UncheckedError(RuntimeError):
    """The source could not be checked; the text gives the reason."""


def key_problem(settings: Settings, organization_id: int, role: str) -> str | None:
    """Why no key should be made for this organization and role; None where both are known.

    Raises `UncheckedError` if only the source could answer and cannot be read; without it, an unknown role is recognized only
    where it is one of the platform's.
    """
    own = {*PLATFORM_ROLES, *settings.auth.admin_roles}
    try:
        with _tenants(settings) as tenants:
            roles = own | set(tenants.roles())
            if role not in roles:
                return _unknown_role(role, roles)
            organizations = tenants.organizations()
            if organizations and not tenants.organization_exists(organization_id):
                listed = ", ".join(map(str, organizations))
                return (
                    f"organization {organization_id} is unknown: no row of the source belongs to it; there are {listed}"
                )
    except UncheckedError:
        if role not in own:
            return _unknown_role(role, own)
        raise
    return None


def token_problem(settings: Settings, organization_id: int, user_id: int, email: str, role: str) -> str | None:
    """Why the server will refuse a token, or take it for less than it claims; None where nothing speaks against it.

    Raises `UncheckedError`.
    """
    with _tenants(settings) as tenants:
        if not tenants.has_users:
            return None
        user = tenants.user(user_id)
        if user is None:
            return f"the source has no user {user_id}, so the server refuses this token (401); take the id of a row of users"
        if not user.active:
            return f"user {user_id} is not active, so the server refuses this token (401)"
        if user.organization_id is None:
            return f"user {user_id} has no organization, so the server shows this token no data (403)"
        if user.organization_id != organization_id:
            return (
                f"user {user_id} belongs to organization {user.organization_id}, not {organization_id}, so the server refuses "
                f"this token (401); use --org {user.organization_id}"
            )
        admins = settings.auth.admin_roles
        if role in admins and user.role not in admins:
            return f"user {user_id} has the role {user.role!r}, so this token is no admin's"
        if user.email.lower() != email.lower():
            return f"user {user_id} has another e-mail than --email, and the server goes by the source's"
    return None


@contextmanager
def _tenants(settings: Settings) -> Iterator[Tenants]:
    if not settings.source.dsn.get_secret_value():
        raise UncheckedError("source.dsn is not set")
    try:
        with known_tenants(settings) as tenants:
            yield tenants
    except psycopg.Error as error:
        raise UncheckedError(masked(diagnose(error).message)) from error
    except SourceError as error:
        raise UncheckedError(masked(str(error))) from error


def _unknown_role(role: str, roles: set[str]) -> str:
    return f"the role {role!r} is unknown; there are {', '.join(sorted(roles))}"
