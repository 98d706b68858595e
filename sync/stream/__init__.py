"""Logical replication: slots, the pgoutput protocol and the change stream."""
