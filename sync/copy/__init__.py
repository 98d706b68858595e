"""The initial copy: binary COPY from one snapshot into a new generation of the cache."""
