"""Fan-out of live updates beside a bare loop and the `websockets` library."""
