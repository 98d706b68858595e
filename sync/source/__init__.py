"""Everything asked of the source itself: connections, preflight checks, privileges, schema and samples."""
