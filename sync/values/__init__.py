"""Values of Postgres as the cache keeps them: wire formats, times and long texts."""
