"""The command line. Commands import what they need when they run, so that `owkai --help` answers at once."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from owkai.command_line import EXIT_HELP, config_option, fail, load, overrides_of, set_option
from owkai.commands.audit_group import audit
from owkai.commands.keys_group import keys
from owkai.exits import Exit

if TYPE_CHECKING:
    pass

DEMO_PORT = 8480
MAPPED_TABLES = ("agent_actions", "users", "audit_logs", "api_keys")
MAXIMUM_TOKEN_MINUTES = 24 * 60


class Commands(click.Group):
    """The commands. An error of the operating system (permission, full disk, missing file) is one line, not a traceback."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if error.filename is None:
                with contextlib.suppress(OSError):  # else the interpreter tries to write the rest when it ends
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            fail(Exit.FAILED, operating_system_error(error))


@click.group(
    cls=Commands, epilog=EXIT_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def main() -> None:
    """OW-kai Analytics: analytics of AI agents from your Postgres, over REST and WebSocket."""


main.add_command(keys)
main.add_command(audit)


@main.command(epilog=EXIT_HELP)
@config_option
@set_option
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=int, help="Port to listen on, 0 for a free one (server.port).")
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), help="Format of the log (log.format).")
def serve(
    file: Path | None, assignments: tuple[str, ...], host: str | None, port: int | None, log_format: str | None
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Settings come from the file, then OWKAI_* in the environment, then this command line; the last one wins.
    """
    shortcuts = {"server.host": host, "server.port": port, "log.format": log_format}
    loaded = load(file, assignments, shortcuts, serving=True)
    from config.load import load_settings
    from owkai.app import run

    overrides = overrides_of(assignments, shortcuts)
    sys.exit(run(loaded, again=lambda: load_settings(loaded.file, os.environ, overrides, serving=True)))


@main.command(epilog=EXIT_HELP)
@config_option
@set_option
@click.option(
    "--sql",
    "as_sql",
    is_flag=True,
    help="Print the SQL that prepares the source: settings, role, minimal privileges, publication. Checks and changes nothing.",
)
@click.option(
    "--admin",
    metavar="DSN",
    help="With --sql: read the source with this connection string, e.g. before the role exists.",
)
def check(file: Path | None, assignments: tuple[str, ...], as_sql: bool, admin: str | None) -> None:
    """Check settings, source, privileges and cache directory, and report what is missing.

    Changes nothing. Exits with 1 if the server could not run, with 2 if the settings are wrong.
    """
    if as_sql:
        from owkai.commands.source_setup import recipe

        click.echo(recipe(load(file, assignments).settings, admin, lambda line: click.echo(line, err=True)))
        return
    if admin is not None:
        fail(Exit.SETTINGS, "--admin requires --sql")
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
@click.option("--table", type=click.Choice(MAPPED_TABLES), help="Compare only this table.")
@click.option("--days", type=click.IntRange(1, 36500), help="Compare the events of the last N days. Default: all kept.")
def verify(
    file: Path | None, assignments: tuple[str, ...], repair: bool, as_json: bool, table: str | None, days: int | None
) -> None:
    """Compare every mapped column of cache and source at one position, and report the differences.

    Uses the running server, or opens the cache itself if none runs. Takes no locks on the source. Exits with 0 if
    both are equal, with 1 and the differing days and keys if they are not.
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
    """Show the settings in force, list all settings, print a sample file."""


@config.command("show")
@config_option
@set_option
def config_show(file: Path | None, assignments: tuple[str, ...]) -> None:
    """Print the settings in force as TOML, with the origin of each. Secrets are shown as ***."""
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


@main.command()
@config_option
@set_option
@click.option("--org", type=click.IntRange(min=1), required=True, help="Claim organization_id.")
@click.option("--user", type=click.IntRange(min=1), required=True, help="Claim user_id and sub.")
@click.option("--email", required=True, help="Claim email.")
@click.option("--role", required=True, help="Claim role, e.g. user or admin.")
@click.option(
    "--minutes", type=click.IntRange(1, MAXIMUM_TOKEN_MINUTES), default=60, show_default=True, help="Lifetime."
)
def token(
    file: Path | None, assignments: tuple[str, ...], org: int, user: int, email: str, role: str, minutes: int
) -> None:
    """Print a session token signed with the configured HS256 secret, for testing.

    A warning on standard error explains why the server would refuse it: the user must be a row of the source's users table.
    """
    settings = load(file, assignments).settings
    auth = settings.auth
    if auth.jwt_algorithm != "HS256":
        fail(
            Exit.SETTINGS,
            f"auth.jwt_algorithm is {auth.jwt_algorithm}: the platform holds the private key and signs its tokens, "
            "this server only verifies them; use a token of the platform, or create an API key with `owkai keys create`",
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
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEMO_PORT,
    show_default=True,
    help="Port of the page; 0 for a free one.",
)
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Keep the demo's data here."
)
def demo(port: int, state: Path | None) -> None:
    """Try the product: an embedded Postgres with generated activity, the real sync and the real server."""
    from owkai.demo.run import run_demo

    sys.exit(run_demo(port=port, state=state))


@main.command()
@click.option("--asyncapi", is_flag=True, help="Print the AsyncAPI document of the live connection instead.")
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
            fail(Exit.SETTINGS, "--check is for the packaged program; this one runs from a Python environment")
        if altered:
            fail(Exit.FAILED, "\n".join(["not as built:", *altered]))
        click.echo("every file is as built", err=as_json)


def operating_system_error(error: OSError) -> str:
    """The error, the file it concerns, and the remedy."""
    path = error.filename if isinstance(error.filename, str) else None
    problem = f"{path or 'the output cannot be written'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{problem}; free some space there, then run the command again"
    if error.errno in (errno.EACCES, errno.EPERM) and path is not None:
        from config.accounts import out_of_reach

        return f"{problem}; {out_of_reach(Path(path))}"
    return problem
