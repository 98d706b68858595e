"""The access audit trail: append-only JSON lines, each sealed and tied to the one before. docs/reference/audit-records.md is its reference.

`chain` seals and checks lines, `place` is where they are kept, `anchor` the second place that knows the newest of them,
`flood` counts what is too much to be written singly, `journal` is what the server records with; `verify` and `report` read.
"""
