"""The reference page and the documents: who may read them, how browsers must treat them, that they are the same for everybody."""

from __future__ import annotations

import html.parser
import os
import secrets
from importlib.resources import files
from pathlib import Path

import pytest

from handlers.contract.reference import ASYNCAPI_PATH, OPENAPI_PATH, PAGE_PATH, STYLE_PATH, document
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served
from tests.handlers.world import ADMIN_1, CANARY, USER_1, USER_2

DOCUMENTS = (OPENAPI_PATH, ASYNCAPI_PATH)
PAGES = (PAGE_PATH, STYLE_PATH)


@pytest.mark.gen_test
async def test_sec_12_documents_need_a_credential_and_are_the_same_for_everybody(served: Served) -> None:
    for path in DOCUMENTS:
        assert (await served.ask(path)).status == 401
        bodies = {(await served.ask(path, key=person.key)).body for person in (USER_1, ADMIN_1, USER_2)}
        assert bodies == {document(path.rpartition("/")[2])}
        answer = await served.ask(path, key=USER_1.key)
        assert answer.header("Content-Type") == "application/json; charset=utf-8"
        assert answer.header("Cache-Control") == "private, no-cache"


@pytest.mark.gen_test
async def test_az_06_neither_document_nor_page_holds_anything_of_an_organization(served: Served) -> None:
    for path in (*DOCUMENTS, *PAGES):
        body = (await served.ask(path, key=USER_1.key)).body
        for mark in (*CANARY.values(), USER_1.email, ADMIN_1.email):
            assert mark.encode() not in body


@pytest.mark.gen_test
async def test_hdr_03_the_page_runs_no_script_and_loads_only_its_style(served: Served) -> None:
    page = await served.ask(PAGE_PATH)
    assert (page.status, page.header("Content-Type")) == (200, "text/html; charset=utf-8")
    policy = dict(
        part.strip().partition(" ")[::2] for part in (page.header("Content-Security-Policy") or "").split(";")
    )
    assert policy == {
        "default-src": "'none'", "style-src": "'self'", "connect-src": "'self'", "frame-ancestors": "'none'",
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip

    class Loads(html.parser.HTMLParser):
        found: list[str] = []  # noqa: RUF012 - one page, one list

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            named = dict(attributes)
            assert tag not in ("script", "iframe", "img", "object", "embed", "form"), tag
            assert not any(name.startswith("on") or name == "style" for name in named), (tag, named)
            if tag == "link":
                self.found.append(named["href"] or "")
            if tag == "a":
                assert (named.get("href") or "#").startswith("#")

    reader = Loads()
    reader.feed(page.body.decode())
    assert reader.found == [STYLE_PATH]
    style = await served.ask(STYLE_PATH)
    assert (style.status, style.header("Content-Type")) == (200, "text/css; charset=utf-8")


@pytest.mark.gen_test
async def test_the_page_and_the_documents_are_sent_once(served: Served) -> None:
    for path in (*DOCUMENTS, *PAGES):
        answer = await served.ask(path, key=USER_1.key)
        tag = ("If-None-Match", answer.header("ETag") or "")
        assert (await served.ask(path, tag, key=USER_1.key)).status == 304
        packed = await served.ask(path, ("Accept-Encoding", "gzip"), key=USER_1.key)
        assert packed.header("Content-Encoding") == "gzip"
        assert len(packed.body) < len(answer.body) / 2
        head = await served.ask(path, method="HEAD", key=USER_1.key)
        assert (head.status, head.body, head.header("ETag")) == (200, b"", answer.header("ETag"))


@pytest.mark.gen_test
async def test_az_10_switched_off_there_is_nothing_for_anybody(serve: Serve) -> None:
    served = serve(server={"reference": False})
    for path in (*DOCUMENTS, *PAGES):
        for how in ({}, {"key": USER_1.key}, {"token": ADMIN_1.token()}):
            answer = await served.ask(path, **how)
            assert (answer.status, answer.detail) == (404, "Not Found")


@pytest.mark.gen_test
async def test_http_24_a_file_beside_the_documents_is_not_served(served: Served) -> None:
    folder = Path(str(files("handlers.contract")))
    name = f"planted-{secrets.token_hex(4)}"
    link = folder / name
    os.symlink("/etc/passwd", link)
    try:
        for path in (f"/reference/{name}", f"{PAGE_PATH}/../{name}", f"/reference/%2e%2e/contract/{name}", f"/{name}"):
            answers = await served.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert [answer.status for answer in answers] == [404], path
            assert b"root:" not in answers[0].body
    finally:
        link.unlink()
