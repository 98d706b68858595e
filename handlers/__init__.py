"""HTTP and WebSocket: authenticate, pick bytes, write."""
