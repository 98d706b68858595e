"""`python -m owkai`."""

import sys
from pathlib import Path

# Python puts the working folder first; a file there called config.py or tornado.py must not become part of the server.
if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd() != Path(__file__).resolve().parent.parent:
    del sys.path[0]

from owkai.cli import main

if __name__ == "__main__":
    main(prog_name="owkai")
