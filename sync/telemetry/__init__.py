"""Collectors of machine and application metrics. They run in a thread of their own and write `analytics.telemetry`'s board."""
