"""Conversion of Postgres values to those of the cache: wire formats, times and long texts."""
