"""The executive dashboard in the requested format: JSON, CSV or PDF."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from analytics.calendar import counts_by_day, naive_utc
from analytics.executive.dashboard import DEFAULT_DAYS, actions_by_day, assess, period_calendar
from analytics.executive.rendered_document import RenderedDocument
from analytics.executive.report import DayActivity, ExecutiveReport
from analytics.executive.report_csv import DecimalMark, days_csv, figures_csv
from analytics.executive.responses import ExecutiveDashboard
from analytics.state.snapshot import ScopedSnapshot
from analytics.view_context import ViewContext

ReportFormat = Literal["json", "csv", "pdf"]
CSV = "text/csv; charset=utf-8; header=present"
PDF = "application/pdf"


def executive_report(
    snapshot: ScopedSnapshot,
    question: ViewContext,
    *,
    days: int = DEFAULT_DAYS,
    tz: str = "UTC",
    format: ReportFormat = "json",
    table: Literal["figures", "days"] = "figures",
    decimal: Literal["point", "comma"] = "point",
) -> ExecutiveDashboard | RenderedDocument:
    """GET /executive/dashboard. All formats hold the same numbers at the same time; `table` and `decimal` apply to CSV."""
    dashboard, figures = assess(snapshot, question, days=days, tz=tz)
    if format == "json":
        return dashboard
    report = ExecutiveReport(
        question.organization_id, dashboard, figures, daily_activity(snapshot, question, days, ZoneInfo(tz))
    )
    name = f"owkai-executive-{question.now.astimezone(UTC):%Y-%m-%d}"
    mark = DecimalMark.COMMA if decimal == "comma" else DecimalMark.POINT
    if format == "csv" and table == "days":
        return RenderedDocument(CSV, days_csv(report, mark), f"{name}-days.csv")
    if format == "csv":
        return RenderedDocument(CSV, figures_csv(report, mark), f"{name}.csv")
    # Load the drawing library only for a PDF.
    from analytics.executive.report_pdf import report_pdf

    return RenderedDocument(PDF, report_pdf(report), f"{name}.pdf")


def daily_activity(
    snapshot: ScopedSnapshot, question: ViewContext, days: int, zone: ZoneInfo
) -> tuple[DayActivity, ...]:
    """The period's dates in `zone`; the first and the last are partial."""
    start = naive_utc(question.now - timedelta(days=days))
    all_actions = actions_by_day(snapshot, question, start, days, zone)
    risky = counts_by_day(
        snapshot.rows(
            "high_risk_by_quarter",
            start=start,
            end=question.end,
            count_false_positives=question.settings.meaning.count_false_positives,
        ),
        period_calendar(question.now, days, zone),
    )
    return tuple(DayActivity(day, actions, high) for (day, actions), (_, high) in zip(all_actions, risky, strict=True))
