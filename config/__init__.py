"""Settings: one typed tree, read from a TOML file, the OWKAI_* environment and the command line."""
