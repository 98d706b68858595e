"""The executive report as table and as page: the same numbers as the JSON answer, and nothing in it but text."""

from __future__ import annotations

import csv
import io
import re
import socket
import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pypdfium2
import pytest
from hypothesis import given as drawn
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pypdf import PdfReader

from analytics.executive.dashboard import period_calendar
from analytics.executive.formats import executive_report
from analytics.executive.formulas import FIGURES
from analytics.executive.print_page import Page, fitting, printable, width_of, wrapped
from analytics.executive.rendered_document import RenderedDocument
from analytics.executive.report import DayActivity, ExecutiveReport
from analytics.executive.report_csv import DAY_COLUMNS, FORMULA, DecimalMark, cell, csv_bytes, figures_csv
from analytics.executive.report_pdf import number, report_pdf, scale_top
from analytics.executive.responses import StrategicInsight
from analytics.view_context import ViewContext
from config.settings import Settings
from tests.analytics.asking import Asker, asking
from tests.analytics.rows import NOW, action

HOSTILE = (
    "<para><font color='[[[getattr(1, \"x\")]]]'>x</font></para>", '<img src="file:///etc/passwd"/>',
    '<a href="http://169.254.169.254/latest">x</a>', "]]>", "(unbalanced \\( \\) string", "/JavaScript (app.alert(1))",
    "\u202eabc\u202c", "\x00\x01\x7f", "日本語 emoji 😀", "\ud800", "a" * 10_000, "=cmd|' /C calc'!A0", "\r\n\r\nEND",
)  # fmt: skip


@pytest.fixture
def asker(given: Settings) -> Iterator[Asker]:
    rows = [
        action(
            i,
            ago=timedelta(hours=i),
            status=("completed", "completed", "failed", "denied")[i % 4],
            risk_level=("low", "low", "medium", "high", "weird")[i % 5],
            reviewed_by="someone" if i % 8 == 3 else None,
            is_false_positive=i % 40 == 3,
        )
        for i in range(1, 700)
    ]
    rows += [action(1000, org=2, risk_level="critical", status="failed")]
    users = [
        {
            "id": i,
            "organization_id": 1,
            "email": f"u{i}@one.example",
            "role": "user",
            "created_at": NOW - timedelta(days=i),
        }
        for i in range(1, 60)
    ]
    with asking(given, agent_actions=rows, users=users) as found:
        yield found


def document(asker: Asker, format: str, org: int = 1, **options: Any) -> RenderedDocument:
    with asker.cache.read(30) as snapshot:
        context = ViewContext(org, asker.now, asker.board.current, asker.settings)
        found = executive_report(snapshot.of(org), context, format=format, **options)  # type: ignore[arg-type]
    assert isinstance(found, RenderedDocument)
    return found


def captured(asker: Asker, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> ExecutiveReport:
    """The report that a table is made from."""
    seen: list[ExecutiveReport] = []

    def spy(report: ExecutiveReport, mark: DecimalMark) -> bytes:
        seen.append(report)
        return b""

    monkeypatch.setattr("analytics.executive.formats.figures_csv", spy)
    document(asker, "csv", **changes)
    monkeypatch.undo()
    return seen[0]


def with_texts(report: ExecutiveReport, *texts: str) -> ExecutiveReport:
    """The report with these texts in every place that could ever hold one."""
    found = tuple(StrategicInsight(text, text, text, "high", text) for text in texts)
    dashboard = report.dashboard
    summary = replace(dashboard.executive_summary, key_achievements=texts, areas_of_focus=texts)
    meta = replace(dashboard.meta, caveats=texts)
    return replace(report, dashboard=replace(dashboard, strategic_insights=found, executive_summary=summary, meta=meta))


def table(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))


def pdf_text(body: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages).split())


# -- CSV --------------------------------------------------------------------------------------------------------------


def test_the_table_has_one_row_with_a_column_for_each_figure(asker: Asker) -> None:
    answer = asker("executive", days=30, tz="UTC")
    found = document(asker, "csv")
    assert found.content_type.startswith("text/csv; charset=utf-8")
    assert found.file_name == "owkai-executive-2025-01-15.csv"
    assert found.body.startswith(b"\xef\xbb\xbforganization_id,organization_name,")
    header, row = table(found.body)
    assert len(header) == len(row) == len(set(header))
    values = dict(zip(header, row, strict=True))
    answered = {
        f"{section}.{name}": value
        for part in ("executive_kpis", "business_metrics")
        for section, figures in answer[part].items()
        for name, value in figures.items()
    }
    assert {f"{figure.section}.{figure.name}" for figure in FIGURES} == answered.keys()
    for name, value in answered.items():
        # The data starts inside the period: there is no trend.
        assert values[name] == ("" if name in ("platform_health.trend", "security_posture.trend") else str(value)), name
    for insight in answer["strategic_insights"]:
        assert f"{insight['insight']} ({insight['priority']}): {insight['action']}" in values["strategic_insights"]
    assert values["key_achievements"].split(" | ") == answer["executive_summary"]["key_achievements"]
    assert values["areas_of_focus"].split(" | ") == answer["executive_summary"]["areas_of_focus"]
    assert values["caveats"].split(" | ") == answer["meta"]["caveats"]
    assert (values["organization_id"], values["organization_name"], values["mock_data"]) == ("1", "", "false")


def test_the_table_of_days_has_one_row_a_day_and_one_measure_a_column(asker: Asker) -> None:
    answer = asker("executive", days=30, tz="UTC")
    found = document(asker, "csv", table="days")
    assert found.file_name == "owkai-executive-2025-01-15-days.csv"
    header, *rows = table(found.body)
    assert header == list(DAY_COLUMNS)
    assert [row[2] for row in rows] == [f"{date(2024, 12, 16) + timedelta(days=i)}" for i in range(31)]
    assert [row[3] for row in rows] == ["true", *["false"] * 29, "true"]
    actions, risky = ([int(row[column]) for row in rows] for column in (4, 5))
    assert sum(actions) == answer["business_metrics"]["system_utilization"]["total_actions_month"]
    assert max(actions) == answer["business_metrics"]["system_utilization"]["peak_day_actions"]
    security = answer["executive_kpis"]["security_posture"]
    assert sum(risky) == security["high_risk_actions"] + security["critical_issues"]


def test_the_decimal_comma_changes_numbers_and_delimiter_and_nothing_else(asker: Asker) -> None:
    for which in ("figures", "days"):
        point = table(document(asker, "csv", table=which).body)
        text = document(asker, "csv", table=which, decimal="comma").body.decode("utf-8-sig")
        comma = list(csv.reader(io.StringIO(text, newline=""), delimiter=";", strict=True))
        assert len(comma) == len(point)
        for with_point, with_comma in zip(point, comma, strict=True):
            assert [re.sub(r"^(-?\d+)\.(\d+)$", r"\1,\2", value) for value in with_point] == with_comma


def test_the_organizations_name_stands_in_every_form(asker: Asker) -> None:
    asker.board.update(organization_names={1: "Müller & Söhne", 2: "Another"})
    assert asker("executive")["meta"]["organization_name"] == "Müller & Söhne"
    assert asker("executive", org=3)["meta"]["organization_name"] is None
    for which in ("figures", "days"):
        assert table(document(asker, "csv", table=which).body)[1][:2] == ["1", "Müller & Söhne"]
    body = document(asker, "pdf").body
    assert "Müller & Söhne (organization 1)" in pdf_text(body)
    assert "Another" not in pdf_text(body)
    assert "Müller" not in pdf_text(document(asker, "pdf", org=3).body)
    asker.board.update(organization_names={1: "W" * 500})
    assert "… (organization 1)" in pdf_text(document(asker, "pdf").body)


def test_the_page_states_who_made_it_when_and_about_whom(asker: Asker) -> None:
    asker.board.update(organization_names={1: "Müller & Söhne"})
    found = PdfReader(io.BytesIO(document(asker, "pdf").body))
    assert found.metadata is not None
    assert found.metadata.title == "Executive report, Müller & Söhne (organization 1)"
    assert (found.metadata.author, found.metadata.creator) == ("OW-kai Analytics", "OW-kai Analytics")
    assert found.metadata.creation_date == found.metadata.modification_date == NOW.replace(microsecond=0)
    assert found.trailer["/Root"]["/Lang"] == "en"
    assert found.trailer["/Root"]["/ViewerPreferences"]["/DisplayDocTitle"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_csv_01_text_that_could_begin_a_formula_is_marked(start: str) -> None:
    for before in ("", " ", "   ", '"', "'", ' "', "\u00a0"):
        text = f"{before}{start}1+1"
        assert cell(text) == f"'{text}"
        assert table(csv_bytes([(text,)])) == [[f"'{text}"]]


def test_csv_01_numbers_and_harmless_text_stay_as_they_are() -> None:
    for value in (-1, -0.15, 0, 98.5, "a=b", "98.5% system reliability", "", "it's", 'say "no"', "a;b", "a,b"):
        assert cell(value) == value
    assert csv_bytes([(-0.15, "-0.15")]) == b"\xef\xbb\xbf-0.15,'-0.15\r\n"


@drawn(st.lists(st.tuples(st.text(max_size=30), st.text(alphabet="=+-@\t\r\n\"';, a\x00", max_size=9)), max_size=5))
def test_csv_02_any_text_is_read_back_in_its_cell(rows: list[tuple[str, str]]) -> None:
    shown = [[str(cell(text)) for text in row] for row in rows]
    assert table(csv_bytes([*rows])) == shown
    for row in shown:
        for text in row:
            assert not FORMULA.match(text) or text.startswith("'")
            assert "\x00" not in text


def test_csv_02_hostile_texts_everywhere_stay_in_their_cells(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    report = captured(asker, monkeypatch)
    plain_rows, rows = table(figures_csv(with_texts(report, "text"))), table(figures_csv(with_texts(report, *HOSTILE)))
    assert [len(row) for row in rows] == [len(row) for row in plain_rows]
    assert len(rows) == 2
    for row in rows:
        for text in row:
            assert re.fullmatch(r"-?[0-9.]+", text) or text[:1] not in set("=+-@\t\r\n")


# -- PDF --------------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_numbers_of_the_answer(asker: Asker) -> None:
    answer = asker("executive", days=30, tz="UTC")
    found = document(asker, "pdf")
    assert (found.content_type, found.file_name) == ("application/pdf", "owkai-executive-2025-01-15.pdf")
    text = pdf_text(found.body)
    kpis, business = answer["executive_kpis"], answer["business_metrics"]
    for name in kpis:
        assert f"{kpis[name]['score']}" in text
    for value in (
        business["system_utilization"]["total_actions_month"],
        business["system_utilization"]["peak_day_actions"],
        business["user_growth"]["current_users"],
        kpis["security_posture"]["medium_risk_actions"],
    ):
        assert number(value) in text
    assert text.count("no earlier period to compare") >= 2
    for insight in answer["strategic_insights"]:
        assert insight["insight"] in text
        assert insight["priority"].upper() in text
    for sentence in (*answer["executive_summary"]["key_achievements"], *answer["executive_summary"]["areas_of_focus"]):
        assert sentence in text
    for fixed in (
        "Organization 1", "2024-12-16 14:30 to 2025-01-15 14:30 UTC (30 days)", "Calendar days in UTC",
        "Generated 2025-01-15 14:30 UTC", "How each number is computed", "Page 1", "16 x critical", "Limitations",
    ):  # fmt: skip
        assert fixed in text
    assert "DEMONSTRATION" not in text


def test_demonstration_data_is_marked_on_every_page(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    asker.settings = asker.settings.model_copy(update={"mock_data": True})
    report = captured(asker, monkeypatch)
    pages = PdfReader(
        io.BytesIO(report_pdf(with_texts(report, *("a longer sentence about the work " * 3 for _ in range(30)))))
    ).pages
    assert len(pages) > 1
    for page in pages:
        assert "DEMONSTRATION DATA" in page.extract_text()


def test_what_was_not_measured_is_not_shown_as_a_number(asker: Asker) -> None:
    text = pdf_text(document(asker, "pdf", org=3).body)
    assert text.count("No data yet") == 5
    assert "100 / 100" not in text
    assert "100.0" not in text


def test_the_same_report_gives_the_same_bytes(asker: Asker) -> None:
    assert document(asker, "pdf").body == document(asker, "pdf").body
    assert document(asker, "pdf").body != document(asker, "pdf", tz="Asia/Tokyo").body


def test_pdf_01_hostile_texts_are_text_and_rendering_opens_nothing(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = captured(asker, monkeypatch)
    report_pdf(report)  # the library and its fonts are loaded once

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rendering must open no file and no connection")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    body = report_pdf(with_texts(report, *HOSTILE))
    monkeypatch.undo()
    reader = PdfReader(io.BytesIO(body))
    text = pdf_text(body)
    for shown in ("<para><font color=", "<img src=", "file:///etc/passwd", "169.254.169.254", "]]>", "??? emoji ?"):
        assert shown in text, shown
    for name in (
        "/JavaScript",
        "/JS",
        "/URI",
        "/Launch",
        "/EmbeddedFile",
        "/OpenAction",
        "/Annots",
        "/AA",
        "/SubmitForm",
    ):
        assert name not in names_of(reader), name
    assert not reader.attachments
    for page in reader.pages:
        assert "/Annots" not in page


def names_of(reader: PdfReader) -> set[str]:
    """Every name that is a key or a value in the document's objects."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                found.add(str(key))
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        elif isinstance(value, str):
            found.add(str(value))

    for place in reader.xref[0]:
        walk(reader.get_object(place))
    walk(reader.trailer)
    return found


def test_nothing_is_drawn_outside_the_margins(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    report = captured(asker, monkeypatch, days=365)
    many = tuple(DayActivity(date(2024, 1, 1) + timedelta(days=i), 10**9 + i, 10**8) for i in range(366))
    for given in (report, replace(with_texts(report, *HOSTILE), days=many)):
        pages = pypdfium2.PdfDocument(report_pdf(given))
        for page in pages:
            picture = page.render(scale=1).to_pil().convert("L")
            width, height = picture.size
            for edge in ((0, 0, 24, height), (width - 24, 0, width, height), (0, 0, width, 24)):
                assert picture.crop(edge).getextrema() == (255, 255), edge
            assert picture.getextrema()[0] < 60
        pages.close()


@bounded(max_examples=200)
@drawn(st.text(max_size=400), st.floats(20, 300), st.integers(1, 6))
def test_wrapped_lines_fit_and_lose_nothing_that_they_do_not_mark(text: str, width: float, lines: int) -> None:
    found = wrapped(text, width, 8, lines=lines)
    assert 1 <= len(found) <= lines
    for line in found:
        assert width_of(line, 8) <= width
    if not found[-1].endswith("…"):
        assert "".join("".join(found).split()) == "".join(printable(text).split())


def test_fitting_takes_one_character_at_least() -> None:
    assert fitting("WWWW", 0.1, 8, "OwkaiRegular") == 1
    assert fitting("ii", 1000, 8, "OwkaiRegular") == 2


@drawn(st.text())
def test_every_text_can_be_printed(text: str) -> None:
    shown = printable(text)
    page = Page("title", text, NOW)
    page.text(50, 500, text, 9)
    assert page.finish().startswith(b"%PDF-")
    assert "\n" not in shown
    assert all(character in shown for character in set(text) & set(string.ascii_letters))


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (1, 1), (2, 2), (3, 4), (7, 8), (9, 10), (10, 10), (312, 400), (1000, 1000)]
)
def test_a_scale_ends_at_a_round_number(highest: int, top: int) -> None:
    assert scale_top(highest) == top


@drawn(
    st.integers(0, 5 * 365 * 86400),
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu"]),
    st.integers(7, 365),
)
def test_the_calendar_covers_the_period_and_no_day_more(seconds: int, name: str, days: int) -> None:
    now, zone = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), ZoneInfo(name)
    found = period_calendar(now, days, zone)
    start = now - timedelta(days=days)
    assert found[0].start <= start
    assert found[1].start > start
    assert found[-1].date == now.astimezone(zone).date()
    assert days <= len(found) <= days + 2
