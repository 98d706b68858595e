"""The demo: an embedded Postgres with believable activity as a source for the real server."""
