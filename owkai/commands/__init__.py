"""What the commands of `owkai` do, apart from serving."""
