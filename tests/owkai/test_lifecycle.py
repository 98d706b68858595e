"""The end of a server is asked for once; limits of the process are said."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator

import pytest

from owkai.app import explain_bind
from owkai.exits import Exit
from owkai.lifecycle import SPARE_DESCRIPTORS, Lifecycle, affordable_connections, raise_descriptor_limit


@pytest.fixture
def _limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_first_reason_to_end_decides() -> None:
    lifecycle = Lifecycle()
    assert not lifecycle.ending
    lifecycle.end(Exit.BUSY, "the slot is taken")
    lifecycle.end(Exit.OK, "SIGTERM")
    assert (lifecycle.ending, lifecycle.exit, lifecycle.reason) == (True, Exit.BUSY, "the slot is taken")


@pytest.mark.usefixtures("_limits")
def test_cfg_07_the_soft_limit_of_open_files_is_raised_to_what_is_needed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_descriptor_limit(1000) is None
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000 + SPARE_DESCRIPTORS, hard)


@pytest.mark.usefixtures("_limits")
def test_cfg_07_a_limit_that_caps_connections_is_a_warning_with_the_number() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    warning = raise_descriptor_limit(hard + 1)
    assert warning is not None
    assert f"allows {hard - SPARE_DESCRIPTORS} connections" in warning
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize(("limit", "connections"), [(1200, 1000), (256, 156), (120, 30), (64, 16)])
def test_dos_the_limit_of_open_files_bounds_the_connections(limit: int, connections: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    assert affordable_connections(1000) == connections


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EADDRINUSE, Exit.BUSY, "is in use by another process"),
        (errno.EACCES, Exit.SETTINGS, "needs a privilege"),
        (errno.EADDRNOTAVAIL, Exit.SETTINGS, "check server.host"),
    ],
)
def test_cfg_07_why_a_port_cannot_be_taken_is_said(number: int, code: Exit, words: str) -> None:
    found, text = explain_bind(OSError(number, "x"), "::1", 80)
    assert found == code
    assert text.count("[::1]:80") == 1
    assert words in text
