"""What each view shows, to whom, and that all of it comes from this server."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from playwright.sync_api import Route, expect

from tests.browser.chromium import Watch
from tests.browser.conftest import Open
from tests.browser.dashboard import NUMBER, VIEWS, Dashboard
from tests.browser.platform import Platform
from tests.contract.structure import example


def test_hdr_05_the_whole_page_comes_from_this_server_without_a_violation(admin: Dashboard, watch: Watch) -> None:
    for view in VIEWS:
        admin.show(view)
    assert watch.hosts == {admin.base.removeprefix("http://")}
    watch.assert_quiet()


def test_the_chart_shows_history_forecast_and_band_and_says_the_same_in_a_table(admin: Dashboard) -> None:
    page = admin.page
    expect(page.locator("#risk-chart canvas")).to_be_visible()
    expect(page.locator("#risk-key-forecast")).to_be_visible(timeout=30_000)
    expect(page.locator("#risk-key-band")).to_be_visible()
    page.get_by_text("Show table").click()
    rows = page.locator("#risk-rows tr")
    expect(rows).to_have_count(14 + 7)
    expect(rows.first.locator("td").nth(1)).to_have_text(NUMBER)
    expect(rows.first.locator("td").nth(2)).to_have_text(re.compile(r"^[\d.,]+ to [\d.,]+$"))
    expect(rows.nth(7)).to_contain_text("so far")
    expect(page.locator("#risk-chart")).to_have_attribute("aria-label", re.compile("high-risk actions in 14 days"))
    page.get_by_role("group", name="Period of the chart").get_by_label("30 days").check()
    expect(rows).to_have_count(30 + 7)
    expect(page.locator("#risk-summary")).to_contain_text("30 days")


def test_the_bars_of_the_chart_are_drawn_to_the_canvas(admin: Dashboard) -> None:
    expect(admin.page.locator("#risk-chart canvas")).to_be_visible()
    colours = admin.page.evaluate(
        """() => {
            const canvas = document.querySelector('#risk-chart canvas');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const bar = getComputedStyle(document.documentElement).getPropertyValue('--bar').trim();
            const [r, g, b] = [1, 3, 5].map((at) => parseInt(bar.slice(at, at + 2), 16));
            let found = 0;
            for (let i = 0; i < data.length; i += 4) found += data[i] === r && data[i + 1] === g && data[i + 2] === b;
            return found;
        }"""
    )
    assert colours > 2000


def test_the_latest_actions_can_be_filtered_and_sorted(admin: Dashboard) -> None:
    page = admin.page
    expect(admin.rows()).to_have_count(20)
    assert page.locator("#sort-timestamp").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Agent").click()
    expect(page.locator("#sort-agent_id")).to_have_attribute("aria-sort", "ascending")
    assert admin.column("Agent") == sorted(admin.column("Agent"))
    page.get_by_role("button", name="Agent").click()
    expect(page.locator("#sort-agent_id")).to_have_attribute("aria-sort", "descending")
    assert admin.column("Agent") == sorted(admin.column("Agent"), reverse=True)
    page.get_by_role("button", name="Risk").click()
    order = ["Critical", "High", "Medium", "Low", "Unknown"]
    assert admin.column("Risk") == sorted(admin.column("Risk"), key=order.index)
    page.get_by_label("Filter by risk").select_option("elevated")
    assert set(admin.column("Risk")) <= {"High", "Critical"}
    assert 0 < len(admin.column("Risk")) < 20
    page.get_by_label("Filter by risk").select_option("")
    page.get_by_label("Filter by text").fill("TOOL-1")
    assert set(admin.column("Tool")) == {"tool-1"}
    expect(page.locator("#actions-count")).to_contain_text("of 20 actions")
    page.get_by_label("Filter by text").fill("no such thing")
    expect(page.locator("#actions-empty")).to_have_text("No matching actions.")
    page.get_by_role("button", name="Clear filters").click()
    expect(admin.rows()).to_have_count(20)


def test_the_forecast_view_shows_forecast_workload_and_quality(admin: Dashboard) -> None:
    admin.show("forecast")
    page = admin.page
    expect(page.locator("#risk-forecast tbody tr")).to_have_count(7, timeout=30_000)
    expect(page.locator("#workload tbody tr").first).to_contain_text("agent-")
    expect(page.locator("#quality")).to_contain_text("Range expected to hold in")
    expect(page.locator("#recommendations")).not_to_be_empty()
    expect(page.locator("#anomalies")).not_to_be_empty()
    expect(page.locator("#risk-forecast th").first).to_have_text("Day (UTC)")
    expect(page.locator("#risk-forecast")).to_contain_text("Days in UTC.")


def test_an_address_of_an_earlier_version_still_opens_the_forecast(admin: Dashboard) -> None:
    admin.page.goto(f"{admin.base}/#outlook")
    expect(admin.page.locator("#view-forecast")).to_be_visible()


def test_the_system_view_says_how_fresh_everything_is(admin: Dashboard) -> None:
    admin.show("system")
    page = admin.page
    expect(page.locator("#sync-facts")).to_contain_text("Up to date")
    expect(page.locator("#sync-facts")).to_contain_text("exact")
    expect(page.locator("#machine-state")).to_contain_text("Live")
    expect(page.locator("#machine-state")).to_contain_text("ago, this host")
    expect(page.locator("#database")).to_contain_text("active")
    expect(page.locator("#measured-rows tr")).to_have_count(8)
    expect(page.locator("#machine")).to_contain_text(re.compile(r"Round trip to source\s*[\d.]+ ms"))


def test_measurements_shown_together_agree(admin: Dashboard) -> None:
    """Samples change twice a second here; still no two places of one view may show different ones."""
    admin.show("system")
    page = admin.page
    expect(page.locator("#measured-rows tr")).to_have_count(8)
    shown = """() => {
        const gauges = [...document.querySelectorAll('#machine .gauge')].map((g) => g.querySelector('dd').innerText.trim());
        const facts = [...document.querySelectorAll('#requests .fact dd')].map((d) => d.innerText.trim());
        const rows = [...document.querySelectorAll('#measured-rows tr')].map((r) => r.querySelector('td').innerText.trim());
        return [[...gauges, facts[1], facts[2], facts[0], facts[3]], [rows[0], ...rows.slice(2)]];
    }"""
    seen = set()
    for _ in range(60):
        one, other = page.evaluate(shown)
        assert one == other
        seen.add(tuple(one))
        if len(seen) > 2:
            break
        page.wait_for_timeout(500)
    assert len(seen) > 1
    expect(page.locator("#database")).to_contain_text("more than 5 minutes")
    text = page.locator("#database").inner_text()
    assert not re.search(r"minutes\s*[1-9]\d*\s+Optimal", text), text


def test_the_executive_view_is_the_admins_report_with_files_to_take_away(admin: Dashboard) -> None:
    admin.show("executive")
    page = admin.page
    expect(page.locator("#executive article")).to_have_count(4)
    expect(page.locator("#executive")).to_contain_text("Platform health")
    expect(page.locator("#business")).to_contain_text("Active users")
    expect(page.locator("#executive-organization")).to_have_text("Organization 1")
    # The history is younger than the period: nothing is compared, and no trend is made up.
    expect(page.locator("#executive-period")).to_contain_text("no earlier period to compare")
    expect(page.locator("#executive")).not_to_contain_text("Stable")
    expect(page.locator("#limitations")).to_contain_text("verages")
    page.get_by_role("group", name="Report period").get_by_label("7 days").check()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    (row,) = csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig")))
    assert (row["days"], row["organization_id"]) == ("7", "1")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV by day").click()
    days = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
    assert sum(int(day["actions"]) for day in days) == int(row["platform_health.total_actions"])
    page.get_by_label("Decimal mark in CSV files").select_option("comma")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    (comma,) = csv.DictReader(io.StringIO(text), delimiter=";")
    assert comma["platform_health.score"] == row["platform_health.score"].replace(".", ",")
    with page.expect_download() as download:
        page.get_by_role("link", name="PDF").click()
    assert download.value.path().read_bytes().startswith(b"%PDF-")


def test_az_02_the_executive_view_is_hidden_from_users_and_refused_by_address(
    open_page: Open, platform: Platform, watch: Watch
) -> None:
    board = open_page().enter(platform.keys["user"])
    expect(board.page.get_by_role("link", name="Executive")).to_be_hidden()
    board.page.goto(f"{board.base}/#executive")
    expect(board.page.locator("#executive")).to_have_text("The Executive view is available to admins only.")
    expect(board.page.get_by_role("link", name="PDF")).to_be_hidden()
    watch.assert_quiet()


def test_an_organization_without_data_reads_words_instead_of_empty_boxes(open_page: Open, platform: Platform) -> None:
    board = open_page().enter(platform.keys["empty"])
    page = board.page
    expect(page.locator("#actions-empty")).to_have_text("No actions recorded yet.")
    expect(page.locator("#agents-list")).to_have_text("No agent activity in this period.")
    expect(page.locator("#risk-summary")).to_have_text("No high-risk actions in 14 days.")
    expect(page.locator("#attention")).to_contain_text("Forecasts need 4 days of history")
    board.show("forecast")
    expect(page.locator("#risk-forecast")).to_contain_text("No forecast yet")
    board.show("executive")
    scores = page.locator("#executive .figure-score")
    expect(scores).to_have_text(["No data yet"] * 4)
    expect(page.locator("#executive-health")).to_have_text("No data yet")
    expect(page.locator("#executive")).not_to_contain_text("/ 100")


def test_times_and_days_follow_the_viewers_zone_and_the_choice_of_utc(open_page: Open, platform: Platform) -> None:
    board = open_page(timezone_id="Pacific/Kiritimati").enter(platform.keys["admin"])
    page = board.page
    expect(page.locator("#zone-name")).to_have_text("Pacific/Kiritimati")
    expect(page.locator("#risk-zone")).to_contain_text("Pacific/Kiritimati")
    page.get_by_text("Show table").click()
    there = datetime.now(UTC) + timedelta(hours=14)
    today = page.locator("#risk-rows tr").filter(has_text="so far")
    expect(today).to_contain_text(f"{there.day} {there:%b} {there.year}")
    page.locator("#account summary").click()
    page.get_by_label("Time zone").select_option("utc")
    expect(page.locator("#zone-name")).to_have_text("UTC")
    expect(page.locator("#risk-zone")).to_contain_text("Days in UTC")
    now = datetime.now(UTC)
    expect(today).to_contain_text(f"{now.day} {now:%b} {now.year}")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Pacific/Kiritimati", "America/Los_Angeles", "Etc/GMT+12"])
def test_days_counted_in_another_zone_never_stand_in_one_row_with_days_forecast(
    open_page: Open, platform: Platform, zone: str
) -> None:
    page = open_page(timezone_id=zone).enter(platform.keys["admin"]).page
    expect(page.locator("#risk-key-forecast")).to_be_visible(timeout=30_000)
    page.get_by_text("Show table").click()
    rows = page.locator("#risk-rows tr")
    expect(rows).to_have_count(14 + 7)
    cells = [row.locator("th, td").all_text_contents() for row in rows.all()]
    assert [bool(counted) and bool(expected) for _, counted, expected, *_ in cells] == [False] * 21
    assert [day.endswith(" UTC") for day, *_ in cells] == [True] * 7 + [False] * 14
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert f"{tomorrow.day} {tomorrow:%b} {tomorrow.year} UTC" in cells[6][0]
    expect(page.locator("#risk-summary")).to_contain_text(" UTC: ")
    expect(page.locator("#risk-zone")).to_contain_text("Forecast days are in UTC")


def test_a_zone_whose_days_are_those_of_utc_is_joined_with_the_forecast(open_page: Open, platform: Platform) -> None:
    page = open_page(timezone_id="Africa/Abidjan").enter(platform.keys["admin"]).page
    expect(page.locator("#risk-key-forecast")).to_be_visible(timeout=30_000)
    expect(page.locator("#risk-zone")).to_have_text("Days in Africa/Abidjan. Today is partial.")
    expect(page.locator("#risk-summary")).not_to_contain_text("UTC")


def test_the_theme_follows_the_system_and_a_choice_outlives_the_visit(admin: Dashboard) -> None:
    page = admin.page
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.locator("#account summary").click()
    page.get_by_label("Theme").select_option("light")
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    admin.until_live()
    expect(root).to_have_attribute("data-theme", "light")


WITHOUT = ("realtime_metrics_without_cloudwatch", "predictive_trends_collecting")
EXAMPLES = {
    "realtime_metrics_cloudwatch": "realtime/metrics",
    "realtime_metrics_without_cloudwatch": "realtime/metrics",
    "performance": "performance",
    "predictive_trends_active": "predictive/trends",
    "predictive_trends_collecting": "predictive/trends",
    "trends": "trends?*",
    "executive_dashboard": "executive/dashboard?*",
}


def fulfil(name: str, route: Route) -> None:
    route.fulfill(json=example(name))


@pytest.mark.parametrize("left_out", [WITHOUT, ("realtime_metrics_cloudwatch", "predictive_trends_active")])
def test_the_documented_examples_as_they_stand_are_shown_without_a_gap(
    open_page: Open, platform: Platform, watch: Watch, left_out: tuple[str, ...]
) -> None:
    board = open_page()
    for name, path in EXAMPLES.items():
        if name not in left_out:
            board.page.route(f"**/api/analytics/{path}", partial(fulfil, name))
    board.enter(platform.keys["admin"])
    for view in VIEWS:
        text = board.show(view).page.locator("body").inner_text()
        assert not re.search(r"undefined|NaN|\bnull\b|\[object", text), view
    watch.assert_quiet()


HEALTH = {
    "live": ("Live", "12 s ago, CloudWatch", None),
    "stale": ("Stale", "4 min ago, CloudWatch", "throttled"),
    "unavailable": ("Unavailable", "no sample", "access denied"),
    "phase_2_planned": ("Off", "not measured", None),
}


@pytest.mark.parametrize("status", HEALTH)
def test_every_state_of_telemetry_is_shown_with_its_age(open_page: Open, platform: Platform, status: str) -> None:
    badge, age, reason = HEALTH[status]
    name = "realtime_metrics_without_cloudwatch" if badge == "Off" else "realtime_metrics_cloudwatch"
    answer = example(name)
    seconds = {"live": 12, "stale": 240}.get(status)
    if badge != "Off":
        answer["system_health"] |= {"status": status, "metrics_age_seconds": seconds, "fallback_reason": reason}
    board = open_page()
    board.page.route("**/api/analytics/realtime/metrics", lambda route: route.fulfill(json=answer))
    board.enter(platform.keys["admin"]).show("system")
    expect(board.page.locator("#machine-state")).to_have_text(f"{badge} {age}")
    if reason:
        expect(board.page.locator("#machine")).to_contain_text(reason)


def test_a_failed_request_is_shown_with_its_request_id(admin: Dashboard) -> None:
    page = admin.page
    problem = '{"status": 503, "detail": "CloudWatch connection failed", "request_id": "0123456789abcdef"}'
    page.route(
        "**/api/analytics/performance",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=problem),
    )
    admin.show("system")
    note = page.locator("#panel-database .note")
    expect(note).to_contain_text("CloudWatch connection failed.")
    expect(note).to_contain_text("Request ID 0123456789abcdef")
