"""What the operator runs: the command line and the composition root."""
