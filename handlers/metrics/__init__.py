"""What `/metrics` shows: counts of our own requests, and the state of sync, cache, forecasts and audit at the scrape."""
