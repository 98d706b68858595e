"""The executive report as a PDF: A4, grayscale, from the same figures as the JSON response.

Importing this module loads the drawing library, so it is imported only when a PDF is requested.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from analytics.executive.formulas import FIGURES, OVERALL_HEALTH, SECTION_TITLES, Figure
from analytics.executive.print_page import (
    BLACK,
    BOLD,
    DARK,
    LIGHT,
    MIDDLE,
    PALE,
    REGULAR,
    WHITE,
    Page,
    width_of,
    wrapped,
)
from analytics.executive.report import ExecutiveReport
from analytics.executive.responses import StrategicInsight

GAP = 8.0
UNMEASURED = "Not measured"
NO_DATA = "No data yet"
NOTHING_TO_COMPARE = "no earlier period to compare"
TITLE_WIDTH = 1000.0  # of the name in the document's title, which no line bounds
MOCK = "DEMONSTRATION DATA - NOT A REAL ORGANIZATION"
PRIORITY_GRAY = {"critical": BLACK, "high": DARK, "medium": MIDDLE, "low": LIGHT}
TREND_UP = {"improving": True, "declining": False, "positive": True, "negative": False}


def report_pdf(report: ExecutiveReport) -> bytes:
    """The whole document, one or two pages. The same report gives the same bytes."""
    dashboard = report.dashboard
    generated = f"Generated {stamp(dashboard.report_date)} UTC by OW-kai Analytics"
    page = Page(
        f"Executive report, {organization(report, TITLE_WIDTH, 10)}",
        f"{generated}  ·  {organization(report, 130, 7)}  ·  confidential",
        dashboard.report_date,
        MOCK if dashboard.meta.mock_data else "",
    )
    title(page, report)
    score_tiles(page, report)
    count_tiles(page, report)
    charts(page, report)
    sentences(page, report)
    insights(page, dashboard.strategic_insights)
    caveats(page, dashboard.meta.caveats)
    formulas(page)
    return page.finish()


def stamp(moment: datetime) -> str:
    """As printed: UTC to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def organization(report: ExecutiveReport, width: float, size: float) -> str:
    """Name and number, or only the number where no table provides a name; a long name is cut to `width`."""
    name = report.organization_name
    if name is None:
        return f"Organization {report.organization_id}"
    return f"{wrapped(name, width, size, lines=1)[0]} (organization {report.organization_id})"


def number(value: float) -> str:
    """With thousands set apart, and as many decimals as the response has."""
    return f"{value:,}"


def percent(share: float) -> str:
    """A share as a percentage, without decimals that the response lacks."""
    return f"{round(100 * share)} %"


def growth(rate: float) -> str:
    return f"{round(100 * rate):+d} %" if rate else "0 %"


def title(page: Page, report: ExecutiveReport) -> None:
    dashboard = report.dashboard
    period = dashboard.data_period
    page.y -= 14
    page.text(page.left, page.y, "Executive report", 20, font=BOLD)
    health = dashboard.executive_summary.overall_health
    page.text(page.right, page.y + 13, "Overall health", 8, gray=MIDDLE, align="right")
    page.text(
        page.right, page.y - 3, NO_DATA if health == "no_data" else health.capitalize(), 15, font=BOLD, align="right"
    )
    page.y -= 16
    page.text(
        page.left,
        page.y,
        f"{organization(report, 180, 8.5)}  ·  {stamp(period.start_date)} to {stamp(period.end_date)} UTC "
        f"({period.days} days)",
        8.5,
        gray=DARK,
    )
    page.y -= 11
    status = dashboard.meta.data_status.replace("_", " ")
    comparable = report.figures.measured.platform_health_trend or report.figures.measured.security_posture_trend
    compared = f"trends against the previous {period.days} days" if comparable else NOTHING_TO_COMPARE
    page.text(
        page.left,
        page.y,
        f"Calendar days in {dashboard.meta.time_zone}  ·  data: {status}  ·  {compared}",
        8.5,
        gray=DARK,
    )
    page.y -= 10


def score_tiles(page: Page, report: ExecutiveReport) -> None:
    kpis, figures = report.dashboard.executive_kpis, report.figures
    health, security = kpis.platform_health, kpis.security_posture
    efficiency, compliance = kpis.operational_efficiency, kpis.compliance_status
    tiles = (
        (
            "Platform health",
            health.score if figures.success_measured else None,
            trend_shown(health.trend, figures.measured.platform_health_trend) if figures.success_measured else None,
            (f"{health.success_rate} % success rate", f"status: {health.status}")
            if figures.success_measured
            else ("no finished actions", ""),
        ),
        (
            "Security posture",
            security.score if figures.risk_measured else None,
            trend_shown(security.trend, figures.measured.security_posture_trend) if figures.risk_measured else None,
            (
                f"{number(security.critical_issues)} critical, {number(security.high_risk_actions)} high,",
                f"{number(security.medium_risk_actions)} medium risk",
            )
            if figures.risk_measured
            else ("no known risk levels", ""),
        ),
        (
            "Operational efficiency",
            efficiency.score if figures.automation_measured else None,
            None,
            (
                f"{number(efficiency.manual_interventions)} manual decisions"
                if figures.automation_measured or not figures.has_activity
                else "manual decisions unknown",
                f"{number(efficiency.pending_actions)} pending approval",
            ),
        ),
        (
            "Compliance",
            compliance.score if figures.reviews_due else None,
            None,
            (
                f"{number(compliance.violations)} of {number(figures.reviews_due)} ran without a decision"
                if figures.reviews_due
                else "no reviews due",
                f"{number(compliance.compliance_actions)} review events",
            ),
        ),
    )
    width, height = (page.width - 3 * GAP) / 4, 86.0
    page.need(height)
    top = page.y
    for place, (name, score, trend, lines) in enumerate(tiles):
        x = page.left + place * (width + GAP)
        page.box(x, top - height, width, height, fill=PALE, edge=LIGHT)
        page.text(x + 8, top - 14, name, 8, font=BOLD, gray=DARK)
        if score is None:
            page.text(x + 8, top - 37, UNMEASURED if figures.has_activity else NO_DATA, 11, gray=MIDDLE)
        else:
            page.text(x + 8, top - 38, f"{score}", 22, font=BOLD)
            page.text(x + 10 + width_of(f"{score}", 22, BOLD), top - 38, "/ 100", 8, gray=MIDDLE)
        if trend is not None:
            trend_mark(page, x + 8, top - 52, trend)
        for row, line in enumerate(lines):
            size = min(7.2, 7.2 * (width - 14) / max(1.0, width_of(line, 7.2)))
            page.text(x + 8, top - 66 - 10 * row, line, size, gray=DARK)
    page.y = top - height - GAP


def trend_shown(trend: str, measured: bool) -> str:
    return trend if measured else NOTHING_TO_COMPARE


def trend_mark(page: Page, x: float, y: float, trend: str) -> None:
    """The trend's word with an arrow head before it, a bar when stable."""
    if trend == NOTHING_TO_COMPARE:
        page.text(x, y, trend, 7.2, gray=MIDDLE)
        return
    if trend in TREND_UP:
        page.triangle(x, y, 6, up=TREND_UP[trend], gray=BLACK)
    else:
        page.box(x, y + 2, 6, 1.6, fill=BLACK)
    page.text(x + 10, y, trend, 7.2, font=BOLD)


def count_tiles(page: Page, report: ExecutiveReport) -> None:
    users, use = report.dashboard.business_metrics.user_growth, report.dashboard.business_metrics.system_utilization
    automation = percent(use.efficiency_score) if report.figures.automation_measured else "-"
    tiles = (
        ("Actions", number(use.total_actions_month)),
        ("Daily average", number(use.avg_actions_per_day) if report.figures.has_activity else "-"),
        ("Peak day", number(use.peak_day_actions)),
        ("Automation", automation),
        ("Users", number(users.current_users)),
        ("Active users", number(users.active_users)),
        ("New this week", number(users.new_users_this_week)),
        ("User growth", growth(users.growth_rate) if report.figures.measured.growth_rate else "-"),
    )
    width, height = page.width / len(tiles), 34.0
    page.need(height)
    for place, (name, shown) in enumerate(tiles):
        x = page.left + place * width
        size = min(12.0, 12.0 * (width - 6) / width_of(shown, 12, BOLD))
        page.text(x, page.y - 14, shown, size, font=BOLD)
        page.text(x, page.y - 25, name, 7, gray=MIDDLE)
    page.y -= height - 2


def charts(page: Page, report: ExecutiveReport) -> None:
    """Two panels over one axis of days: all actions, and those of high risk with a scale of their own."""
    page.need(190)
    page.heading("Activity by day")
    dates = [day.date for day in report.days]
    panel(page, "Actions per day", [day.actions for day in report.days], 68.0, gray=MIDDLE)
    panel(page, "High-risk and critical actions per day", [day.high_risk for day in report.days], 44.0, gray=BLACK)
    left, width = page.left + 30, page.width - 30
    step = max(1, math.ceil(len(dates) / 10))
    pitch = width / max(1, len(dates))
    # Counted back from the last day, so that today is always named.
    for place in range(len(dates) - 1, -1, -step):
        x = left + (place + 0.5) * pitch
        page.line(x, page.y + 4, x, page.y + 2, gray=MIDDLE)
        label = f"{dates[place]:%d %b}".lstrip("0")
        page.text(min(x, page.right - width_of(label, 6.5) / 2), page.y - 5, label, 6.5, gray=DARK, align="center")
    page.y -= 14
    zone = report.dashboard.meta.time_zone
    page.text(left, page.y, f"Days in {zone}. The first and last days are partial.", 6.5, gray=MIDDLE)
    page.y -= 6


def panel(page: Page, name: str, counts: list[int], height: float, *, gray: float) -> None:
    """Bars for counts from 0, with a scale of two or three round numbers."""
    left, width = page.left + 30, page.width - 30
    page.y -= 10
    page.text(left, page.y, name, 7.5, font=BOLD, gray=DARK)
    page.y -= 4
    base = page.y - height
    top = scale_top(max(counts, default=0))
    for part in (0, 1, 2) if top % 2 == 0 else (0, 2):
        y = base + height * part / 2
        page.line(left, y, page.right, y, gray=DARK if part == 0 else LIGHT, width=0.6 if part == 0 else 0.3)
        label = number(top * part // 2)
        size = min(6.5, 6.5 * 26 / width_of(label, 6.5))
        page.text(left - 4, y - 2.2, label, size, gray=DARK, align="right")
    pitch = width / max(1, len(counts))
    for place, count in enumerate(counts):
        if count:
            page.box(left + (place + 0.15) * pitch, base, 0.7 * pitch, height * count / top, fill=gray)
    page.y = base - 4


def scale_top(highest: int) -> int:
    """A round number not below `highest`: 1, 2, 4, 5, 6 or 8 times a power of ten."""
    if highest <= 1:
        return 1
    power = int(10 ** int(math.log10(highest)))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= highest)


def sentences(page: Page, report: ExecutiveReport) -> None:
    """Achievements beside the areas of focus."""
    summary = report.dashboard.executive_summary
    width = (page.width - 2 * GAP) / 2
    columns = [
        (name, [wrapped(entry, width - 10, 8.5) for entry in entries])
        for name, entries in (("Achievements", summary.key_achievements), ("Focus areas", summary.areas_of_focus))
    ]
    page.need(30 + max(sum(11 * len(lines) + 2 for lines in entries) for _, entries in columns))
    top = lowest = page.y
    for place, (name, entries) in enumerate(columns):
        x, y = page.left + place * (width + 2 * GAP), top - 12
        page.text(x, y, name, 10.5, font=BOLD)
        page.line(x, y - 4, x + width, y - 4, gray=DARK, width=0.8)
        y -= 15
        for lines in entries:
            page.text(x, y, "•", 8.5)
            for line in lines:
                page.text(x + 10, y, line, 8.5)
                y -= 11
            y -= 2
        lowest = min(lowest, y)
    page.y = lowest


def insights(page: Page, found: tuple[StrategicInsight, ...]) -> None:
    """One row per insight: priority, insight, action."""
    page.need(60)
    page.heading("Insights")
    tag, gap = 52.0, 60.0
    width = (page.width - gap - GAP) / 2
    for insight in found:
        seen = wrapped(insight.insight, width, 8.5, BOLD)
        advice = wrapped(insight.action, width, 8.5)
        height = 11.0 * max(len(seen), len(advice)) + 5
        page.need(height)
        y = page.y - 9
        gray = PRIORITY_GRAY[insight.priority]
        page.box(page.left, y - 3, tag, 11, fill=gray)
        page.text(
            page.left + tag / 2, y, insight.priority.upper(), 6.5, font=BOLD, align="center",
            gray=BLACK if insight.priority == "low" else WHITE,
        )  # fmt: skip
        for x, lines, font in ((page.left + gap, seen, BOLD), (page.left + gap + width + GAP, advice, REGULAR)):
            for row, line in enumerate(lines):
                page.text(x, y - 11 * row, line, 8.5, font=font)
        page.y -= height


def caveats(page: Page, found: tuple[str, ...]) -> None:
    if not found:
        return
    entries = [wrapped(entry, page.width - 10, 7.5) for entry in found]
    page.need(24 + 10 * sum(map(len, entries)))
    page.heading("Limitations")
    for lines in entries:
        for row, line in enumerate(lines):
            if row == 0:
                page.text(page.left, page.y - 8, "•", 7.5)
            page.text(page.left + 10, page.y - 8, line, 7.5, gray=DARK)
            page.y -= 10


def formulas(page: Page) -> None:
    """Small print: how each number is computed."""
    size, pitch = 6.2, 7.5
    width = (page.width - 2 * GAP) / 2
    blocks = [("Overall health", [wrapped(f"{OVERALL_HEALTH}.", width, size)])]
    for section, name in SECTION_TITLES.items():
        blocks.append(
            (name, [wrapped(formula_line(figure), width, size) for figure in FIGURES if figure.section == section])
        )
    heights = [pitch * sum(map(len, entries)) + 12 for _, entries in blocks]
    splits = {max(sum(heights[:place]), sum(heights[place:])): place for place in range(1, len(blocks))}
    split = splits[min(splits)]
    page.need(min(splits) + 24)
    page.heading("How each number is computed")
    top = lowest = page.y
    for place, column in enumerate((blocks[:split], blocks[split:])):
        x, y = page.left + place * (width + 2 * GAP), top
        for name, entries in column:
            y -= 8
            page.text(x, y, name, size + 0.5, font=BOLD, gray=DARK)
            for lines in entries:
                for line in lines:
                    y -= pitch
                    page.text(x, y, line, size, gray=DARK)
            y -= 4
        lowest = min(lowest, y)
    page.y = lowest


def formula_line(figure: Figure) -> str:
    return f"{figure.label}: {figure.formula}."
