"""The suite at another moment and in another time zone: `python -m tests.clock "2028-02-29 00:05" Asia/Kolkata tests/sync`."""
