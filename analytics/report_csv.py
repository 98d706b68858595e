"""The executive report as CSV: RFC 4180, UTF-8 with a byte order mark, one row per figure. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from analytics.executive_formulas import DAILY_ACTIONS, DAILY_HIGH_RISK, FIGURES, OVERALL_HEALTH
from analytics.report import Report
from analytics.responses import plain

Cell = str | int | float | None

HEADER = ("section", "figure", "value", "unit", "formula")
# What a spreadsheet may run as a formula, also behind blanks or a quote; the wide forms are those of East Asian keyboards.
FORMULA = re.compile(r"""[\s"']*[=+\-@＝＋－＠\t\r\n]""")
UNSAFE_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def report_csv(report: Report) -> bytes:
    """The whole document. Text cells cannot begin a formula; numbers are written as JSON has them."""
    return csv_bytes([HEADER, *rows(report)])


def rows(report: Report) -> Iterator[tuple[Cell, ...]]:
    dashboard = report.dashboard
    period, meta, summary = dashboard.data_period, dashboard.meta, dashboard.executive_summary
    yield "report", "organization_id", report.organization_id, "", ""
    yield "report", "report_date", plain(dashboard.report_date), "time, UTC", ""
    yield "report", "start_date", plain(period.start_date), "time, UTC", ""
    yield "report", "end_date", plain(period.end_date), "time, UTC", ""
    yield "report", "days", period.days, "days", ""
    yield "report", "time_zone", meta.time_zone, "", "where calendar days begin"
    yield "report", "data_quality", summary.data_quality, "", ""
    yield "report", "mock_data", str(meta.mock_data).lower(), "", ""
    yield "report", "data_status", meta.data_status, "", ""
    yield "report", "next_review_date", plain(dashboard.next_review_date), "time, UTC", "report date + 7 days"
    for caveat in meta.caveats:
        yield "report", "caveat", caveat, "", ""
    yield "executive_summary", "overall_health", summary.overall_health, "word", OVERALL_HEALTH
    for achievement in summary.key_achievements:
        yield "executive_summary", "key_achievement", achievement, "", ""
    for area in summary.areas_of_focus:
        yield "executive_summary", "area_of_focus", area, "", ""
    for figure in FIGURES:
        yield figure.section, figure.name, figure.of(dashboard), figure.unit, figure.formula
    for insight in dashboard.strategic_insights:
        section = "strategic_insights"
        yield section, f"{insight.category}.insight", insight.insight, "", insight.data_source
        yield section, f"{insight.category}.action", insight.action, "", ""
        yield section, f"{insight.category}.priority", insight.priority, "word", ""
    for day in report.days:
        yield "daily_activity", f"{day.date.isoformat()} actions", day.actions, "actions", DAILY_ACTIONS
        yield "daily_activity", f"{day.date.isoformat()} high_risk", day.high_risk, "actions", DAILY_HIGH_RISK


def csv_bytes(table: list[tuple[Cell, ...]]) -> bytes:
    """RFC 4180 with CRLF and a byte order mark, so that spreadsheets read it as UTF-8."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([[cell(value) for value in row] for row in table])
    return text.getvalue().encode("utf-8-sig")


def cell(value: Cell) -> Cell:
    """Numbers as they are; text that cannot begin a formula, without characters that spreadsheets cannot hold."""
    if not isinstance(value, str):
        return value
    text = UNSAFE_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", value)
    return f"'{text}" if FORMULA.match(text) else text
