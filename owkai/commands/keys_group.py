"""`owkai keys`: create, list and revoke the API keys of this server."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from owkai.command_line import config_option, fail, load, set_option
from owkai.exits import Exit

if TYPE_CHECKING:
    from config.load import Loaded
    from handlers.auth.key_store import KeyStore, LocalKey


@click.group()
def keys() -> None:
    """API keys of this server, kept as hashes in the cache directory."""


@keys.command("create")
@config_option
@set_option
@click.option("--org", type=click.IntRange(min=1), required=True, help="Organization the key reads.")
@click.option("--role", required=True, help="Role of the key, e.g. user or admin.")
@click.option("--email", required=True, help="Address of the key's user; used in the WebSocket path.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires. Default: never.")
@click.option("--unchecked", is_flag=True, help="Do not check in the source that organization and role exist.")
def keys_create(
    file: Path | None,
    assignments: tuple[str, ...],
    org: int,
    role: str,
    email: str,
    days: int | None,
    unchecked: bool,
) -> None:
    """Create a key and print it once; the server keeps only its hash.

    An organization or role that the source does not know is refused, unless --unchecked is given.
    """
    loaded = load(file, assignments)
    store = key_store(loaded)
    if not unchecked:
        require_known(loaded, org, role)
    try:
        text, key = store.create(org, role, email, days)
    except ValueError as error:
        fail(Exit.SETTINGS, str(error))
    unrecorded = record_failure(loaded, "key_create", key)
    if unrecorded and loaded.settings.audit.on_failure == "refuse":
        store.revoke(key.id)
        fail(Exit.FAILED, f"no key was created, because it could not be recorded in the audit trail: {unrecorded}")
    try:
        click.echo(text)
    except OSError:
        store.revoke(key.id)  # no one has seen the key
        record_failure(loaded, "key_revoke", key)
        raise
    until = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "without expiry"
    click.echo(f"key {key.id} for {email}, organization {org}, role {role}, {until}", err=True)
    click.echo("The key is shown only once. A running server accepts it within a second.", err=True)


@keys.command("list")
@config_option
@set_option
def keys_list(file: Path | None, assignments: tuple[str, ...]) -> None:
    """List the keys: id, prefix, organization, role, address, creation date, expiry date."""
    store, now = key_store(load(file, assignments)), datetime.now(UTC)
    try:
        found = store.list()
    except ValueError as error:
        fail(Exit.FAILED, str(error))
    for key in found:
        until = f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never expires"
        if key.expires_at is not None and key.expires_at <= now:
            until += " (expired)"
        cells = (key.id, key.prefix, str(key.organization_id), key.role, key.email, f"{key.created_at:%Y-%m-%d}", until)
        click.echo("\t".join(cells))


@keys.command("revoke")
@config_option
@set_option
@click.argument("name", metavar="ID-OR-PREFIX")
def keys_revoke(file: Path | None, assignments: tuple[str, ...], name: str) -> None:
    """Revoke the key with this id or prefix (see `owkai keys list`)."""
    loaded = load(file, assignments)
    try:
        key = key_store(loaded).revoke(name)
    except (KeyError, ValueError) as error:
        fail(Exit.FAILED, str(error.args[0] if error.args else error))
    click.echo(f"revoked {key.id} ({key.email}); a running server rejects it within a second")
    if unrecorded := record_failure(loaded, "key_revoke", key):
        fail(Exit.FAILED, f"the revocation could not be recorded: {unrecorded}")


def key_store(loaded: Loaded) -> KeyStore:
    """The key file of the server; only the account that owns it may change it, so that the server can still read it."""
    from config.accounts import belongs_to
    from handlers.auth.key_store import KeyStore
    from owkai.lifecycle import harden

    harden()
    directory = loaded.settings.cache.directory
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        fail(Exit.SETTINGS, f"{directory} {belongs_to(directory.stat().st_uid)}")
    return KeyStore(loaded.settings.keys_file)


def require_known(loaded: Loaded, organization_id: int, role: str) -> None:
    """Exit if the source does not know the organization or role; warn if the source cannot be checked."""
    from owkai.commands.credential_checks import UncheckedError, key_problem

    try:
        problem = key_problem(loaded.settings, organization_id, role)
    except UncheckedError as reason:
        click.echo(f"warning: whether organization {organization_id} exists was not checked: {reason}", err=True)
        return
    if problem is not None:
        fail(Exit.SETTINGS, f"no key was created: {problem}; --unchecked creates it anyway")


def record_failure(loaded: Loaded, event: str, key: LocalKey) -> str | None:
    """Record an event of a local key in the audit trail. Returns why that failed, or None."""
    from owkai.commands.audit import NotRecordedError, record_operator

    try:
        record_operator(
            loaded.settings, event, organization_id=key.organization_id, key=key.id, key_prefix=key.prefix,
            key_role=key.role, key_email=key.email,
        )  # fmt: skip
    except NotRecordedError as error:
        return str(error)
    return None
