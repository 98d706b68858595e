"""Compile modules to byte code that is the same on every run. A program of its own: `python bytecode.py < list`.

The list has lines of SOURCE, NAME and TARGET, separated by tabs. NAME is what tracebacks show. How a written module
shares objects depends on everything that the process did before, so this process does nothing else; the caller fixes the
hash seed.
"""

import importlib.util
import marshal
import sys
from pathlib import Path

UNCHECKED_HASH = 1  # the byte code is not compared with a source, which is not shipped


def main() -> None:
    for line in sys.stdin:
        source, name, target = line.rstrip("\n").split("\t")
        text = Path(source).read_bytes()
        code = compile(text, name, "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little") + importlib.util.source_hash(text)
        Path(target).write_bytes(header + marshal.dumps(code))


main()
