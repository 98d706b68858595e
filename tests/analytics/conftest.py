"""Settings over a fresh cache directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings
from tests.analytics.rows import settings


@pytest.fixture
def given(tmp_path: Path) -> Settings:
    """Default settings; the cache is in a directory that does not exist yet."""
    return settings(tmp_path / "data")
