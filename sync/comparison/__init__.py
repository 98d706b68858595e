"""Compares the source with the cache at one position and repairs what differs."""
