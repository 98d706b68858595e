"""The publication: what it streams, what it lacks, and what it does to the platform's writes."""
