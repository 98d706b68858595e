"""Anomalies: which hours, agents and risk mixes were out of the ordinary."""
