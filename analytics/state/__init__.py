"""What sync writes and every other package reads: the cache, its tables, the sync status and the telemetry board."""
