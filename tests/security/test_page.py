"""The page over HTTP: its headers, its exact list of files, and what its sources must not contain."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

import handlers
from handlers.dashboard.page import ASSET_NAMES, ASSETS, PAGES, read_files
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served
from tests.handlers.world import USER_1

FOLDER = Path(handlers.__file__).parent / "dashboard" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{live}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
OWN = [path for path in FOLDER.iterdir() if path.is_file()]
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
MARKUP = [path for path in OWN if path.suffix == ".html"]


@pytest.mark.gen_test
async def test_hdr_03_the_policy_of_pages_and_assets_allows_this_server_alone(serve: Serve) -> None:
    served = serve(websocket={"allowed_origins": ["https://good.example", "http://other.example:81"]})
    for path in read_files():
        answer = await served.ask(path)
        assert answer.status == 200, path
        assert answer.all_headers("Content-Security-Policy") == [POLICY.format(live="")], path
    for host, live in (
        ("good.example", " wss://good.example"), ("other.example:81", " ws://other.example:81"), ("evil.example", ""),
        ("good.example;script-src", None),
    ):  # fmt: skip
        answers = await served.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        policies = [answer.header("Content-Security-Policy") for answer in answers if answer.status == 200]
        assert policies in ([POLICY.format(live=live or "")], []), host


@pytest.mark.gen_test
async def test_hdr_03_a_server_on_loopback_names_its_own_live_address(serve: Serve) -> None:
    served = serve(websocket={"allowed_origins": []})
    answer = await served.ask("/")
    assert answer.header("Content-Security-Policy") == POLICY.format(live=f" ws://127.0.0.1:{served.port}")


@pytest.mark.gen_test
async def test_hdr_04_hdr_06_pages_carry_the_fixed_headers_also_on_304(served: Served) -> None:
    for path in (*PAGES, f"{ASSETS}app.js", f"{ASSETS}layout.css"):
        first = await served.ask(path)
        again = await served.ask(path, ("If-None-Match", first.header("ETag") or ""))
        assert (first.status, again.status, again.body) == (200, 304, b"")
        for answer in (first, again):
            assert answer.header("X-Content-Type-Options") == "nosniff"
            assert answer.header("Referrer-Policy") == "no-referrer"
            assert answer.header("Cross-Origin-Opener-Policy") == "same-origin"
            assert answer.header("Cross-Origin-Resource-Policy") == "same-origin"
            assert answer.header("Cache-Control") == "no-cache"
            assert "frame-ancestors 'none'" in (answer.header("Content-Security-Policy") or "")
            assert answer.header("Set-Cookie") is None


@pytest.mark.gen_test
async def test_files_arrive_whole_with_their_type_and_a_strong_tag(served: Served) -> None:
    kinds = {
        ".html": "text/html",
        ".js": "text/javascript",
        ".css": "text/css",
        ".svg": "image/svg+xml",
        ".txt": "text/plain",
    }
    for path, name in {**PAGES, **{ASSETS + name: name for name in ASSET_NAMES}}.items():
        expected = FOLDER.joinpath(name).read_bytes()
        plain = await served.ask(path)
        assert plain.body == expected
        assert (plain.header("Content-Type") or "").partition(";")[0] == kinds[Path(name).suffix]
        assert re.fullmatch(r'"[0-9a-f]{32}"', plain.header("ETag") or "")
        packed = await served.ask(path, ("Accept-Encoding", "gzip"))
        assert packed.header("Content-Encoding") == "gzip"
        assert gzip.decompress(packed.body) == expected
        assert packed.header("ETag") != plain.header("ETag")
        head = await served.ask(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.gen_test
async def test_http_23_24_no_path_leads_to_another_file(served: Served) -> None:
    for path in (
        "/assets/", "/assets", "/assets/../page.py", "/assets/%2e%2e/page.py", "/assets/..%2fpage.py", "/assets/app.js/",
        "/assets/index.html", "/index.html", "/assets/vendor/uplot/README.md", "/assets/vendor/", "/assets//app.js",
        "/assets/app.js%00", "/assets/APP.JS", "/assets/%61pp.js", "/assets/app.js.map", "/sign-in/", "//",
        "/dashboard/index.html", "/static/../config/owkai.toml", "/assets/\\app.js", "/sign-in%00", "/.git/config",
    ):  # fmt: skip
        for answer in await served.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()):
            assert answer.status in (400, 404), path
    for method in ("POST", "PUT", "DELETE", "TRACE"):
        answer = await served.ask("/", method=method)
        assert (answer.status, answer.header("Allow")) == (405, "GET, HEAD, OPTIONS")
    assert (await served.ask("/?next=//evil.example")).status == 400


def test_http_24_the_list_of_files_is_the_folder_and_holds_no_link() -> None:
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert found == {*PAGES.values(), *ASSET_NAMES, "vendor/uplot/README.md"}
    assert not [path for path in FOLDER.rglob("*") if path.is_symlink()]


def test_sup_06_the_vendored_library_is_what_its_note_says() -> None:
    folder = FOLDER / "vendor" / "uplot"
    sums = dict(re.findall(r"\| `([^`]+)` \| ([0-9a-f]{64}) \|", (folder / "README.md").read_text(encoding="utf-8")))
    files = {path.name for path in folder.iterdir()} - {"README.md"}
    assert set(sums) == files
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    assert b"MIT License" in (folder / "LICENSE.txt").read_bytes()


FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|DOMParser|srcdoc",
    r"document\.write|\beval\b|new Function|\bFunction\(|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]",
    r"setAttribute\(\s*[\"'`](?:style|on)|\.cssText|javascript:",
    r"https?://(?!www\.w3\.org/)|\bimport\(",
)


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_xss_03_no_source_of_the_page_makes_markup_or_code_of_text(pattern: str) -> None:
    assert len(SCRIPTS) > 15
    for path in (*SCRIPTS, *MARKUP):
        assert not re.search(pattern, path.read_text(encoding="utf-8")), path.name


def test_xss_03_the_search_finds_what_it_is_there_to_find() -> None:
    for text in (
        "a.innerHTML = b", "a.insertAdjacentHTML('x', b)", "eval(x)", "new Function('x')", 'e.setAttribute("style", x)',
        "document.write(x)", "setTimeout('x()')", "e.setAttribute('onclick', x)", "fetch('https://evil.example')",
        "import('/x.js')", 'href="javascript:x"',
    ):  # fmt: skip
        assert any(re.search(pattern, text) for pattern in FORBIDDEN), text


def test_hdr_03_markup_has_no_inline_script_style_or_handler() -> None:
    assert len(MARKUP) == 2
    for path in MARKUP:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|<base|<form[^>]*action", text), path.name
        assert all(inner == "" for inner in re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)), path.name
        for target in re.findall(r'(?:src|href)="([^"#]+)"', text):
            assert target in ("/", *PAGES, *(ASSETS + name for name in ASSET_NAMES)), target


def test_every_module_imports_only_files_that_are_served() -> None:
    for path in SCRIPTS:
        for target in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert target in ASSET_NAMES, f"{path.name} imports {target}"


def test_no_icon_or_style_sheet_loads_from_elsewhere() -> None:
    for path in OWN:
        if path.suffix in (".css", ".svg"):
            assert not re.search(r"url\(|@import|<script|<image|xlink", path.read_text(encoding="utf-8")), path.name


@pytest.mark.gen_test
async def test_csr_08_nothing_redirects_wherever_a_target_is_put(served: Served) -> None:
    targets = ("//evil.example", "/\\evil.example", "https:evil.example", "%2f%2fevil.example", "https://evil.example/")
    paths = [f"{page}?next={target}" for page in ("/", "/sign-in") for target in targets]
    paths += ["//evil.example/..", "//evil.example/%2e%2e", "/sign-in/", "/\\evil.example", "///evil.example"]
    for path in paths:
        for answer in await served.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()):
            assert not 300 <= answer.status < 400, path
            assert answer.header("Location") is None, path
            assert answer.header("Refresh") is None, path
            assert b"evil.example" not in answer.body, path


@pytest.mark.gen_test
async def test_csr_07_no_credential_is_ever_in_an_address(served: Served) -> None:
    for page in PAGES:
        answer = await served.ask(page)
        assert answer.header("Referrer-Policy") == "no-referrer"
        token = USER_1.token()
        for query in (f"?token={token}", f"?access_token={token}", f"?api_key={served.local.user_1}"):
            by_address = await served.ask(f"/session{query}")
            assert by_address.status in (400, 401), query
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"[?&](token|access_token|api_key|key|session)=", text), script.name
        assert "history.pushState" not in text or "key" not in text.split("history.pushState")[1][:200], script.name
    for markup in MARKUP:
        assert not re.search(r"<form[^>]*\saction=", markup.read_text(encoding="utf-8")), markup.name
