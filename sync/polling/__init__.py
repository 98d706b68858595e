"""Polling, for sources without logical replication."""
