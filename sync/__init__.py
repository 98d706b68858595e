"""Data in: everything that brings rows from the source into the cache, and nothing else writes it."""
