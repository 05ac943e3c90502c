"""``python -m benchmarks.figures``: see the package."""

from __future__ import annotations

import argparse
import sys

from benchmarks.figures.documents import DOCUMENTS, refreshed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures")
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    check = parser.parse_args().check
    stale = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        new = refreshed(text)
        if new != text:
            stale.append(document)
            if not check:
                document.write_text(new, encoding="utf-8")
    for document in stale:
        print(f"{document}: {'differs from the records' if check else 'rewritten'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
