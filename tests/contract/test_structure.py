"""The structural comparison finds what it is there to find."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.contract.structure import EXAMPLES, differences, example

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_example_matches_itself(name: str) -> None:
    assert differences(example(name), example(name)) == []


def without(answer: Any) -> None:
    del answer["database_metrics"]["connections"]["max"]


def as_text(answer: Any) -> None:
    answer["database_metrics"]["connections"]["active"] = "12"


def as_truth(answer: Any) -> None:
    answer["database_metrics"]["connections"]["active"] = True


def as_null(answer: Any) -> None:
    answer["meta"]["version"] = None


def as_local_time(answer: Any) -> None:
    answer["timestamp"] = "2025-01-15T14:30:00+00:00"


def flattened(answer: Any) -> None:
    answer["system_metrics"] = answer["system_metrics"]["cpu"]


def reordered(answer: Any) -> None:
    answer["timestamp"] = answer.pop("timestamp")


@pytest.mark.parametrize("damage", [without, as_text, as_truth, as_null, as_local_time, flattened, reordered])
def test_every_kind_of_damage_is_found(damage: Any) -> None:
    answer = copy.deepcopy(example("performance"))
    damage(answer)
    assert differences(example("performance"), answer) != []


def test_further_keys_and_whole_numbers_for_fractions_are_no_damage() -> None:
    assert differences({"rate": 0.5, "list": [{"a": 1}]}, {"rate": 1, "more": None, "list": []}) == []


def test_null_is_allowed_only_where_listed() -> None:
    assert differences([{"a": "x"}], [{"a": None}], {"[].a"}) == []
    assert differences([{"a": "x"}], [{"a": None}]) == ["[].a is null"]
