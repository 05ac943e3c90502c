"""Takes the pictures of a bucket's page and of its nightly commit's: docs/images/wheels-*.png.

python -m ci reindex --bucket FOLDER && python -m tests.record_index FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from ci.index import records
from ci.publish import access
from ci.serve import running
from ci.store import FolderStore
from tests import pictures


def main() -> None:
    store = FolderStore(Path(sys.argv[1]))
    newest = access.read(store, records.NIGHTLY).unit
    assert newest is not None, "this bucket has no nightly"
    with running(store) as base, pictures.browser() as browser:
        pictures.take_all(browser, f"{base}/", "wheels")
        pictures.take_all(browser, f"{base}/{newest.name}/", "wheels-commit")


if __name__ == "__main__":
    main()
