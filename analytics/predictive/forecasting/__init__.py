"""Forecasts of daily counts: estimators, backtests and calibrated bands."""
