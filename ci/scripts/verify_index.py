# /// script
# requires-python = ">=3.9"
# dependencies = ["tuf>=6"]
# ///
"""Verifies that an index of vllm wheels, or a mirror of it, matches what was signed.

    uv run verify_index.py https://mirror.example --root root.json

root.json is the root of trust: get it once from a source that you trust; newer roots are found from
it. The versions that were seen are remembered, so that a rollback is detected.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # Python searches the script's folder first, where bisect.py may be.
    del sys.path[0]

import argparse
import hashlib
import http.client
import json
import os
import re
import time
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple
from urllib.parse import unquote, urljoin

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

FOLDER = "whl/signed"
RELEASES, NIGHTLIES = "state/releases.json", "state/nightlies.json"
NIGHTLY, YANKED = "state/nightly.json", "state/yanked.json"
LEDGERS = (RELEASES, NIGHTLIES, NIGHTLY, YANKED)
# A publication writes ledgers, then signs them; in between they differ for a moment.
ATTEMPTS, PAUSE = 3, 2.0  # seconds

Entry = Tuple[str, str, bool]  # URL, sha256, whether it is yanked


class NotAsSigned(Exception):
    """The served content differs from the signed one; the message says how."""


def ledgers(base: str, root: bytes, memory: Path) -> Dict[str, Any]:
    """Key → ledger, verified and not expired. Raises NotAsSigned.

    memory: a folder for the versions that were seen, to detect rollbacks.
    """
    memory.mkdir(parents=True, exist_ok=True)
    config = UpdaterConfig(prefix_targets_with_hash=False)
    for attempt in range(ATTEMPTS):
        try:
            updater = Updater(
                str(memory),
                f"{base}/{FOLDER}/",
                target_base_url=f"{base}/",
                config=config,
                bootstrap=root,
            )
            updater.refresh()
            return {key: _ledger(updater, key, memory) for key in LEDGERS}
        except (RepositoryError, DownloadError) as error:
            if attempt + 1 == ATTEMPTS:
                raise NotAsSigned(f"{type(error).__name__}: {error}") from error
            time.sleep(PAUSE)
    raise AssertionError("not reached")


def _ledger(updater: Updater, key: str, memory: Path) -> Dict[str, Any]:
    info = updater.get_targetinfo(key)
    if info is None:  # an empty ledger is not written
        return {"units": {} if key == YANKED else [], "variants": {}}
    path = memory / key.replace("/", "-")
    path.unlink(missing_ok=True)  # always downloaded again: a file in the memory is not trusted
    updater.download_target(info, str(path))
    return json.loads(path.read_bytes())  # type: ignore[no-any-return]


def expected(found: Dict[str, Any], ledger: str, variant: str, development: bool) -> Set[Entry]:
    """The entries that the index of a variant must have, from the signed ledgers."""
    default = next(name for name, v in found[ledger]["variants"].items() if v["default"])
    return {
        (prefix(unit) + file["name"], file["sha256"], _is_yanked(found, unit))
        for unit in found[ledger]["units"]
        for file in unit["files"]
        if (file["variant"] or default) == variant
        and (not development or ".dev" in file["version"])
    }


def prefix(unit: Dict[str, Any]) -> str:
    return f"releases/download/v{unit['version']}/" if unit["release"] else f"{unit['commit']}/"


def _is_yanked(found: Dict[str, Any], unit: Dict[str, Any]) -> bool:
    name = f"v{unit['version']}" if unit["release"] else unit["commit"]
    return found[YANKED]["units"].get(name, {"reason": None})["reason"] is not None


def pages(found: Dict[str, Any]) -> Iterator[Tuple[str, Set[Entry]]]:
    """Each page of a simple index, with the entries that it must have."""
    for folder, ledger, development in (
        ("whl", RELEASES, False),
        ("whl/nightly", NIGHTLIES, True),
        ("nightly", NIGHTLY, False),
    ):
        for variant in sorted(found[ledger]["variants"]):
            yield f"{folder}/{variant}/vllm/", expected(found, ledger, variant, development)


class Links(HTMLParser):
    """Parses the links of an HTML page of a simple index."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: List[Tuple[str, str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        values = dict(attrs)
        if tag == "a":
            href, _, digest = (values.get("href") or "").partition("#sha256=")
            self.found.append((href, digest, "data-yanked" in values))


def offered(base: str, page: str) -> Iterator[Tuple[str, Set[Entry]]]:
    """The HTML and the JSON form of a page: its URL and its entries."""
    url = f"{base}/{page}index.json"
    files = json.loads(get(url))["files"]
    yield (
        url,
        {_entry(base, url, f["url"], f["hashes"]["sha256"], bool(f["yanked"])) for f in files},
    )
    url = f"{base}/{page}index.html"
    yield url, {_entry(base, url, *link) for link in Links(get(url).decode()).found}


def _entry(base: str, page: str, href: str, digest: str, yanked: bool) -> Entry:
    address = unquote(urljoin(page, href))
    inside = address.startswith(f"{base}/")
    return (address[len(base) + 1 :] if inside else address, digest, yanked)


def check_pages(base: str, found: Dict[str, Any]) -> int:
    """Compares every page with the ledgers; returns the number of pages. Raises NotAsSigned."""
    count = 0
    for page, wanted in pages(found):
        for url, entries in offered(base, page):
            for problem, names in (
                ("has entries that were not signed", entries - wanted),
                ("hides", wanted - entries),
            ):
                if names:
                    raise NotAsSigned(
                        f"{url} {problem}: {', '.join(sorted(n for n, _, _ in names))}"
                    )
            count += 1
    return count


def check_files(base: str, found: Dict[str, Any], newest: int) -> int:
    """Downloads and verifies files of the newest units and of nightly/. Raises NotAsSigned."""
    wanted = {}
    for unit in [*found[RELEASES]["units"][:newest], *found[NIGHTLIES]["units"][:newest]]:
        for file in [*unit["files"], *unit["attachments"]]:
            wanted[prefix(unit) + file["name"]] = file["sha256"]
    for unit in found[NIGHTLY]["units"]:
        for file in unit["files"]:
            if ".dev" not in file["version"]:
                wanted[f"nightly/{file['name']}"] = file["sha256"]
    for key, sha256 in wanted.items():
        data = as_published(key, base, get(f"{base}/{key.replace('+', '%2B')}"))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise NotAsSigned(f"{base}/{key} is not the file that was signed")
    return len(wanted)


# Scripts and locks contain the public address, which `ci serve` replaces by its own.
PUBLIC = "https://vllm-wheels.s3.us-west-2.amazonaws.com"


def as_published(key: str, base: str, data: bytes) -> bytes:
    if re.search(r"/(?:bisect\.py|install\.py|pylock\.[^/]*\.toml)$", key):
        return data.replace(base.encode(), PUBLIC.encode())
    return data


def get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()  # type: ignore[no-any-return]
    except (OSError, http.client.HTTPException) as error:
        raise NotAsSigned(f"{url} is missing or cannot be read: {error}") from error


def memory_of(base: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache, "vllm-index", hashlib.sha256(base.encode()).hexdigest()[:16])


def verify(base: str, root: bytes, memory: Path, newest: int = 1) -> str:
    """Verifies an index; returns a summary. Raises NotAsSigned."""
    base = base.rstrip("/")
    found = ledgers(base, root, memory)
    try:
        count = check_pages(base, found)
        files = check_files(base, found, newest)
    except (ValueError, KeyError, TypeError) as error:
        raise NotAsSigned(f"a page is malformed: {error!r}") from error
    units = len(found[RELEASES]["units"]) + len(found[NIGHTLIES]["units"])
    return f"as signed: {units} commits and releases, {count} pages, {files} files"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, required=True, help="the root that you trust")
    parser.add_argument("--memory", type=Path, help="folder for the versions seen")
    parser.add_argument(
        "--files",
        type=int,
        default=1,
        help="verify the files of the newest N units (default: %(default)s)",
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("base", metavar="URL", help="address of the index, or of a mirror")
    configure(parser)
    args = parser.parse_args(argv)
    try:
        memory = args.memory or memory_of(args.base)
        print(verify(args.base, args.root.read_bytes(), memory, args.files))
    except (NotAsSigned, OSError) as error:
        print(f"not as signed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
