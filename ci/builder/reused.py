"""Reuses native files of wheels in a bucket, and records which commit they came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci import names
from ci.git import Commit
from ci.index import records
from ci.publish import access
from ci.reuse import Published, Reuse, WrongWheel, of_ledger
from ci.store import Store
from ci.wheel import symbols

# Written beside wheels that were built with native files of another commit.
RECORD = "reused-{}.json"


@dataclass(frozen=True)
class StoreWheels:
    """The nightlies and releases of a bucket."""

    store: Store

    def listed(self) -> Iterator[Published]:
        """Every listed wheel that has a native digest, newest first."""
        for ledger in (records.NIGHTLIES, records.RELEASES):
            yield from of_ledger(access.read(self.store, ledger))

    def download(self, wheel: Published, target: Path) -> None:
        self._download(wheel.key, target)

    def symbols(self, wheel: Published, folder: Path) -> None:
        """Downloads the debug symbols of the library in `folder`, and writes them beside it.

        Releases have none. Raises BadSymbols if they belong to another library.
        """
        library = (folder / names.LIBRARY).read_bytes()
        build_id = symbols.build_id(library)
        if build_id is None:
            return
        commit = wheel.commit if wheel.key.startswith("releases/") else wheel.key.split("/")[0]
        target = folder / symbols.BUILT
        self._download(names.commit_key(commit, symbols.name_of(build_id)), target)
        symbols.check(target.read_bytes(), library)

    def _download(self, key: str, target: Path) -> None:
        with target.open("wb") as file:
            for chunk in self.store.read(self.store.head(key)):
                file.write(chunk)


def reuse_of(store: Store) -> Reuse:
    """A `Reuse` of the wheels in a bucket, and of their debug symbols."""
    wheels = StoreWheels(store)
    return Reuse(wheels, wheels.symbols)


def write_reused(out: Path, commit: Commit, used: Mapping[str, str]) -> None:
    """Records beside the wheels of `commit` where their native files came from."""
    out.mkdir(parents=True, exist_ok=True)
    for variant, compiled_by in used.items():
        text = json.dumps({"commit": commit.sha, "reused_from": compiled_by}) + "\n"
        (out / RECORD.format(variant)).write_text(text, encoding="utf-8")


def read_reused(folder: Path, commit: Commit) -> dict[str, str]:
    """Variant → commit that compiled its native files, as `write_reused` recorded it.

    A record of another commit is ignored. Raises WrongWheel for a damaged one.
    """
    reused: dict[str, str] = {}
    for path in sorted(folder.rglob(RECORD.format("*"))):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["commit"] == commit.sha:
                reused[path.name.split("-")[1].partition(".")[0]] = str(record["reused_from"])
        except (ValueError, KeyError, TypeError) as error:
            raise WrongWheel(f"{path} is damaged: {error}") from error
    return reused
