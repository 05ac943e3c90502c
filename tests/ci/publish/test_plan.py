"""What a unit says of its commit and wheels; nothing is published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ci.git import Commit
from ci.index.manifest import Change
from ci.publish import plan
from ci.publish.errors import IncompleteSet, PublishError
from ci.wheel.reader import WheelFile
from tests.ci.support.wheels import Factory

NOW = "2026-11-05T12:00:00Z"


@pytest.fixture(scope="module")
def one(factory: Factory) -> tuple[Commit, list[WheelFile]]:
    commit = factory.commit(1)
    return commit, factory.wheels(commit)


def test_a_change_counts_all_native_files_and_names_the_first(factory: Factory) -> None:
    native = [f"csrc/kernels/{number:02}.cu" for number in range(30)]
    commit = replace(factory.commit(1), changed=("README.md", *native, "tests/test_a.py"))
    assert plan.change(commit) == Change(
        commit.subject, commit.parent, 32, 30, tuple(native[: plan.SHOWN])
    )


def test_an_incomplete_set_is_told_as_a_whole(
    factory: Factory, one: tuple[Commit, list[WheelFile]]
) -> None:
    commit, (first, second, *others) = one
    foreign = factory.wheels(factory.commit(2))[1]
    with pytest.raises(IncompleteSet) as caught:
        plan.unit([second, second, *others, foreign], commit, factory.matrix, NOW)
    assert caught.value.what == (
        f"the set of wheels is not complete; missing: {first.path.name}; "
        f"not of this set: {foreign.path.name}; given twice: {second.path.name}"
    )


def test_wheels_of_one_platform_have_one_library(
    factory: Factory, one: tuple[Commit, list[WheelFile]]
) -> None:
    commit, wheels = one
    platforms = [wheel.path.name.rpartition("-")[2] for wheel in wheels]
    assert len(set(platforms)) > 1
    libraries = [
        replace(wheel, native={"vllm/_C.abi3.so": platform})
        for wheel, platform in zip(wheels, platforms)
    ]
    unit = plan.unit(libraries, commit, factory.matrix, NOW)
    assert len(unit.files) == len(wheels)
    libraries[0] = replace(libraries[0], native={"vllm/_C.abi3.so": "another"})
    with pytest.raises(PublishError) as caught:
        plan.unit(libraries, commit, factory.matrix, NOW)
    assert f"another in {wheels[0].path.name}, {platforms[0]} in " in caught.value.what
