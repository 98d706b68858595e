"""Query parameters: known, once, in range; anything else is 400 and names the parameter."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import quote

import pytest

from owkai.wiring import zone_names
from tests.handlers.serving import Served, still_alive
from tests.handlers.world import ADMIN_1, USER_1


@pytest.mark.gen_test
async def test_in_01_days_is_a_whole_number_from_1_to_365(served: Served) -> None:
    for text in (
        "0", "-1", "366", "1000000000", "1.5", "abc", "", "0x7", "7;8", "NaN", "9" * 5000, "%2B7", "07", "%D9%A7",
        "7%00", "+7", "1e1", "%207",
    ):  # fmt: skip
        answer = await served.get(f"/trends?days={text}", token=USER_1.token())
        assert answer.status == 400, text
        assert "days" in answer.detail
        assert "1 to 365" in answer.detail
        assert answer.json()["parameter"] == "days"
    for days in (1, 7, 365):
        answer = await served.get(f"/trends?days={days}", token=USER_1.token())
        assert answer.status == 200
        assert len(answer.json()["high_risk_actions_by_day"]) == days


@pytest.mark.gen_test
async def test_in_02_repeated_and_unknown_parameters_are_400_everywhere(served: Served) -> None:
    for target in (
        "/trends?days=7&days=30",
        "/trends?days=7&days=7",
        "/trends?days[]=7",
        "/trends?Days=7",
        "/trends?tz=UTC&tz=UTC",
        "/realtime/metrics?days=7",
        "/predictive/trends?x=1",
        "/performance?tz=UTC",
        "/performance/system?a",
        "/debug?offset=5",
    ):
        answer = await served.get(target, token=USER_1.token())
        assert answer.status == 400, target
        assert "parameter" in answer.json()
    for target in ("/healthz?x=1", "/readyz?x=1", "/metrics?x=1"):
        assert (await served.ask(target)).status == 400, target


@pytest.mark.gen_test
async def test_in_03_tz_is_a_name_from_the_list(served: Served) -> None:
    for text in (
        "../../etc/passwd", "/etc/localtime", "Europe/Berlin/../../x", "%00", "UTC%00", "x" * 10_000, "UTC%2B99",
        "EST5EDT,M3.2.0", "europe/berlin", "", "localtime", "posixrules", ".", "Europe", "%C3%A9",
    ):  # fmt: skip
        answer = await served.get(f"/trends?tz={text}", token=USER_1.token())
        assert answer.status == 400, text
        assert "tz" in answer.detail
        assert "IANA" in answer.detail


@pytest.mark.gen_test
async def test_in_04_every_zone_gives_a_calendar_without_gaps(served: Served) -> None:
    names = sorted(zone_names())
    special = ["Asia/Kathmandu", "Pacific/Apia", "Pacific/Chatham", "America/St_Johns", "Antarctica/Troll"]
    for name in {*names[::25], *special}:
        answer = await served.get(f"/trends?days=9&tz={quote(name)}", token=USER_1.token())
        assert answer.status == 200, name
        dates = [date.fromisoformat(entry["date"]) for entry in answer.json()["high_risk_actions_by_day"]]
        assert dates == [dates[0] + timedelta(days=n) for n in range(9)], name


@pytest.mark.gen_test
async def test_in_06_format_is_one_of_three_words_and_accept_is_not_read(served: Served) -> None:
    path = "/executive/dashboard"
    for text in ("pdf%00", "../x", "PDF", "xlsx", "text/html", "", "pdf%20", "json,pdf", "%2e%2e/pdf"):
        answer = await served.get(f"{path}?format={text}", token=ADMIN_1.token())
        assert answer.status == 400, text
        assert answer.json()["parameter"] == "format"
        assert "one of json, csv, pdf" in answer.detail
    for text, kind in (("json", "application/json"), ("csv", "text/csv"), ("pdf", "application/pdf")):
        for accept in ("text/html", "application/pdf", "image/png;q=1, */*;q=0", ""):
            answer = await served.get(f"{path}?format={text}", ("Accept", accept), token=ADMIN_1.token())
            assert answer.status == 200, "the parameter wins"
            assert (answer.header("Content-Type") or "").startswith(kind)


@pytest.mark.gen_test
async def test_in_07_numbers_out_of_range_are_400_and_name_the_parameter(served: Served) -> None:
    for view in ("/trends", "/debug"):
        for text in (
            "-1",
            "0",
            "101",
            str(2**63),
            "1.5",
            "1e1",
            "NaN",
            "",
            "0x5",
            "5;drop",
            "%D9%A5",
            "+5",
            "9" * 5000,
        ):
            answer = await served.get(f"{view}?limit={text}", token=USER_1.token())
            assert answer.status == 400, (view, text)
            assert answer.json()["parameter"] == "limit"
            assert "1 to 100" in answer.detail
        for name in ("offset", "since", "page"):
            for text in ("-1", "0", str(2**63), "1.5", "1"):
                answer = await served.get(f"{view}?{name}={text}", token=USER_1.token())
                assert (answer.status, answer.json()["parameter"]) == (400, name)


@pytest.mark.gen_test
async def test_in_07_limit_bounds_every_list(served: Served) -> None:
    for limit, shown in ((1, 1), (3, 3), (12, 12), (100, 12)):
        assert len((await served.get(f"/debug?limit={limit}", token=USER_1.token())).json()) == shown
        answer = (await served.get(f"/trends?limit={limit}", token=USER_1.token())).json()
        assert len(answer["enriched_actions"]) == shown
        assert len(answer["top_agents"]) == len(answer["top_tools"]) == 1
        assert len(answer["high_risk_actions_by_day"]) == 7, "days are no list to cut"
    assert len((await served.get("/debug", token=USER_1.token())).json()) == 5


@pytest.mark.gen_test
async def test_in_08_callbacks_and_field_lists_have_no_effect(served: Served) -> None:
    for query in ("callback=x", "jsonp=x", "fields=id", "include=all", "format=html"):
        answer = await served.get(f"/trends?{query}", token=USER_1.token())
        assert answer.status == 400
        assert answer.header("Content-Type") == "application/problem+json"


@pytest.mark.gen_test
async def test_sql_01_hostile_text_is_an_ordinary_wrong_value(served: Served) -> None:
    for text in ("%27", "%22", ";--", "$$", "%E2%80%99", "1%27%20OR%20%271%27=%271", "{{7*7}}"):
        for name in ("days", "tz"):
            assert (await served.get(f"/trends?{name}={text}", token=USER_1.token())).status == 400
        assert (await served.get("/trends", key=f"owkai_user_{text}" + "x" * 30)).status == 401
    await still_alive(served, USER_1)
