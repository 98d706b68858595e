"""The command line. Commands import what they need when they run, so that `owkai --help` answers at once."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from owkai.exits import Exit

if TYPE_CHECKING:
    from config.load import Loaded
    from handlers.auth.key_store import KeyStore, LocalKey

DEMO_PORT = 8480
MAPPED_TABLES = ("agent_actions", "users", "audit_logs", "api_keys")
MAXIMUM_TOKEN_MINUTES = 24 * 60
EXIT_HELP = "Exit codes:\n\n\b\n" + "\n".join(f"  {code.value}  {code.meaning}" for code in Exit)

Command = Callable[..., Any]


def config_option(command: Command) -> Command:
    return click.option(
        "--config", "file", type=click.Path(path_type=Path, dir_okay=False), envvar="OWKAI_CONFIG", metavar="FILE",
        help="Settings file. Default: ./owkai.toml, then /etc/owkai/owkai.toml, where one exists.",
    )(command)  # fmt: skip


def set_option(command: Command) -> Command:
    return click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE",
        help="Override one setting, e.g. --set server.port=9000. May be repeated; no secrets here.",
    )(command)  # fmt: skip


class Commands(click.Group):
    """The commands. What the machine refuses them (rights, room, a file that is gone) is told in one line, not a traceback."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if error.filename is None:
                with contextlib.suppress(OSError):  # else the interpreter tries to write the rest when it ends
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            fail(Exit.FAILED, refused_by_the_machine(error))


@click.group(
    cls=Commands, epilog=EXIT_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def main() -> None:
    """OW-kai Analytics: a Postgres in, analytics of AI agents out, over REST and WebSocket."""


@main.command(epilog=EXIT_HELP)
@config_option
@set_option
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="Port to listen on, 0 for a free one (server.port).")
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), help="Form of the log (log.format).")
def serve(
    file: Path | None, assignments: tuple[str, ...], host: str | None, port: int | None, log_format: str | None
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Settings come from the file, then OWKAI_* in the environment, then this command line; the later one wins.
    """
    shortcuts = {"server.host": host, "server.port": port, "log.format": log_format}
    loaded = load(file, assignments, shortcuts, serving=True)
    from config.load import load_settings
    from owkai.app import run

    overrides = given(assignments, shortcuts)
    sys.exit(run(loaded, again=lambda: load_settings(loaded.file, os.environ, overrides, serving=True)))


@main.command(epilog=EXIT_HELP)
@config_option
@set_option
@click.option(
    "--sql",
    "as_sql",
    is_flag=True,
    help="Print the SQL that prepares the source: settings, role, least rights, publication. Checks and changes nothing.",
)
@click.option(
    "--admin",
    metavar="DSN",
    help="With --sql: read the source with this connection string, e.g. before the role exists.",
)
def check(file: Path | None, assignments: tuple[str, ...], as_sql: bool, admin: str | None) -> None:
    """Check settings, source, privileges and cache directory, and say what is missing.

    Changes nothing. Exits with 1 where the server could not run, with 2 where the settings are wrong.
    """
    if as_sql:
        from owkai.commands.source_setup import recipe

        click.echo(recipe(load(file, assignments).settings, admin, lambda line: click.echo(line, err=True)))
        return
    if admin is not None:
        fail(Exit.SETTINGS, "--admin belongs to --sql")
    loaded = load(file, assignments, serving=True)
    from owkai.commands.check import inspect, report

    findings = inspect(loaded)
    click.echo(report(findings))
    sys.exit(Exit.FAILED if any(finding.level == "error" for finding in findings) else Exit.OK)


@main.command(epilog=EXIT_HELP)
@config_option
@set_option
@click.option("--repair", is_flag=True, help="Copy the rows that differ from the source again, then compare again.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--table", type=click.Choice(MAPPED_TABLES), help="Compare this table alone.")
@click.option("--days", type=click.IntRange(1, 36500), help="Compare the events of the last N days. Default: all kept.")
def verify(
    file: Path | None, assignments: tuple[str, ...], repair: bool, as_json: bool, table: str | None, days: int | None
) -> None:
    """Compare every mapped column of cache and source at one position, and say what differs.

    Asks the running server; opens the cache itself when none runs. Locks nothing on the source. Exits with 0 when
    both are equal, with 1 and the differing days and keys when they are not.
    """
    settings = load(file, assignments).settings
    if not settings.source.dsn.get_secret_value():
        fail(Exit.SETTINGS, "source.dsn is missing: there is no source to compare with")
    from owkai.commands.verify import verify as compare
    from sync.comparison.verify import Scope

    outcome = compare(settings, Scope(table, days), repair, lambda line: click.echo(line, err=True))
    if as_json:
        import json

        click.echo(json.dumps(outcome.data, indent=2))
    else:
        click.echo("\n".join(outcome.lines), err="error" in outcome.data)
    sys.exit(outcome.code)


@main.group()
def config() -> None:
    """Settings: what is in force, what exists, a file to start from."""


@config.command("show")
@config_option
@set_option
def config_show(file: Path | None, assignments: tuple[str, ...]) -> None:
    """Print the settings in force as TOML, with where each was given. Secrets are shown as ***."""
    loaded = load(file, assignments)
    from config.reference import in_force

    click.echo(in_force(loaded), nl=False)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)


@config.command("reference")
def config_reference() -> None:
    """Print every setting with type, default, environment name and meaning (docs/reference/settings.md)."""
    from config.reference import reference

    click.echo(reference(), nl=False)


@config.command("sample")
def config_sample() -> None:
    """Print a settings file with every default as a comment."""
    from config.reference import sample

    click.echo(sample(), nl=False)


@main.group()
def keys() -> None:
    """API keys of this server, kept as hashes in the cache directory."""


@keys.command("create")
@config_option
@set_option
@click.option("--org", type=click.IntRange(min=1), required=True, help="Organization the key reads.")
@click.option("--role", required=True, help="Role of the key, e.g. user or admin.")
@click.option("--email", required=True, help="Who it is for; the WebSocket path takes this address.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires. Default: never.")
@click.option("--unchecked", is_flag=True, help="Do not ask the source whether organization and role exist.")
def keys_create(
    file: Path | None,
    assignments: tuple[str, ...],
    org: int,
    role: str,
    email: str,
    days: int | None,
    unchecked: bool,
) -> None:
    """Make a key and print it once; the server keeps only its hash.

    An organization or role that the source does not know is refused, unless --unchecked is given.
    """
    loaded = load(file, assignments)
    store = key_store(loaded)
    if not unchecked:
        refuse_unknown(loaded, org, role)
    try:
        text, key = store.create(org, role, email, days)
    except ValueError as error:
        fail(Exit.SETTINGS, str(error))
    unrecorded = recorded(loaded, "key_create", key)
    if unrecorded and loaded.settings.audit.on_failure == "refuse":
        store.revoke(key.id)
        fail(Exit.FAILED, f"no key was made, because that could not be recorded: {unrecorded}")
    try:
        click.echo(text)
    except OSError:
        store.revoke(key.id)  # nobody has its text
        recorded(loaded, "key_revoke", key)
        raise
    until = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "without end"
    click.echo(f"key {key.id} for {email}, organization {org}, role {role}, {until}", err=True)
    click.echo("This text is shown once. A running server takes it within a second.", err=True)


@keys.command("list")
@config_option
@set_option
def keys_list(file: Path | None, assignments: tuple[str, ...]) -> None:
    """List the keys: id, prefix, organization, role, address, made when, valid until."""
    store, now = key_store(load(file, assignments)), datetime.now(UTC)
    try:
        found = store.list()
    except ValueError as error:
        fail(Exit.FAILED, str(error))
    for key in found:
        until = f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "no end"
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
    click.echo(f"revoked {key.id} ({key.email}); a running server refuses it within a second")
    if unrecorded := recorded(loaded, "key_revoke", key):
        fail(Exit.FAILED, f"the revocation could not be recorded: {unrecorded}")


@main.group()
def audit() -> None:
    """The record of every access: is it whole, and what does it say?"""


FILES = click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))


@audit.command("verify", epilog=EXIT_HELP)
@config_option
@set_option
@FILES
def audit_verify(file: Path | None, assignments: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Check that no record was changed, removed, moved or inserted, over all files of the trail.

    Takes the files of the settings, or copies named as FILES. Exits with 1 and the first bad line when the trail is
    not whole. Changes nothing; the server may run.
    """
    settings = load(file, assignments).settings
    from handlers.audit.files import AuditFileError
    from owkai.commands.audit import verdict_lines, verify

    try:
        verdict = verify(settings, files)
    except AuditFileError as error:
        fail(Exit.SETTINGS, str(error))
    click.echo("\n".join(verdict_lines(verdict)))
    sys.exit(Exit.OK if verdict.whole else Exit.FAILED)


@audit.command("report", epilog=EXIT_HELP)
@config_option
@set_option
@click.option("--since", metavar="WHEN", help="From this date or moment on (UTC), e.g. 2025-01-15.")
@click.option("--until", metavar="WHEN", help="Up to the end of this date, or before this moment (UTC).")
@click.option(
    "--by", "dimensions", multiple=True, type=click.Choice(["user", "endpoint", "outcome", "day"]),
    help="Count by this; may be repeated. Default: all.",
)  # fmt: skip
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@FILES
def audit_report(
    file: Path | None,
    assignments: tuple[str, ...],
    since: str | None,
    until: str | None,
    dimensions: tuple[str, ...],
    form: str | None,
    files: tuple[Path, ...],
) -> None:
    """Count accesses by user, endpoint, outcome and day. Reads the trail, or copies named as FILES, and changes nothing."""
    settings = load(file, assignments).settings
    from handlers.audit import report as reports
    from owkai.commands.audit import parse_moment, report

    try:
        start = parse_moment(since, end=False) if since else None
        end = parse_moment(until, end=True) if until else None
    except ValueError:
        fail(Exit.SETTINGS, "--since and --until take a date or moment, e.g. 2025-01-15 or 2025-01-15T14:30:00+01:00")
    try:
        found = report(settings, files, start, end)
    except (OSError, ValueError, RuntimeError) as error:
        fail(Exit.FAILED, f"the trail cannot be read: {error}")
    write = {"json": reports.as_json, "csv": reports.as_csv}.get(form or "", reports.as_text)
    click.echo(write(found, dimensions or reports.DIMENSIONS), nl=form != "csv")


@main.command()
@config_option
@set_option
@click.option("--org", type=click.IntRange(min=1), required=True, help="Claim organization_id.")
@click.option("--user", type=click.IntRange(min=1), required=True, help="Claim user_id and sub.")
@click.option("--email", required=True, help="Claim email.")
@click.option("--role", required=True, help="Claim role, e.g. user or admin.")
@click.option("--minutes", type=click.IntRange(1, MAXIMUM_TOKEN_MINUTES), default=60, show_default=True)
def token(
    file: Path | None, assignments: tuple[str, ...], org: int, user: int, email: str, role: str, minutes: int
) -> None:
    """Print a session token signed with the configured HS256 secret, for trying things out.

    Standard error says where the server would not let it in: the user must be a row of the source's users table.
    """
    settings = load(file, assignments).settings
    auth = settings.auth
    if auth.jwt_algorithm != "HS256":
        fail(
            Exit.SETTINGS,
            f"auth.jwt_algorithm is {auth.jwt_algorithm}: the platform holds the private key and signs its tokens, "
            "this server only verifies them; take a token from there, or make an API key with `owkai keys create`",
        )
    secret = auth.jwt_secret.get_secret_value()
    if not secret:
        fail(Exit.SETTINGS, "auth.jwt_secret is missing: there is nothing to sign with; see `owkai config reference`")
    from owkai.commands.token import session_token

    now = datetime.now(UTC)
    claims = {"user_id": user, "organization_id": org, "email": email, "role": role}
    click.echo(session_token(auth, claims, now, timedelta(minutes=minutes)))
    from owkai.commands.credential_checks import UncheckedError, token_problem

    try:
        problem = token_problem(settings, org, user, email, role)
    except UncheckedError:
        return  # a token is made without a source, too
    if problem is not None:
        click.echo(f"warning: {problem}", err=True)


@main.group()
def sync() -> None:
    """The connection to the source."""


@sync.command("drop")
@config_option
@set_option
@click.confirmation_option(prompt="Remove the replication slot and publication of this installation from the source?")
def sync_drop(file: Path | None, assignments: tuple[str, ...]) -> None:
    """Remove this installation's slot (and its own publication) from the source, so that the source retains no WAL for it.

    Fails while a server uses the slot. The next `owkai serve` creates both again and makes a new copy of the source.
    """
    settings = load(file, assignments).settings
    if not settings.source.dsn.get_secret_value():
        fail(Exit.SETTINGS, "source.dsn is missing: there is no source to remove anything from")
    import psycopg

    from config.secrets import masked
    from sync.source.connection_failure import diagnose
    from sync.source.connections import SourceError
    from sync.stream.slot_removal import drop_replication

    try:
        lines = drop_replication(settings)
    except psycopg.OperationalError as error:
        cause = diagnose(error)
        fail(Exit.SOURCE, masked(f"{cause.message}; {cause.remedy}"))
    except (SourceError, psycopg.Error) as error:
        remedy = getattr(error, "remedy", "")
        fail(Exit.SOURCE, masked(" ".join(str(error).split())) + (f"; {remedy}" if remedy else ""))
    click.echo("\n".join(lines))


@main.command(epilog=EXIT_HELP)
@click.option("--port", type=click.IntRange(0, 65535), default=DEMO_PORT, show_default=True, help="0 for a free one.")
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Keep the demo's data here."
)
def demo(port: int, state: Path | None) -> None:
    """Try the product: an embedded Postgres with made-up activity, the real sync and the real server."""
    from owkai.demo.run import run_demo

    sys.exit(run_demo(port=port, state=state))


@main.command()
@click.option("--asyncapi", is_flag=True, help="The AsyncAPI document of the live connection instead.")
def openapi(asyncapi: bool) -> None:
    """Print the OpenAPI document of the API, as the server serves it. Needs no settings and no running server."""
    from handlers.contract.reference import ASYNCAPI, OPENAPI, document

    click.echo(document(ASYNCAPI if asyncapi else OPENAPI), nl=False)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.option(
    "--check", "checked", is_flag=True, help="Compare every unpacked file with the SHA-256 it was built with."
)
def version(as_json: bool, checked: bool) -> None:
    """Print the version and what this build was made of."""
    from owkai.commands.build_facts import DISTRIBUTION, altered_files, gathered, lines

    facts = gathered(installed_version(DISTRIBUTION))
    if as_json:
        import json

        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(lines(facts)))
    if checked:
        altered = altered_files()
        if altered is None:
            fail(Exit.SETTINGS, "--check is for the packed program; this one runs from an environment of Python")
        if altered:
            fail(Exit.FAILED, "\n".join(["not as built:", *altered]))
        click.echo("every file is as built", err=as_json)


def load(
    file: Path | None,
    assignments: tuple[str, ...] = (),
    shortcuts: dict[str, Any] | None = None,
    *,
    serving: bool = False,
) -> Loaded:
    """The settings of this call; ends the process with exit code 2 and all problems where they are wrong."""
    from config.load import default_file, load_settings
    from config.problems import SettingsError

    overrides = given(assignments, shortcuts or {})
    try:
        return load_settings(file or default_file(), os.environ, overrides, serving=serving)
    except SettingsError as error:
        fail(Exit.SETTINGS, str(error))


def given(assignments: tuple[str, ...], shortcuts: dict[str, Any]) -> dict[str, str]:
    """What the command line says of settings, by key; the assignments win over the shortcuts."""
    overrides = {key: str(value) for key, value in shortcuts.items() if value is not None}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            fail(Exit.SETTINGS, "--set takes key=value, e.g. --set server.port=9000")
        overrides[key.strip()] = value
    return overrides


def key_store(loaded: Loaded) -> KeyStore:
    """The key file of the server; only the account that owns it may change it, as the server must read it."""
    from config.accounts import belongs_to
    from handlers.auth.key_store import KeyStore
    from owkai.lifecycle import harden

    harden()
    directory = loaded.settings.cache.directory
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        fail(Exit.SETTINGS, f"{directory} {belongs_to(directory.stat().st_uid)}")
    return KeyStore(loaded.settings.keys_file)


def refuse_unknown(loaded: Loaded, organization_id: int, role: str) -> None:
    """End the process where the source does not know the organization or role; say so where it cannot be asked."""
    from owkai.commands.credential_checks import UncheckedError, key_problem

    try:
        problem = key_problem(loaded.settings, organization_id, role)
    except UncheckedError as reason:
        click.echo(f"warning: whether organization {organization_id} exists was not checked: {reason}", err=True)
        return
    if problem is not None:
        fail(Exit.SETTINGS, f"no key was made: {problem}; --unchecked makes it anyway")


def recorded(loaded: Loaded, event: str, key: LocalKey) -> str | None:
    """Record in the audit trail what was done with a local key; why that was not possible, or None."""
    from owkai.commands.audit import NotRecordedError, record_operator

    try:
        record_operator(
            loaded.settings, event, organization_id=key.organization_id, key=key.id, key_prefix=key.prefix,
            key_role=key.role, key_email=key.email,
        )  # fmt: skip
    except NotRecordedError as error:
        return str(error)
    return None


def refused_by_the_machine(error: OSError) -> str:
    """What is wrong, where, and what to do."""
    place = error.filename if isinstance(error.filename, str) else None
    told = f"{place or 'the output cannot be written'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{told}; make room there, then run the command again"
    if error.errno in (errno.EACCES, errno.EPERM) and place is not None:
        from config.accounts import out_of_reach

        return f"{told}; {out_of_reach(Path(place))}"
    return told


def fail(code: Exit, text: str) -> NoReturn:
    """Say why on standard error and end with `code`."""
    click.echo(text, err=True)
    sys.exit(code)
