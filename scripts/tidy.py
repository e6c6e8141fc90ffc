"""Are the files given fit to be committed? Text ends with one newline, lines without blanks, and no file is big.

python scripts/tidy.py README.md src/conveyor/cell.py
"""

import sys
from pathlib import Path

BIG = 500_000  # bytes; what is bigger is data, and can be drawn or downloaded


def faults(path):
    content = path.read_bytes()
    if len(content) > BIG:
        yield f"{path}: {len(content):,} bytes are more than {BIG:,}"
    if b"\0" in content or not content:
        return  # no text
    if not content.endswith(b"\n") or content.endswith(b"\n\n"):
        yield f"{path}: does not end with one newline"
    for number, line in enumerate(content.splitlines(), 1):
        if line.rstrip() != line:
            yield f"{path}:{number}: blanks at the end of the line"


found = [fault for name in sys.argv[1:] if Path(name).is_file() for fault in faults(Path(name))]
print("\n".join(found), end="\n" if found else "")
sys.exit(bool(found))
