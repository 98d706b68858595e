"""Numbers: pure functions from a read snapshot of the cache, a clock and an organization to a typed answer."""
