"""Connections before any request: sockets, TLS, addresses and limits."""
