"""Whatever the counts are: figures within bounds, sentences that print the figures' numbers, no category praised and blamed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.executive.dashboard import (
    Outcomes,
    Users,
    compliance_status,
    operational_efficiency,
    overall_health,
    platform_health,
    security_posture,
    user_growth,
)
from analytics.executive.responses import BusinessMetrics, ExecutiveKpis, MeasuredFigures, SystemUtilization
from analytics.executive.rules import (
    ACHIEVEMENTS,
    FOCUS,
    INSIGHTS,
    NO_FOCUS,
    Figures,
    achievements,
    faulted,
    focus,
    insights,
)

COUNT = st.integers(0, 30) | st.integers(0, 100_000)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcomes:
    total = draw(COUNT)

    def part(whole: int) -> int:
        return draw(st.sampled_from([0, whole]) | st.integers(0, whole) | st.integers(max(0, whole - 3), whole))

    assessed = part(total)
    critical = part(assessed)
    high = part(assessed - critical)
    succeeded, decided, due = part(total), part(total), part(assessed)
    return Outcomes(
        total, assessed, succeeded, part(total - succeeded), critical, high, part(assessed - critical - high),
        decided, part(decided), due, part(due),
    )  # fmt: skip


@st.composite
def users(draw: st.DrawFn) -> Users:
    current = draw(COUNT)
    return Users(current, draw(COUNT), draw(st.integers(0, current)), draw(st.integers(0, current)), None)


def measured_of(current: Outcomes, before: Outcomes, people: Users, *, recorded: bool) -> MeasuredFigures:
    return MeasuredFigures(
        platform_health=current.finished > 0,
        security_posture=current.assessed > 0,
        operational_efficiency=current.decided > 0 and recorded,
        compliance_status=current.due > 0,
        platform_health_trend=current.finished > 0 and before.finished > 0,
        security_posture_trend=current.total > 0 and before.total > 0,
        growth_rate=people.earlier > 0,
    )


@st.composite
def figures(draw: st.DrawFn) -> tuple[Figures, Outcomes]:
    current, before = draw(outcomes()), draw(outcomes())
    people = draw(users())
    pending, measured, days = draw(COUNT), draw(st.booleans()), draw(st.sampled_from([7, 30, 90, 365]))
    kpis = ExecutiveKpis(
        platform_health(current, before),
        security_posture(current, before),
        operational_efficiency(current, pending, measured=measured),
        compliance_status(current, pending, draw(COUNT)),
    )
    rate = kpis.operational_efficiency.automation_rate
    use = SystemUtilization(round(current.total / days, 1), current.total, rate, current.total)
    found = Figures(
        kpis,
        BusinessMetrics(user_growth(people), use),
        days,
        has_activity=current.total > 0,
        measured=measured_of(current, before, people, recorded=measured),
        reviews_due=current.due,
    )
    return found, current


@settings(max_examples=150)
@given(figures())
def test_figures_are_within_their_bounds(drawn: tuple[Figures, Outcomes]) -> None:
    found, current = drawn
    kpis, growth = found.kpis, found.business.user_growth
    assert 0 <= kpis.operational_efficiency.automation_rate <= 1
    for score in (
        kpis.platform_health.score,
        kpis.security_posture.score,
        kpis.operational_efficiency.score,
        kpis.compliance_status.score,
    ):
        assert 0 <= score <= 100
    # Perfect only without an exception beside it.
    assert (kpis.compliance_status.score == 100) == (kpis.compliance_status.violations == 0)
    assert kpis.security_posture.score < 100 or current.elevated == 0
    assert kpis.security_posture.score > 0
    if found.success_measured:
        assert (kpis.platform_health.score == 100) == (current.failed == 0)
    if found.automation_measured:
        assert (kpis.operational_efficiency.automation_rate == 1) == (
            kpis.operational_efficiency.manual_interventions == 0
        )
    assert growth.active_users <= growth.current_users
    sign = (growth.growth_rate > 0) - (growth.growth_rate < 0)
    assert growth.trend == {1: "positive", 0: "stable", -1: "negative"}[sign]
    assert overall_health(kpis, current) in ("excellent", "good", "fair", "poor", "no_data")
    if current.critical:
        assert overall_health(kpis, current) != "excellent"


@settings(max_examples=150)
@given(figures())
def test_every_number_in_a_sentence_is_one_of_the_figures(drawn: tuple[Figures, Outcomes]) -> None:
    found, _ = drawn
    known = {
        str(value)
        for value in (
            found.days, found.success, found.automation_percent, found.critical, found.high, found.security,
            found.violations, found.compliance, found.pending, round(100 * found.growth), round(-100 * found.growth),
        )
    }  # fmt: skip
    texts = [*achievements(found), *focus(found), *(insight.insight for insight in insights(found))]
    for text in texts:
        for number in re.findall(r"\d+(?:\.\d+)?", text):
            assert number in known, text


@settings(max_examples=150)
@given(figures())
def test_no_category_is_praised_and_blamed(drawn: tuple[Figures, Outcomes]) -> None:
    found, _ = drawn
    said = set(achievements(found))
    praised = {rule.category for rule in ACHIEVEMENTS if rule.condition(found) and rule.sentence(found) in said}
    shown = {(insight.category, insight.insight) for insight in insights(found)}
    praised |= {
        rule.category
        for rule in INSIGHTS
        if rule.tone == "praise" and rule.condition(found) and (rule.category, rule.insight(found)) in shown
    }
    blamed = {rule.category for rule in FOCUS if rule.condition(found)}
    blamed |= {rule.category for rule in INSIGHTS if rule.tone == "blame" and rule.condition(found)}
    assert not praised & blamed
    assert blamed == faulted(found)


@settings(max_examples=150)
@given(figures())
def test_sentences_hold_what_they_say(drawn: tuple[Figures, Outcomes]) -> None:
    found, current = drawn
    good, work, seen = " / ".join(achievements(found)), " / ".join(focus(found)), insights(found)
    assert "Zero critical" not in good or (current.critical == 0 and current.assessed > 0)
    assert "reliability" not in good or current.succeeded / (current.succeeded + current.failed) >= 0.949
    assert "automation" not in good or (current.decided - current.by_human) / current.decided >= 0.745
    assert "Every elevated-risk action" not in good or (
        current.due > 0 and current.violations == 0 and found.pending == 0
    )
    assert good
    assert work
    assert seen
    assert len({insight.category for insight in seen}) == len(seen)
    # "Go on as before" is never said beside something urgent.
    if work == NO_FOCUS:
        assert not faulted(found)
        assert all(insight.priority in ("low", "medium") for insight in seen)
    if not current.total:
        assert good.startswith("No agent activity")


def test_a_period_without_anything_says_so_and_praises_nothing() -> None:
    nothing = Outcomes(*[0] * 11)
    kpis = ExecutiveKpis(
        platform_health(nothing, nothing),
        security_posture(nothing, nothing),
        operational_efficiency(nothing, 0, measured=True),
        compliance_status(nothing, 0, 0),
    )
    nobody = Users(0, 0, 0, 0, None)
    business = BusinessMetrics(user_growth(nobody), SystemUtilization(0.0, 0, 0.0, 0))
    found = Figures(kpis, business, 30, False, measured_of(nothing, nothing, nobody, recorded=True), 0)
    assert achievements(found) == ("No agent activity this month",)
    assert focus(found) == ("Check that agents are connected to the platform",)
    assert [insight.category for insight in insights(found)] == ["status"]
    assert "in the last 7 days" in achievements(replace(found, days=7))[0]
    assert overall_health(kpis, nothing) == "no_data"


@pytest.mark.parametrize(
    ("now", "earlier", "rate", "trend"),
    [(125, 109, 0.15, "positive"), (100, 100, 0.0, "stable"), (90, 100, -0.1, "negative"), (5, 0, 0.0, "stable"),
     (999, 1000, 0.0, "stable")],
)  # fmt: skip
def test_growth_is_relative_to_the_periods_beginning(now: int, earlier: int, rate: float, trend: str) -> None:
    found = user_growth(Users(now, earlier, 0, 0, None))
    assert (found.growth_rate, found.trend) == (rate, trend)
    assert str(found.growth_rate) != "-0.0"


@pytest.mark.parametrize(
    ("total", "medium", "high", "critical", "score"),
    [(4520, 45, 12, 0, 94.2), (1000, 250, 0, 0, 50.0), (1000, 250, 120, 30, 29.1), (10, 0, 0, 10, 5.9), (1, 0, 0, 0, 100.0)],
)  # fmt: skip
def test_the_security_score_moves_with_every_level_and_never_saturates(
    total: int, medium: int, high: int, critical: int, score: float
) -> None:
    some = Outcomes(
        total=total, assessed=total, succeeded=0, failed=0, critical=critical, high=high, medium=medium,
        decided=0, by_human=0, due=0, violations=0,
    )  # fmt: skip
    assert security_posture(some, some).score == score
    if medium:
        worse = some._replace(medium=medium - 1, critical=critical + 1)
        assert security_posture(worse, some).score <= score


def test_violations_are_told_as_actions_that_ran_and_not_as_a_backlog() -> None:
    many = Outcomes(
        total=5000, assessed=5000, succeeded=5000, failed=0, critical=0, high=0, medium=641, decided=0, by_human=0,
        due=641, violations=641,
    )  # fmt: skip
    nobody = Users(0, 0, 0, 0, None)
    kpis = ExecutiveKpis(
        platform_health(many, many),
        security_posture(many, many),
        operational_efficiency(many, 2, measured=True),
        compliance_status(many, 2, 0),
    )
    business = BusinessMetrics(user_growth(nobody), SystemUtilization(0.0, 0, 0.0, 0))
    found = Figures(kpis, business, 30, True, measured_of(many, many, nobody, recorded=True), 641)
    assert "641 elevated-risk actions ran without a recorded decision" in focus(found)
    texts = [*focus(found), *(f"{one.insight} {one.action}" for one in insights(found))]
    assert not [text for text in texts if "overdue" in text or "backlog" in text]


def test_one_exception_among_many_is_never_rounded_away() -> None:
    many = Outcomes(
        total=100_000, assessed=100_000, succeeded=99_999, failed=1, critical=0, high=0, medium=1,
        decided=100_000, by_human=1, due=100_000, violations=1,
    )  # fmt: skip
    efficiency = operational_efficiency(many, 0, measured=True)
    assert platform_health(many, many).score == 99.9
    assert security_posture(many, many).score == 99.9
    assert (efficiency.score, efficiency.automation_rate) == (99.9, 0.99)
    assert compliance_status(many, 0, 0).score == 99.9
    flawless = many._replace(succeeded=100_000, failed=0, medium=0, by_human=0, violations=0)
    assert platform_health(flawless, flawless).score == 100
    assert security_posture(flawless, flawless).score == 100
    assert operational_efficiency(flawless, 0, measured=True).automation_rate == 1
    assert compliance_status(flawless, 0, 0).score == 100
