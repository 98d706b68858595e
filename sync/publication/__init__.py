"""The publication: what it streams, what it lacks, and how it is kept from making Postgres reject the platform's writes."""
