"""The dashboard page and its files."""
