"""The executive report as tidy tables: one observation a row, one measure a column. RFC 4180, UTF-8 with a byte order mark. Pure.

`figures_csv` has one row, the report; `days_csv` has one row for each day of the period. What was not measured is empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from analytics.executive.formulas import FIGURES
from analytics.executive.report import ExecutiveReport
from analytics.executive.responses import StrategicInsight
from analytics.responses import plain

Cell = str | int | float | bool | None

DAY_COLUMNS = ("organization_id", "organization_name", "date", "partial", "actions", "high_risk_actions")
BETWEEN = " | "  # several sentences in one cell
# What a spreadsheet may run as a formula, also behind blanks or a quote; the wide forms are those of East Asian keyboards.
FORMULA = re.compile(r"""[\s"']*[=+\-@＝＋－＠\t\r\n]""")
UNSAFE_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How numbers are written, and what stands between columns so that it cannot be mistaken for them."""

    decimal_mark: str
    delimiter: str


class DecimalMark(Enum):
    """The variants of a table. Spreadsheets of locales with a decimal comma expect semicolons between columns."""

    POINT = NumberStyle(".", ",")
    COMMA = NumberStyle(",", ";")


def figures_csv(report: ExecutiveReport, mark: DecimalMark = DecimalMark.POINT) -> bytes:
    """The report in one row: what it covers, every figure, every sentence."""
    columns = list(figure_columns(report))
    return csv_bytes([[name for name, _ in columns], [value for _, value in columns]], mark)


def days_csv(report: ExecutiveReport, mark: DecimalMark = DecimalMark.POINT) -> bytes:
    """One row for each calendar day of the report's time zone; the first and the last are partial."""
    last = len(report.days) - 1
    rows = [
        (
            report.organization_id,
            report.organization_name,
            day.date.isoformat(),
            place in (0, last),
            day.actions,
            day.high_risk,
        )
        for place, day in enumerate(report.days)
    ]
    return csv_bytes([DAY_COLUMNS, *rows], mark)


def figure_columns(report: ExecutiveReport) -> Iterator[tuple[str, Cell]]:
    """Names and values in order; a figure is named by its place in the JSON response. Times are UTC."""
    dashboard, figures = report.dashboard, report.figures
    period, meta, summary = dashboard.data_period, dashboard.meta, dashboard.executive_summary
    yield "organization_id", report.organization_id
    yield "organization_name", report.organization_name
    yield "report_date", plain(dashboard.report_date)
    yield "start_date", plain(period.start_date)
    yield "end_date", plain(period.end_date)
    yield "days", period.days
    yield "time_zone", meta.time_zone
    yield "averages_since", plain(meta.averages_since)
    yield "data_quality", summary.data_quality
    yield "mock_data", meta.mock_data
    yield "data_status", meta.data_status
    yield "overall_health", summary.overall_health
    for figure in FIGURES:
        yield f"{figure.section}.{figure.name}", figure.of(dashboard) if figure.measured(figures) else None
    yield "key_achievements", BETWEEN.join(summary.key_achievements)
    yield "areas_of_focus", BETWEEN.join(summary.areas_of_focus)
    yield "strategic_insights", BETWEEN.join(map(insight_sentence, dashboard.strategic_insights))
    yield "caveats", BETWEEN.join(meta.caveats)
    yield "next_review_date", plain(dashboard.next_review_date)


def insight_sentence(insight: StrategicInsight) -> str:
    return f"{insight.insight} ({insight.priority}): {insight.action}"


def csv_bytes(table: Sequence[Sequence[Cell]], mark: DecimalMark = DecimalMark.POINT) -> bytes:
    """CRLF and a byte order mark, so that spreadsheets read it as UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n", delimiter=mark.value.delimiter)
    writer.writerows([[cell(value, mark) for value in row] for row in table])
    return text.getvalue().encode("utf-8-sig")


def cell(value: Cell, mark: DecimalMark = DecimalMark.POINT) -> str | int | float | None:
    """Numbers with their decimal mark; text that cannot begin a formula, without characters that spreadsheets cannot hold."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return value if mark is DecimalMark.POINT else str(value).replace(".", mark.value.decimal_mark)
    if not isinstance(value, str):
        return value
    text = UNSAFE_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", value)
    return f"'{text}" if FORMULA.match(text) else text
