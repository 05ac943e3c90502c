"""The signed index: attacks by a mirror or a proxy, and key rotation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tuf.api.exceptions import UnsignedMetadataError

from ci.__main__ import main
from ci.git import Commit
from ci.index import records
from ci.publish import PublishError, access, care, cli, publish, signed, transaction
from ci.publish.ledgers import BeingRemoved
from ci.publish.reindex import reindex
from ci.publish.signed import Signer
from ci.scripts import verify_index
from ci.scripts.verify_index import NotAsSigned
from ci.store import Body, FolderStore, StoreUnavailable
from tests.ci.clients.conftest import plain_hosting
from tests.ci.support.sockets import BROKEN_ANSWERS, answering
from tests.ci.support.wheels import Factory

NOW = datetime.now(timezone.utc)
SIGNED = "whl/signed"
PAGE = "whl/nightly/cu121/vllm"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_index, "PAUSE", 0.0)


def make_key() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def keys() -> dict[str, Signer]:
    return {name: make_key() for name in ("root", "index", "thief")}


@pytest.fixture(scope="module")
def commits(factory: Factory) -> list[Commit]:
    return [factory.commit(number, "signed") for number in (1, 2)]


@pytest.fixture(scope="module")
def past(
    tmp_path_factory: pytest.TempPathFactory,
    factory: Factory,
    keys: dict[str, Signer],
    commits: list[Commit],
) -> FolderStore:
    """A release and a commit, signed yesterday."""
    store = FolderStore(tmp_path_factory.mktemp("signed") / "past", durable=False)
    yesterday = NOW - timedelta(days=1)
    signed.write_root(store, [keys["root"]], keys["index"], yesterday)
    put(store, factory, factory.commit(0, "signed"), keys["index"], yesterday, release=True)
    put(store, factory, commits[0], keys["index"], yesterday)
    return store


@pytest.fixture
def store(
    past: FolderStore,
    factory: Factory,
    keys: dict[str, Signer],
    commits: list[Commit],
    tmp_path: Path,
) -> FolderStore:
    """The same with one more commit, signed now."""
    store = copy(past, tmp_path / "store")
    put(store, factory, commits[1], keys["index"], NOW)
    return store


def put(
    store: FolderStore,
    factory: Factory,
    commit: Commit,
    signer: Signer | None,
    now: datetime,
    release: bool = False,
) -> None:
    wheels = factory.release(commit) if release else factory.wheels(commit)
    clock = lambda: now  # noqa: E731
    publish(store, wheels, commit, factory.matrix, release=release, signer=signer, clock=clock)


@pytest.mark.parametrize("name", ["nothing", "cut off", "forbidden"])
def test_a_broken_download_is_not_as_signed(name: str) -> None:
    with (
        answering(BROKEN_ANSWERS[name]) as base,
        pytest.raises(NotAsSigned, match="cannot be read"),
    ):
        verify_index.get(f"{base}/index.html")


def copy(store: FolderStore, target: Path) -> FolderStore:
    shutil.copytree(store.root, target)
    return FolderStore(target, durable=False)


@pytest.fixture
def check(past: FolderStore, tmp_path: Path) -> Callable[[FolderStore], str]:
    """Verifies a bucket at one address, as one person does again and again."""
    root = (past.root / SIGNED / "1.root.json").read_bytes()

    def verify(store: FolderStore) -> str:
        with plain_hosting(store.root) as base:
            return verify_index.verify(base, root, tmp_path / "memory")

    return verify


def test_an_index_as_it_was_published_is_as_signed(
    store: FolderStore, past: FolderStore, check: Callable[[FolderStore], str]
) -> None:
    assert check(past).startswith("as signed: 2 commits and releases, 12 pages, ")
    assert check(store).startswith("as signed: 3 commits and releases, 12 pages, ")


# The attacks. Each function changes what a mirror serves; `past` is what it served yesterday.


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def substitute_a_wheel(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    (wheel,) = (store.root / commits[1].sha).glob("vllm-0.5.4-cp38-abi3-manylinux1_*.whl")
    wheel.write_bytes(b"another wheel")


def substitute_the_copy_in_nightly(
    store: FolderStore, past: FolderStore, commits: list[Commit]
) -> None:
    (wheel,) = (store.root / "nightly").glob("vllm-0.5.4-cp38-abi3-manylinux1_*.whl")
    wheel.write_bytes(b"another wheel")


def substitute_a_script(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    edit(store.root / commits[1].sha / "install.py", b"import argparse", b"import antigravity")


def link_elsewhere(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    sha = commits[1].sha.encode()
    edit(store.root / PAGE / "index.html", b"../../../../" + sha, b"https://evil.example/" + sha)


def offer_another_hash(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    path = store.root / PAGE / "index.json"
    page = json.loads(path.read_bytes())
    page["files"][0]["hashes"]["sha256"] = "0" * 64
    path.write_text(json.dumps(page))


def hide_the_newest(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    shutil.copy(past.root / PAGE / "index.json", store.root / PAGE / "index.json")


def take_back_a_yank(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    path = store.root / PAGE / "index.json"
    page = json.loads(path.read_bytes())
    page["files"][0]["yanked"] = "so nobody installs what is fixed"
    path.write_text(json.dumps(page))


def edit_a_ledger(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    edit(store.root / "state/nightlies.json", b'"number":2', b'"number":9')


def mix_an_old_ledger_with_new_signatures(
    store: FolderStore, past: FolderStore, commits: list[Commit]
) -> None:
    shutil.copy(past.root / "state/nightlies.json", store.root / "state/nightlies.json")


def mix_old_targets_with_a_new_timestamp(
    store: FolderStore, past: FolderStore, commits: list[Commit]
) -> None:
    for name in (f"{SIGNED}/targets.json", "state/nightlies.json", "state/nightly.json"):
        shutil.copy(past.root / name, store.root / name)


def roll_everything_back(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    shutil.rmtree(store.root)
    shutil.copytree(past.root, store.root)


def leave_out_what_is_signed(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    (store.root / SIGNED / "timestamp.json").unlink()


def make_the_signatures_void(store: FolderStore, past: FolderStore, commits: list[Commit]) -> None:
    path = store.root / SIGNED / "timestamp.json"
    metadata = json.loads(path.read_bytes())
    metadata["signatures"][0]["sig"] = "00" * 64
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (substitute_a_wheel, "is not the file that was signed"),
        (substitute_the_copy_in_nightly, "is not the file that was signed"),
        (substitute_a_script, "install.py is not the file that was signed"),
        (link_elsewhere, "has entries that were not signed: https://evil.example/"),
        (offer_another_hash, "has entries that were not signed"),
        (hide_the_newest, "index.json hides"),
        (take_back_a_yank, "has entries that were not signed"),
        (edit_a_ledger, "LengthOrHashMismatchError"),
        (mix_an_old_ledger_with_new_signatures, "LengthOrHashMismatchError"),
        (mix_old_targets_with_a_new_timestamp, "LengthOrHashMismatchError"),
        (roll_everything_back, "BadVersionNumberError"),
        (leave_out_what_is_signed, "DownloadHTTPError"),
        (make_the_signatures_void, "UnsignedMetadataError"),
    ],
)
def test_an_attack_is_detected(
    store: FolderStore,
    past: FolderStore,
    check: Callable[[FolderStore], str],
    commits: list[Commit],
    attack: Callable[[FolderStore, FolderStore, list[Commit]], None],
    said: str,
) -> None:
    check(store)  # it was seen as it should be, once
    attack(store, past, commits)
    with pytest.raises(NotAsSigned, match=said):
        check(store)


def test_mix_and_match_is_detected_by_a_new_reader(
    store: FolderStore, past: FolderStore, commits: list[Commit], tmp_path: Path
) -> None:
    mix_old_targets_with_a_new_timestamp(store, past, commits)
    with pytest.raises(NotAsSigned, match="BadVersionNumberError"):
        verify_new(store, tmp_path)


def test_a_frozen_index_expires(
    past: FolderStore, tmp_path: Path, keys: dict[str, Signer], check: Callable[[FolderStore], str]
) -> None:
    frozen = copy(past, tmp_path / "frozen")
    check(frozen)
    signed.sign_anew(frozen, keys["index"], NOW - signed.FRESH - timedelta(hours=1))
    with pytest.raises(NotAsSigned, match="ExpiredMetadataError"):
        verify_new(frozen, tmp_path)
    signed.sign_anew(frozen, keys["index"], NOW)
    check(frozen)


def verify_new(store: FolderStore, folder: Path) -> str:
    """As somebody who has seen nothing yet."""
    root = (store.root / SIGNED / "1.root.json").read_bytes()
    with plain_hosting(store.root) as base:
        memory = folder / f"new-{len(list(folder.iterdir()))}"
        return verify_index.verify(base, root, memory)


def test_signatures_by_another_key_are_refused(
    store: FolderStore, keys: dict[str, Signer], check: Callable[[FolderStore], str]
) -> None:
    signed.sign_anew(store, keys["thief"], NOW + timedelta(seconds=5))
    with pytest.raises(NotAsSigned, match="UnsignedMetadataError"):
        check(store)


def test_a_stolen_index_key_is_replaced_and_readers_follow(
    store: FolderStore, keys: dict[str, Signer], check: Callable[[FolderStore], str]
) -> None:
    check(store)
    fresh = make_key()
    later = NOW + timedelta(seconds=5)
    assert signed.write_root(store, [keys["root"]], fresh, later) == f"{SIGNED}/2.root.json"
    with pytest.raises(NotAsSigned, match="UnsignedMetadataError"):
        check(store)  # what the old key signed
    signed.sign_anew(store, fresh, later)
    check(store)


def test_a_root_key_is_replaced_with_both_signatures(
    store: FolderStore, keys: dict[str, Signer], check: Callable[[FolderStore], str]
) -> None:
    new = make_key()
    with pytest.raises(UnsignedMetadataError):
        signed.write_root(store, [new], keys["index"], NOW)
    assert not (store.root / SIGNED / "2.root.json").exists()
    signed.write_root(store, [new], keys["index"], NOW, before=[keys["root"]])
    check(store)
    signed.write_root(store, [new], keys["index"], NOW)
    check(store)
    # A root that the readers' own does not lead to.
    forged = FolderStore(store.root.parent / "forged", durable=False)
    signed.write_root(forged, [keys["thief"]], keys["thief"], NOW)
    shutil.copy(forged.root / SIGNED / "1.root.json", store.root / SIGNED / "4.root.json")
    with pytest.raises(NotAsSigned):
        check(store)


def test_of_several_root_keys_none_is_enough(tmp_path: Path, keys: dict[str, Signer]) -> None:
    store = FolderStore(tmp_path / "several", durable=False)
    both = [keys["root"], make_key()]
    signed.write_root(store, both, keys["index"], NOW)
    for one in both:
        with pytest.raises(UnsignedMetadataError):
            signed.write_root(store, [one], keys["index"], NOW)
    assert signed.write_root(store, both, keys["index"], NOW) == f"{SIGNED}/2.root.json"


def test_the_tenth_root_is_newer_than_the_ninth(tmp_path: Path, keys: dict[str, Signer]) -> None:
    store = FolderStore(tmp_path / "many", durable=False)
    for number in range(1, 12):
        key = signed.write_root(store, [keys["root"]], keys["index"], NOW)
        assert key == f"{SIGNED}/{number}.root.json"


def test_a_signed_index_is_never_left_unsigned(
    store: FolderStore,
    factory: Factory,
    keys: dict[str, Signer],
    check: Callable[[FolderStore], str],
) -> None:
    with pytest.raises(PublishError, match="is signed, and no key was given"):
        put(store, factory, factory.commit(3, "signed"), None, NOW)
    check(store)


def test_the_same_publication_again_and_reindex_sign_nothing_new(
    store: FolderStore, factory: Factory, keys: dict[str, Signer], commits: list[Commit]
) -> None:
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    put(store, factory, commits[1], keys["index"], NOW + timedelta(hours=1))
    assert reindex(store, factory.matrix, lambda step: None).written == ()
    assert {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()} == before


def test_a_clock_that_was_ahead_makes_no_later_signature_a_rollback(
    past: FolderStore,
    factory: Factory,
    keys: dict[str, Signer],
    commits: list[Commit],
    tmp_path: Path,
    check: Callable[[FolderStore], str],
) -> None:
    store = copy(past, tmp_path / "store")
    signed.sign_anew(store, keys["index"], NOW + timedelta(days=300))
    check(store)
    signed.sign_anew(store, keys["index"], NOW)
    check(store)
    signed.sign_anew(store, keys["index"], NOW + timedelta(days=300))
    check(store)
    put(store, factory, commits[1], keys["index"], NOW)
    assert check(store).startswith("as signed: 3 commits")


@pytest.mark.parametrize("at", ["targets", "snapshot", "timestamp"])
def test_a_publisher_that_stopped_while_it_signed_is_finished_by_the_same_command(
    past: FolderStore,
    factory: Factory,
    keys: dict[str, Signer],
    commits: list[Commit],
    tmp_path: Path,
    check: Callable[[FolderStore], str],
    at: str,
) -> None:
    class Dying(FolderStore):
        def replace(self, key: str, body: Body, etag: str) -> str:
            if key == f"{SIGNED}/{at}.json":
                raise StoreUnavailable("dead")
            return super().replace(key, body, etag)

    store = copy(past, tmp_path / "store")
    with pytest.raises(StoreUnavailable):
        put(Dying(store.root, durable=False), factory, commits[1], keys["index"], NOW)
    put(store, factory, commits[1], keys["index"], NOW)
    assert check(store).startswith("as signed: 3 commits")


def test_by_the_commands(
    store: FolderStore,
    keys: dict[str, Signer],
    commits: list[Commit],
    tmp_path: Path,
    check: Callable[[FolderStore], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pems = {name: pem(signer, tmp_path / f"{name}.pem") for name, signer in keys.items()}
    bucket = ["--bucket", str(store.root)]
    yank = ["yank", commits[0].sha, "--reason", "wrong", *bucket]
    assert main(yank) == 1
    assert "no key was given" in capsys.readouterr().err
    assert main([*yank, "--index-key", pems["index"]]) == 0
    check(store)
    assert main(["sign", *bucket, "--index-key", pems["index"], "--root-key", pems["root"]]) == 0
    assert "2.root.json" in capsys.readouterr().out
    root = str(store.root / SIGNED / "1.root.json")
    with plain_hosting(store.root) as base:
        options = ["--root", root, "--memory", str(tmp_path / "m")]
        assert main(["verify", "--index", base, *options]) == 0
        assert "as signed: 3 commits" in capsys.readouterr().out
        script = [sys.executable, verify_index.__file__, base, *options]
        ran = subprocess.run(script, capture_output=True, text=True, check=True)
        assert "as signed: 3 commits" in ran.stdout
        care.yank(store, commits[0].sha, None)  # behind its back
        assert main(["verify", "--index", base, *options]) == 1
        assert "not as signed" in capsys.readouterr().err
        assert main(["verify", "--index", base]) == 1
        assert "needs --root" in capsys.readouterr().err


def test_what_a_failed_command_changed_is_signed(
    store: FolderStore,
    keys: dict[str, Signer],
    commits: list[Commit],
    tmp_path: Path,
    check: Callable[[FolderStore], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = pem(keys["index"], tmp_path / "index.pem")

    def fail(view: object) -> None:
        raise StoreUnavailable("no more requests")

    with monkeypatch.context() as patch:
        patch.setattr(care, "alias_nightly", fail)
        command = ["yank", commits[0].sha, "--reason", "wrong", "--bucket", str(store.root)]
        assert main([*command, "--index-key", key]) == 1
    assert access.read(store, records.YANKED).reason(commits[0].sha) == "wrong"
    check(store)


def test_a_failed_command_says_if_what_it_changed_is_not_signed(
    store: FolderStore,
    keys: dict[str, Signer],
    commits: list[Commit],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise StoreUnavailable(f"no more requests, {len(failed)}", do="wait")

    failed: list[object] = []
    monkeypatch.setattr(care, "alias_nightly", fail)
    monkeypatch.setattr(cli, "sign_anew", lambda *args: (failed.append(args), fail()))
    key = pem(keys["index"], tmp_path / "index.pem")
    command = ["yank", commits[0].sha, "--reason", "wrong", "--bucket", str(store.root)]
    assert main([*command, "--index-key", key]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no more requests, 0 " in said
    assert (
        "wait; then run `python -m ci sign`: the index is not signed either (no more requests, 1)"
        in said
    )


def test_a_publication_that_is_taken_back_leaves_the_index_signed(
    store: FolderStore,
    factory: Factory,
    keys: dict[str, Signer],
    commits: list[Commit],
    check: Callable[[FolderStore], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction, "is_removed", lambda view, unit: unit == commits[0].sha)
    with pytest.raises(BeingRemoved):
        put(store, factory, commits[0], keys["index"], NOW)
    listed = access.read(store, records.NIGHTLIES).units
    assert [unit.name for unit in listed] == [commits[1].sha]
    check(store)


def pem(signer: Signer, path: Path) -> str:
    how = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    path.write_bytes(signer.private.private_bytes(*how))
    return str(path)
