"""Wheels of several machines are collected completely or not at all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ci.git import Commit
from ci.index.records import State
from ci.publish import plan, publish
from ci.publish.collect import collect
from ci.publish.errors import Conflict, IncompleteSet, PublishError
from ci.store import FolderStore
from tests.ci.support.wheels import Factory


@pytest.fixture
def commit(factory: Factory) -> Commit:
    return factory.commit(1, "cells")


@pytest.fixture
def cells(factory: Factory, commit: Commit, tmp_path: Path) -> Path:
    """What two machines left, each in its folder."""
    for wheel in factory.wheels(commit):
        folder = tmp_path / "cells" / f"wheels-{wheel.build.variant}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel.path, folder)
    (tmp_path / "cells" / "notes.txt").write_text("passed over")
    return tmp_path / "cells"


def test_the_complete_set(factory: Factory, commit: Commit, cells: Path, tmp_path: Path) -> None:
    expected = plan.commit_wheels(factory.matrix, commit)
    found = collect(cells, expected, tmp_path / "out")
    assert sorted(path.name for path in found) == sorted(expected)
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(found)


def test_debug_symbols_come_along_where_they_are_wanted(
    factory: Factory, commit: Commit, cells: Path, tmp_path: Path
) -> None:
    name = f"buildid/{'a' * 40}/debuginfo"
    for variant in ("cu118", "cu121"):
        target = cells / f"wheels-{variant}" / name
        target.parent.mkdir(parents=True)
        target.write_bytes(b"symbols")
    wanted = plan.commit_wheels(factory.matrix, commit)
    collect(cells, wanted, tmp_path / "release")
    assert not (tmp_path / "release" / "buildid").exists()
    collect(cells, wanted, tmp_path / "out", with_symbols=True)
    assert (tmp_path / "out" / name).read_bytes() == b"symbols"
    target.write_bytes(b"others")
    with pytest.raises(Conflict, match=f"{name} was built more than once"):
        collect(cells, wanted, tmp_path / "out", with_symbols=True)


def test_a_machine_that_has_not_delivered(
    factory: Factory, commit: Commit, cells: Path, tmp_path: Path
) -> None:
    shutil.rmtree(cells / "wheels-cu118")
    with pytest.raises(IncompleteSet, match=r"vllm-0\.5\.4\+cu118-cp38-abi3"):
        collect(cells, plan.commit_wheels(factory.matrix, commit), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_machines_with_different_bits(
    factory: Factory, commit: Commit, cells: Path, tmp_path: Path
) -> None:
    other = factory.wheels(commit, b"other bits")[0].path
    (cells / "again").mkdir()
    shutil.copy(other, cells / "again")
    with pytest.raises(Conflict, match="more than once, with different bits") as caught:
        collect(cells, plan.commit_wheels(factory.matrix, commit), tmp_path / "out")
    assert str(cells / "again" / other.name) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_same_file_twice_is_accepted(
    factory: Factory, commit: Commit, cells: Path, tmp_path: Path
) -> None:
    shutil.copytree(cells / "wheels-cu118", cells / "retried")
    assert len(collect(cells, plan.commit_wheels(factory.matrix, commit), tmp_path / "out")) == 6


def test_variants_with_different_host_libraries_are_not_published(
    factory: Factory, commit: Commit, tmp_path: Path
) -> None:
    """Each wheel is valid; together they show that the machines do not build the same bits."""
    store = FolderStore(tmp_path / "bucket", durable=False)
    wheels = [
        replace(wheel, native={"vllm/_C.abi3.so": wheel.build.variant})
        for wheel in factory.wheels(commit)
    ]
    with pytest.raises(PublishError, match="differs between wheels of one commit"):
        publish(store, wheels, commit, factory.matrix)
    alike = [replace(wheel, native={"vllm/_C.abi3.so": "same"}) for wheel in wheels]
    assert publish(store, alike, commit, factory.matrix).is_nightly
    assert State.COMPLETE.value in (tmp_path / "bucket" / commit.sha / "status.json").read_text()
