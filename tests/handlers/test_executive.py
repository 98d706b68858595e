"""/executive/dashboard over HTTP: its parameters, its three formats and what their headers say."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import timedelta

import pytest

from analytics import views
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, still_alive
from tests.handlers.world import ADMIN_1, ADMIN_2, CANARY, USER_1

PATH = "/executive/dashboard"


@pytest.mark.gen_test
async def test_json_is_the_default_and_covers_thirty_days(served: Served) -> None:
    answer = await served.get(PATH, token=ADMIN_1.token())
    assert answer.status == 200
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.header("Content-Disposition") is None
    assert answer.json()["data_period"]["days"] == 30
    assert answer.json()["meta"]["time_zone"] == "UTC"
    same = await served.get(f"{PATH}?days=30&tz=UTC&format=json", token=ADMIN_1.token())
    assert same.body == answer.body


@pytest.mark.gen_test
async def test_a_parameter_out_of_range_is_400_and_named_with_its_choices(served: Served) -> None:
    for query, name, choices in (
        *((f"format={text}", "format", "one of json, csv, pdf") for text in
          ("PDF", "html", "", "pdf%20", "json,csv", "xlsx", "%00", "../pdf", "p" * 5000)),
        *((f"days={text}", "days", "from 7 to 365") for text in ("6", "1", "0", "-7", "366", "030", "7.0", "x", "")),
        *((f"tz={text}", "tz", "IANA") for text in ("europe/berlin", "localtime", "../UTC")),
        ("format=csv&format=pdf", "format", "once"),
        ("format=csv&decimal=semicolon", "decimal", "one of point, comma"),
        ("period=30", "period", "known here: days, tz, format, table, decimal"),
    ):  # fmt: skip
        answer = await served.get(f"{PATH}?{query}", token=ADMIN_1.token())
        assert answer.status == 400, query
        assert answer.json()["parameter"] == name
        assert name in answer.detail
        assert choices in answer.detail
    for days in (7, 30, 365):
        answer = await served.get(f"{PATH}?days={days}&tz=Europe/Berlin", token=ADMIN_1.token())
        assert answer.json()["data_period"]["days"] == days


@pytest.mark.gen_test
async def test_formats_are_files_with_a_fixed_name_and_a_tag(served: Served) -> None:
    for form, kind, begins in (
        ("csv", "text/csv; charset=utf-8", b"\xef\xbb\xbforganization_id,"),
        ("pdf", "application/pdf", b"%PDF-"),
    ):
        answer = await served.get(f"{PATH}?format={form}", token=ADMIN_1.token())
        assert answer.status == 200
        assert (answer.header("Content-Type") or "").startswith(kind)
        assert answer.header("Content-Disposition") == f'attachment; filename="owkai-executive-2025-01-15.{form}"'
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert (answer.header("Cache-Control") or "").startswith("private")
        assert answer.body.startswith(begins)
        again = await served.get(
            f"{PATH}?format={form}", ("If-None-Match", answer.header("ETag") or ""), token=ADMIN_1.token()
        )
        assert (again.status, again.body) == (304, b"")
        head = await served.get(f"{PATH}?format={form}", method="HEAD", token=ADMIN_1.token())
        assert (head.status, head.body, head.header("Content-Length")) == (200, b"", str(len(answer.body)))
        assert head.header("Content-Disposition") == answer.header("Content-Disposition")


@pytest.mark.gen_test
async def test_az_02_a_user_gets_no_format_and_learns_of_no_parameter(served: Served) -> None:
    for query in ("", "?format=csv", "?format=csv&table=days", "?format=pdf", "?format=wrong", "?days=9999"):
        for method in ("GET", "HEAD"):
            for how in ({"token": USER_1.token()}, {"key": USER_1.key}):
                answer = await served.get(PATH + query, method=method, **how)
                assert answer.status == 403, (query, method)
                assert b"%PDF" not in answer.body
                assert b"organization_id," not in answer.body
        assert (await served.get(PATH + query)).status == 401


@pytest.mark.gen_test
async def test_az_06_a_report_holds_its_own_organization_alone(served: Served) -> None:
    for person, own, other in ((ADMIN_1, 1, 2), (ADMIN_2, 2, 1)):
        for form in ("json", "csv", "csv&table=days", "pdf"):
            body = (await served.get(f"{PATH}?format={form}", token=person.token())).body
            assert CANARY[other].encode() not in body
            if form.startswith("csv"):
                rows = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))
                assert {row["organization_id"] for row in rows} == {str(own)}


@pytest.mark.gen_test
async def test_the_file_name_follows_the_clock_in_utc(served: Served) -> None:
    served.clock.now += timedelta(minutes=40)
    answer = await served.get(f"{PATH}?format=csv&tz=Asia/Tokyo", token=ADMIN_1.token())
    assert answer.header("Content-Disposition") == 'attachment; filename="owkai-executive-2025-01-15.csv"'


@pytest.mark.gen_test
async def test_pdf_02_more_pages_than_can_wait_are_refused_and_the_server_goes_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 6
    monkeypatch.setattr(views, "MOST_WAITING_DOCUMENTS", bound)
    served = serve(server={"computations_per_second": 0})
    days = range(7, 7 + 2 * bound)
    answers = await asyncio.gather(*(served.get(f"{PATH}?days={n}&format=pdf", token=ADMIN_1.token()) for n in days))
    made = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(made) + len(refused) == len(days)
    assert len(made) >= bound
    assert refused
    assert all(answer.header("Retry-After") for answer in refused)
    assert all(answer.body.startswith(b"%PDF-") for answer in made)
    await still_alive(served, USER_1)
    assert (await served.get(f"{PATH}?days=300&format=pdf", token=ADMIN_1.token())).status == 200
