"""The access audit trail: append-only JSON lines, each sealed and tied to the one before. docs/reference/audit-records.md is its reference.

`chain` seals and checks lines, `files` holds them, `anchor` keeps the newest seal in a second place, `coalescing` counts
similar records together, `audit_log` is the server's interface, `writer` writes; `verify` and `report` only read.
"""
