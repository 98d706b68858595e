"""Predictions from an organization's own history."""
