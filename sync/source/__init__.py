"""Reads of the source itself: connections, preflight checks, setup statements, schema and samples."""
