"""Our forecasts and alarms on a folder of benchmark series, by the functions the server itself calls."""
