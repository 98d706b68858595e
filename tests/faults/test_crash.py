"""kill -9 at any moment: after the next start the cache converges to exactly the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import MOMENTS, Campaign
from tests.postgres import Database

KILLS = 20
SEED = 20250115


@pytest.mark.timeout(900)
def test_upg_05_kill_9_under_a_writing_load_leaves_cache_equal_to_source(database: Database, tmp_path: Path) -> None:
    """The bounded campaign; `python -m tests.faults.campaign --kills 200` is the full one."""
    campaign = Campaign(database, tmp_path, SEED)
    tally = campaign.run(KILLS, compare_every=10, bound_seconds=50, say=print)
    assert {*MOMENTS} <= tally.aimed.keys(), (
        tally
    )  # a slow machine reaches its bound first, but every moment has its turn
    assert tally.comparisons >= 1
    assert tally.rows_compared > 1000
    assert tally.copies >= 2


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_hundred_kills(database: Database, tmp_path: Path) -> None:
    tally = Campaign(database, tmp_path, SEED + 1).run(200, compare_every=10, bound_seconds=2100, say=print)
    assert tally.kills >= 200
