"""What views say of telemetry: live, stale, unavailable, and the documented 503."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.responses import DEPLOYED_CLIENT_FIELDS
from analytics.state.telemetry_board import (
    OFF,
    Part,
    RequestTotals,
    TelemetryBoard,
    TelemetrySample,
    TelemetryStatus,
    quantile,
    requests_between,
)
from analytics.telemetry import TelemetryUnavailableError, report, telemetry_condition
from config.settings import Settings, TelemetrySettings
from tests.analytics.asking import asking
from tests.analytics.rows import NOW, action, settings
from tests.contract.structure import assert_documented, example

FAILED = "CloudWatch cannot be reached"


def machine(age_seconds: float = 15.2, **changes: Any) -> TelemetrySample:
    at = NOW - timedelta(seconds=age_seconds)
    values = {"cpu_percent": 34.5, "cpu_average_percent": 32.1, "memory_percent": 62.8, "disk_percent": 45.2}
    return TelemetrySample(at, at, **{**values, **changes})


def requests(age_seconds: float = 15.2, **changes: Any) -> TelemetrySample:
    at = NOW - timedelta(seconds=age_seconds)
    values = {"requests_per_second": 25.4, "mean_milliseconds": 145.0, "p95_milliseconds": 320.0, "error_rate": 0.002}
    return TelemetrySample(at, at, **{**values, **changes})


def cloudwatch(system: TelemetrySample | None = None, failure: str | None = None, **parts: Any) -> TelemetryStatus:
    application = parts.get("application", Part("cloudwatch_logs", requests(), failure))
    return TelemetryStatus("cloudwatch", Part("cloudwatch", system, failure), application)


@pytest.fixture
def watched(tmp_path: Path) -> Settings:
    return given(tmp_path)


def given(directory: Path, **changes: Any) -> Settings:
    values = {"source": "cloudwatch", "region": "r", "cluster": "c", "service": "s", **changes}
    return settings(directory, telemetry=values)


def ask_all(config: Settings, status: TelemetryStatus, view: str) -> Any:
    with asking(config, agent_actions=[action(1)]) as ask:
        ask.telemetry = status
        return ask(view)


def test_live_answers_are_the_documented_ones_number_for_number(watched: Settings) -> None:
    status = cloudwatch(machine(network_milliseconds=12.3))
    realtime = ask_all(watched, status, "realtime")
    assert_documented("realtime_metrics_cloudwatch", realtime)
    documented = example("realtime_metrics_cloudwatch")
    for part in ("system_health", "performance_metrics"):
        found = {key: realtime[part][key] for key in documented[part]}
        assert found == documented[part] | ({"timestamp": "2025-01-15T14:29:45Z"} if "timestamp" in found else {})
    assert realtime["meta"] == documented["meta"]
    performance = ask_all(watched, status, "performance")
    assert_documented("performance", performance)
    documented = example("performance")
    for part in ("system_metrics", "application_metrics"):
        for name, block in documented[part].items():
            assert {key: performance[part][name][key] for key in block} == block
        assert performance[part]["message"] is None
    assert performance["meta"]["data_sources"] == documented["meta"]["data_sources"]
    assert performance["meta"]["cloudwatch_enabled"] is True
    message = ask_all(watched, status, "metrics_update")
    assert_documented("ws_metrics_update", message)
    assert message["system_metrics"] == example("ws_metrics_update")["system_metrics"]
    for name in ("cpu_usage", "memory_usage", "response_time"):
        assert message["metrics"][name] == message["system_metrics"][name]


@pytest.mark.parametrize("source", ["host", "cloudwatch"])
def test_every_field_the_deployed_client_reads_is_there(tmp_path: Path, source: Any) -> None:
    status = TelemetryStatus(source, Part(source, machine()), Part(source, requests()))
    views = {
        "realtime_metrics_cloudwatch": "realtime",
        "performance": "performance",
        "ws_metrics_update": "metrics_update",
    }
    assert {*views, "predictive_trends_active"} == set(
        DEPLOYED_CLIENT_FIELDS
    )  # that one: predictive/test_predictions.py
    for documented, view in views.items():
        answer = ask_all(given(tmp_path, source=source), status, view)
        for path in DEPLOYED_CLIENT_FIELDS[documented]:
            found = answer
            for key in path.split("."):
                assert key in found, path
                found = found[key]


def test_host_values_say_so_and_name_no_cloudwatch(tmp_path: Path) -> None:
    status = TelemetryStatus("host", Part("host", machine()), Part("host", requests()))
    answer = ask_all(given(tmp_path, source="host"), status, "realtime")
    assert (answer["system_health"]["status"], answer["system_health"]["source"]) == ("live", "host")
    assert answer["meta"]["cloudwatch_enabled"] is False
    assert answer["meta"]["cloudwatch_status"] == "disabled"
    assert answer["meta"]["real_data_sources"] == ["postgresql_rds", "host"]


def test_what_is_not_known_is_null_and_never_a_constant(watched: Settings) -> None:
    bare = TelemetrySample(NOW, NOW, cpu_percent=10.0)
    answer = ask_all(watched, cloudwatch(bare, application=Part()), "realtime")
    health = answer["system_health"]
    assert (health["cpu_usage"], health["status"]) == (10.0, "live")
    for name in ("memory_usage", "disk_usage", "network_latency", "api_response_time"):
        assert health[name] is None
    requested = answer["performance_metrics"]
    assert (requested["status"], requested["source"]) == ("unavailable", "none")
    performance = ask_all(watched, cloudwatch(bare, application=Part()), "performance")
    assert performance["system_metrics"]["storage"] == {
        "used": None,
        "available": None,
        "status": "unavailable",
        "source": "none",
    }
    assert "telemetry.log_group" in performance["application_metrics"]["message"]
    assert performance["meta"]["data_sources"]["application_metrics"] == "none"


@pytest.mark.parametrize(
    ("part", "value", "word"),
    [
        (("system_metrics", "cpu"), {"cpu_percent": 80.0}, "high"),
        (("system_metrics", "cpu"), {"cpu_percent": 79.9}, "normal"),
        (("system_metrics", "memory"), {"memory_percent": 85.0}, "high"),
        (("system_metrics", "memory"), {"memory_percent": 84.9}, "normal"),
        (("system_metrics", "storage"), {"disk_percent": 80.0}, "warning"),
        (("system_metrics", "storage"), {"disk_percent": 79.9}, "healthy"),
        (("application_metrics", "response_times"), {"mean_milliseconds": 200.0}, "slow"),
        (("application_metrics", "response_times"), {"mean_milliseconds": 199.9}, "good"),
        (("application_metrics", "error_rates"), {"error_rate": 0.01}, "elevated"),
        (("application_metrics", "error_rates"), {"error_rate": 0.0099}, "good"),
    ],
)
def test_status_words_begin_at_their_bounds(
    watched: Settings, part: tuple[str, str], value: dict[str, float], word: str
) -> None:
    system = part[0] == "system_metrics"
    status = cloudwatch(
        machine(**(value if system else {})),
        application=Part("cloudwatch_logs", requests(**({} if system else value))),
    )
    assert ask_all(watched, status, "performance")[part[0]][part[1]]["status"] == word


def test_stale_shows_the_last_good_sample_with_its_true_age(watched: Settings) -> None:
    status = cloudwatch(machine(299.5), FAILED)
    realtime = ask_all(watched, status, "realtime")
    health = realtime["system_health"]
    assert (health["status"], health["cpu_usage"], health["metrics_age_seconds"]) == ("stale", 34.5, 299)
    assert health["fallback_reason"] == FAILED
    assert realtime["meta"]["cloudwatch_status"] == "stale"
    assert realtime["meta"]["real_data_sources"] == ["postgresql_rds", "aws_cloudwatch"]
    performance = ask_all(watched, status, "performance")
    assert performance["system_metrics"]["cpu"]["current"] == 34.5
    assert performance["system_metrics"]["message"] == f"The last good values, 299 s old: {FAILED}"
    assert performance["meta"]["telemetry"]["system_metrics"] == {
        "status": "stale",
        "timestamp": "2025-01-15T14:25:00Z",
        "metrics_age_seconds": 299,
    }
    assert ask_all(watched, status, "metrics_update")["system_metrics"]["status"] == "stale"


@pytest.mark.parametrize("sample", [machine(301), None])
def test_beyond_the_bound_performance_refuses_and_the_others_go_on(
    watched: Settings, sample: TelemetrySample | None
) -> None:
    status = cloudwatch(sample, FAILED)
    with pytest.raises(TelemetryUnavailableError, match=FAILED) as caught:
        ask_all(watched, status, "performance")
    assert caught.value.retry_seconds == 60
    realtime = ask_all(watched, status, "realtime")
    assert realtime["real_time_overview"]["total_actions_last_hour"] == 1
    assert realtime["meta"]["cloudwatch_status"] == realtime["system_health"]["status"] == "unavailable"
    assert realtime["system_health"]["cpu_usage"] is None
    assert realtime["system_health"]["metrics_age_seconds"] == (301 if sample else None)
    message = ask_all(watched, status, "metrics_update")
    assert message["metrics"]["recent_actions_last_hour"] == 1
    assert message["system_metrics"] == {
        "status": "unavailable",
        "cpu_usage": None,
        "memory_usage": None,
        "response_time": 145.0,
    }


def test_before_the_first_attempt_nothing_has_failed(watched: Settings) -> None:
    answer = ask_all(watched, TelemetryBoard("cloudwatch").current, "performance")
    assert answer["system_metrics"]["cpu"]["current"] is None
    assert answer["system_metrics"]["message"] == "No sample has been collected yet"
    assert answer["meta"]["telemetry"]["status"] == "unavailable"
    assert ask_all(watched, TelemetryBoard("cloudwatch").current, "realtime")["system_health"]["source"] == "cloudwatch"


def test_nothing_used_is_no_data_source(watched: Settings) -> None:
    status = cloudwatch(None, FAILED, application=Part("cloudwatch_logs", None, FAILED))
    assert ask_all(watched, status, "realtime")["meta"]["real_data_sources"] == ["postgresql_rds"]


def test_strict_lets_realtime_refuse_too_and_counts_every_collected_part(tmp_path: Path) -> None:
    strict = given(tmp_path, strict=True)
    with pytest.raises(TelemetryUnavailableError):
        ask_all(strict, cloudwatch(None, FAILED), "realtime")
    no_logs = cloudwatch(machine(), application=Part("cloudwatch_logs", None, FAILED))
    for view in ("realtime", "performance"):
        with pytest.raises(TelemetryUnavailableError, match="Application metrics"):
            ask_all(strict, no_logs, view)
    assert ask_all(given(tmp_path), no_logs, "performance")["application_metrics"]["message"] == FAILED
    assert ask_all(strict, cloudwatch(machine(), application=Part()), "realtime")["meta"]["cloudwatch_status"] == "live"
    assert ask_all(strict, cloudwatch(None, FAILED), "metrics_update")["type"] == "metrics_update"


def test_a_collector_that_falls_silent_is_stale_without_saying_a_word() -> None:
    config = TelemetrySettings(source="host", period_seconds=10)
    part = Part("host", machine(0))
    assert telemetry_condition(part, config, NOW + timedelta(seconds=30)).state == "live"
    silent = telemetry_condition(part, config, NOW + timedelta(seconds=31))
    assert (silent.state, silent.reason) == ("stale", "Nothing has been collected for 31 s")
    assert telemetry_condition(part, config, NOW + timedelta(seconds=301)).state == "unavailable"


def test_old_data_of_a_collector_that_works_is_not_live() -> None:
    old = TelemetrySample(NOW - timedelta(seconds=301), NOW, cpu_percent=1.0)
    found = telemetry_condition(Part("cloudwatch", old), TelemetrySettings(), NOW)
    assert (found.state, found.sample, found.age_seconds) == ("unavailable", None, 301)


def test_a_clock_set_back_gives_age_zero() -> None:
    assert telemetry_condition(Part("host", machine(-60)), TelemetrySettings(), NOW).age_seconds == 0


def test_the_board_keeps_the_last_good_sample_of_a_part_that_fails() -> None:
    board = TelemetryBoard("cloudwatch")
    assert report(board.current, TelemetrySettings(), NOW).state == "unavailable"  # type: ignore[union-attr]
    good = Part("cloudwatch", machine())
    board.collected(good, Part())
    board.collected(Part("cloudwatch", failure=FAILED), Part())
    assert board.current.system == Part("cloudwatch", machine(), FAILED)
    board.collected(good, Part())
    assert (board.current.system, board.current.collections, board.current.failures) == (good, 3, 1)


def test_off_is_off() -> None:
    assert report(OFF, TelemetrySettings(), NOW) is None


BOUNDS = (0.01, 0.1, 1.0)


def test_requests_of_an_interval_come_from_the_difference_of_two_counts() -> None:
    before = RequestTotals(10, 1, 0.5, BOUNDS, (5, 5, 0, 0))
    after = RequestTotals(30, 2, 2.5, BOUNDS, (5, 25, 0, 0))
    found = requests_between(before, after, 10)
    assert found["requests_per_second"] == 2
    assert found["mean_milliseconds"] == pytest.approx(100)
    assert found["p95_milliseconds"] == pytest.approx(10 + 90 * 0.95)
    assert found["error_rate"] == pytest.approx(0.05)
    assert requests_between(after, after, 10) == {"requests_per_second": 0.0}


@pytest.mark.parametrize(
    ("counts", "share", "milliseconds"),
    [([0, 0, 0, 0], 0.95, None), ([0, 0, 0, 3], 0.95, 1000), ([100, 0, 0, 0], 0.5, 5), ([95, 5, 0, 0], 0.95, 10)],
)
def test_quantiles_of_a_histogram(counts: list[int], share: float, milliseconds: float | None) -> None:
    assert quantile(BOUNDS, counts, share) == (None if milliseconds is None else pytest.approx(milliseconds))
