"""`owkai audit`: verify the audit trail, and count the accesses in it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from owkai.command_line import EXIT_HELP, config_option, fail, load, set_option
from owkai.exits import Exit


@click.group()
def audit() -> None:
    """Verify and summarize the audit trail, the record of every access."""


FILES = click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))


@audit.command("verify", epilog=EXIT_HELP)
@config_option
@set_option
@FILES
def audit_verify(file: Path | None, assignments: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Check that no record was changed, removed, moved or inserted, over all files of the trail.

    Reads the files named in the settings, or copies given as FILES. Exits with 1 and prints the first bad line if the
    trail is not intact. Changes nothing; the server may run.
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
@click.option("--since", metavar="WHEN", help="From this date or time on (UTC), e.g. 2025-01-15.")
@click.option("--until", metavar="WHEN", help="Up to the end of this date, or before this time (UTC).")
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
    from owkai.commands.audit import parse_time, report

    try:
        start = parse_time(since, end=False) if since else None
        end = parse_time(until, end=True) if until else None
    except ValueError:
        fail(Exit.SETTINGS, "--since and --until take a date or time, e.g. 2025-01-15 or 2025-01-15T14:30:00+01:00")
    try:
        found = report(settings, files, start, end)
    except (OSError, ValueError, RuntimeError) as error:
        fail(Exit.FAILED, f"the trail cannot be read: {error}")
    write = {"json": reports.as_json, "csv": reports.as_csv}.get(form or "", reports.as_text)
    click.echo(write(found, dimensions or reports.DIMENSIONS), nl=form != "csv")
