"""The signed index: roles of The Update Framework over the ledgers (docs/decisions/0005).

`targets.json` has the sha256 of every ledger, and a ledger that of every file it lists, so changes
by a mirror or a proxy are detected. Targets and snapshot are functions of the records and the key;
the timestamp limits how long they are trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Optional, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from ci.index import records
from ci.index.records import Ledger
from ci.publish.errors import PublishError
from ci.publish.view import View
from ci.store import Body, NotFound, Store

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

FOLDER = "whl/signed/"
TIMESTAMP = f"{FOLDER}timestamp.json"
# The signed records: everything that determines what an index offers.
LEDGERS = (records.RELEASES, records.NIGHTLIES, records.NIGHTLY, records.YANKED)
ONLINE = ("targets", "snapshot", "timestamp")  # roles whose key the publisher has
FRESH = timedelta(days=7)  # lifetime of a timestamp
LASTS = timedelta(
    days=365
)  # lifetime of a root, and of targets and snapshot after the newest publication


@dataclass(frozen=True)
class Signer:
    """An Ed25519 key."""

    private: Ed25519PrivateKey

    @property
    def _signer(self) -> CryptoSigner:
        return CryptoSigner(self.private)

    def sign(self, signed: T) -> bytes:
        """The signed metadata of a role, serialized."""
        metadata = Metadata(signed)
        metadata.sign(self._signer)
        return metadata.to_bytes(JSONSerializer())


def check_key(view: View, signer: Optional[Signer]) -> None:
    """Raises PublishError if the index is signed and no key was given."""
    if signer is None and view.entry(TIMESTAMP) is not None:
        raise PublishError(
            f"the index of {view.store.name} is signed, and no key was given",
            means="an unsigned change would look like an attack to those who verify the index",
            do="pass --index-key, or set VLLM_INDEX_KEY",
        )


def sign(view: View, signer: Signer, now: datetime, *, renew: bool = False) -> tuple[str, ...]:
    """Signs the current ledgers; returns the keys that it wrote.

    renew: write a new timestamp even if nothing changed.
    """
    pages = {f"{FOLDER}{name}.json": None for name in ("targets", "snapshot")}
    written = view.refresh(pages, lambda: _of_records(view, signer))
    version = _version(view)
    # A publisher may have stopped between the snapshot and its timestamp.
    before = None if written else _last_timestamp(view)
    if before is not None and before.snapshot_meta.version == version and not renew:
        return ()
    # It rises with the ledgers, whatever the clock of this machine; without a change, by its time.
    number = max((version << 32) + int(now.timestamp()), before.version + 1 if before else 0)

    def timestamp() -> dict[str, bytes]:
        signed = Timestamp(
            version=number,
            expires=_whole(now + FRESH),
            snapshot_meta=MetaFile(version),
        )
        return {TIMESTAMP: signer.sign(signed)}

    return (*written, *view.refresh([TIMESTAMP], timestamp))


def sign_anew(store: Store, signer: Signer, now: datetime) -> tuple[str, ...]:
    """Signs changed ledgers, and always renews the timestamp."""
    view = View(store)
    view.see(FOLDER)
    return sign(view, signer, now, renew=True)


def is_signed(store: Store) -> bool:
    return any(True for _ in store.list(TIMESTAMP))


def write_root(
    store: Store,
    roots: list[Signer],
    online: Signer,
    now: datetime,
    before: Optional[list[Signer]] = None,
) -> str:
    """Writes the next version of the root, which assigns keys to roles. Returns its key.

    roots: the keys of the root role, all of which sign. before: keys of the previous root, which
    readers trust and which sign too; by default the same.
    """
    known = sorted(
        int(match[1])
        for entry in store.list(FOLDER)
        if (match := re.fullmatch(rf"{FOLDER}(\d+)\.root\.json", entry.key))
    )
    version = known[-1] + 1 if known else 1
    root = Root(version=version, expires=_whole(now + LASTS), consistent_snapshot=False)
    for signer in roots:
        root.add_key(signer._signer.public_key, "root")
    root.roles["root"].threshold = len(roots)
    for role in ONLINE:
        root.add_key(online._signer.public_key, role)
    metadata = Metadata(root)
    for signer in {s._signer.public_key.keyid: s for s in [*roots, *(before or [])]}.values():
        metadata.sign(signer._signer, append=True)
    if known:
        old = Metadata[Root].from_bytes(store.get(f"{FOLDER}{known[-1]}.root.json").body)
        old.verify_delegate("root", metadata)
    metadata.verify_delegate("root", metadata)
    key = f"{FOLDER}{version}.root.json"
    store.create(key, Body.of(metadata.to_bytes(JSONSerializer())))
    return key


def _last_timestamp(view: View) -> Optional[Timestamp]:
    """The timestamp in the bucket; None if there is none that can be read."""
    if view.entry(TIMESTAMP) is None:
        return None
    try:
        return Metadata[Timestamp].from_bytes(view.store.get(TIMESTAMP).body).signed
    except (NotFound, DeserializationError):
        return None


def _of_records(view: View, signer: Signer) -> dict[str, bytes]:
    version, expires = _version(view), _expires(view)
    targets = Targets(version=version, expires=expires)
    for record in LEDGERS:
        stored = view.stored(record)
        if stored is not None:
            digest, size = stored
            targets.targets[record.key] = TargetFile(size, {"sha256": digest}, record.key)
    snapshot = Snapshot(version=version, expires=expires, meta={"targets.json": MetaFile(version)})
    return {
        f"{FOLDER}targets.json": signer.sign(targets),
        f"{FOLDER}snapshot.json": signer.sign(snapshot),
    }


def _version(view: View) -> int:
    """A number that rises with each change of a ledger: the sum of their serials."""
    yanked = view.read(records.YANKED)
    return (
        1
        + view.read(records.RELEASES).serial
        + view.read(records.NIGHTLIES).serial
        + view.read(records.NIGHTLY).ledger.serial
        + sum(yank.serial for yank in yanked.units.values())
    )


def _expires(view: View) -> datetime:
    ledgers: list[Ledger] = [view.read(records.RELEASES), view.read(records.NIGHTLIES)]
    published = [unit.published for ledger in ledgers for unit in ledger.units]
    newest = max(published, default="2026-01-01T00:00:00Z")
    at = datetime.strptime(newest, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return _whole(at + LASTS)


def _whole(time: datetime) -> datetime:
    return time.astimezone(timezone.utc).replace(microsecond=0)
