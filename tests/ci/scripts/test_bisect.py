"""The search itself, and the script at a real index, with real environments by uv and by pip."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.git import Commit
from ci.publish import fail, publish
from ci.publish.reindex import reindex
from ci.scripts import bisect
from ci.scripts.bisect import BAD, GOOD, SKIP
from ci.serve import running
from ci.store import FolderStore
from tests.ci.clients.conftest import UV, Ran, run
from tests.ci.support.sockets import BROKEN_ANSWERS, answering
from tests.ci.support.wheels import Factory

COUNT = 10
FIRST_BAD = 7
FAILED = 5  # never became complete


@given(st.data())
def test_the_search_ends_at_the_first_bad_commit(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 60))
    first_bad = data.draw(st.integers(1, count - 1))
    skipped = data.draw(st.sets(st.integers(1, count - 2))) if count > 2 else set()
    verdicts = {0: GOOD, count - 1: BAD}
    asked = 0
    while (place := bisect.next_one(count, verdicts)) is not None:
        assert place not in verdicts
        asked += place not in skipped
        verdicts[place] = SKIP if place in skipped else BAD if place >= first_bad else GOOD
    low, high = bisect.bounds(count, verdicts)
    assert low < first_bad <= high
    assert all(place in skipped for place in range(low + 1, high))
    # Beside what cannot be judged, no more than a bisection needs.
    assert asked <= (count - 1).bit_length() + len(skipped)


@pytest.fixture(scope="module")
def commits(factory: Factory) -> list[Commit]:
    return [factory.commit(number, "of a search") for number in range(COUNT)]


@pytest.fixture(scope="module")
def bucket(
    tmp_path_factory: pytest.TempPathFactory, factory: Factory, commits: list[Commit]
) -> FolderStore:
    """Ten commits, of which one failed."""
    store = FolderStore(tmp_path_factory.mktemp("bisect") / "bucket", durable=False)
    for commit in commits:
        if commit.number == FAILED:
            fail(store, commit, "nvrtc was out of memory")
        else:
            publish(store, factory.wheels(commit), commit, factory.matrix)
    return store


@pytest.fixture(scope="module")
def base(bucket: FolderStore) -> Iterator[str]:
    with running(bucket) as address:
        yield address


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment in which something fails: it has a package that the test needs."""
    folder = tmp_path_factory.mktemp("persons") / "an env"
    made = run([str(UV), "--no-config", "venv", "--quiet", str(folder)], folder.parent)
    assert made.code == 0, made.text
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "probe.py").write_text(
        "import sys, vllm\n"
        "number = int(vllm.__version__.split('.dev')[1].split('+')[0])\n"
        "open(sys.argv[1], 'a').write(f'{number} ')\n"
        "sys.exit(eval(sys.argv[2], {'number': number}))\n"
    )
    # As uv, pip and others begin a program.
    by_sh = "#!/bin/sh\n'''exec' {0}{1}/bin/python{0} \"$0\" \"$@\"\n' '''\n"
    starts = by_sh.format("'", folder), by_sh.format('"', folder), f"#!{folder}/bin/python\n"
    for name, start in zip(("probe", "by_pip", "plain"), starts):
        program = folder / "bin" / name
        program.write_text(start + "import probe\n")
        program.chmod(0o755)
    return folder


def search(
    base: str,
    persons: Path,
    home: Path,
    commits: list[Commit],
    judged: str,
    *options: str,
    variables: Sequence[str] = (),
    good: str = "",
    bad: str = "",
    program: tuple[str, ...] = ("probe",),
) -> Ran:
    """What a person types in their environment; `judged` makes the status of a number."""
    home.mkdir(exist_ok=True)
    script = f"{base}/{commits[-1].sha}/bisect.py"
    ends = ("--good", good or commits[0].sha, "--bad", bad or commits[-1].sha)
    command = [*program, str(home / "tried"), judged]
    uv = [str(UV), "--no-config", "run", "--quiet", "--python", sys.executable, script]
    active = ["env", f"VIRTUAL_ENV={persons}", f"PATH={persons / 'bin'}:{os.environ['PATH']}"]
    return run([*active, *variables, *uv, *ends, *options, "--", *command], home, cwd=home)


BROKEN = f"number >= {FIRST_BAD}"


def tried(home: Path) -> list[int]:
    return [int(number) for number in (home / "tried").read_text().split()]


def test_the_first_bad_commit_is_named_with_what_it_changed(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    ran = search(base, persons, tmp_path / "home", commits, BROKEN)
    assert ran.code == 0, ran.text
    found = ran.text.partition("The first bad commit:")[2]
    assert commits[FIRST_BAD].sha in found
    assert commits[FIRST_BAD].subject in found
    assert "2 files changed, 1 of native code:\n    csrc/kernels/norm.cu" in found
    assert f"The last good one: {commits[FIRST_BAD - 1].sha[:12]}" in found
    # Both ends, and then by halves.
    assert len(tried(tmp_path / "home")) <= 2 + 4
    assert tried(tmp_path / "home")[:2] == [0, COUNT - 1]


def test_a_commit_without_wheels_is_named_with_the_reason(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    judged, plain = f"number > {FAILED}", ("plain",)
    ran = search(base, persons, tmp_path / "home", commits, judged, program=plain)
    assert ran.code == 0, ran.text
    assert commits[FAILED + 1].sha in ran.text.partition("The first commit found bad:")[2]
    without = ran.text.partition("These have no wheels, and may be the first bad commit as well:")[
        2
    ]
    assert f"{commits[FAILED].sha[:12]} (number {FAILED}) {commits[FAILED].subject}" in without
    assert "failed nvrtc was out of memory" in without


def test_125_skips_a_commit(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    judged = f"125 if number in (6, 7) else number >= {FIRST_BAD}"
    ran = search(base, persons, tmp_path / "home", commits, judged, program=("by_pip",))
    assert ran.code == 2, ran.text
    suspects = ran.text.partition("The first bad commit is one of these 3")[2]
    for number in (6, 7, 8):
        assert commits[number].sha in suspects
    assert commits[9].sha not in suspects


def test_an_interrupted_search_is_resumed(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    home = tmp_path / "home"
    stopping = f"200 if __import__('os').path.exists('{home}/stop') else {BROKEN}"
    assert search(base, persons, home, commits, stopping).code == 0
    before = tried(home)
    (home / "tried").unlink()
    again = search(base, persons, home, commits, stopping)
    assert again.code == 0
    assert not (home / "tried").exists()
    assert commits[FIRST_BAD].sha in again.text
    (home / "stop").touch()
    stopped = search(base, persons, home, commits, stopping, "--restart")
    assert stopped.code == 1
    assert "status 200, which aborts the search" in stopped.text
    assert tried(home) == before[:1]


def test_wrong_ends_are_refused(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    home = tmp_path / "home"
    ran = search(base, persons, home, commits, "0")
    assert ran.code == 1
    assert "named bad, is good" in ran.text
    ran = search(base, persons, home, commits, "0", good=commits[9].sha, bad=commits[0].sha)
    assert "is not older than the bad one" in ran.text
    ran = search(base, persons, home, commits, "0", good=commits[FAILED].sha)
    assert "has no wheels" in ran.text
    assert "nvrtc was out of memory" in ran.text
    ran = search(base, persons, home, commits, "0", good="0" * 12)
    assert "older ones need all 40 digits" in ran.text
    ran = search(base, persons, home, commits, "0", program=("no-such-program",))
    assert "program 'no-such-program' was not found" in ran.text


@pytest.mark.parametrize("answer", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_a_broken_download_ends_the_search(answer: bytes, tmp_path: Path) -> None:
    """It must never be taken for a commit without wheels."""
    with answering(answer) as base:
        for get in (bisect.listed, lambda base: bisect.get_json(base, "state/commits.json")):
            with pytest.raises(bisect.BisectError, match=f"{base}/state/.* cannot be read: "):
                get(base)
        unit, file = {"commit": "0" * 40}, {"name": "vllm.whl", "sha256": "0" * 64}
        with pytest.raises(bisect.BisectError, match=f"{base}/{'0' * 40}/vllm.whl"):
            bisect.fetch(base, unit, file, tmp_path)


def test_what_could_not_be_tried_is_tried_again(
    base: str, bucket: FolderStore, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    """A skip by the command is a verdict; an installation may succeed next time."""
    home = tmp_path / "home"
    ran = search(base, persons, home, commits, BROKEN, "--with", "no-such-project", "--trust-ends")
    assert ran.code == 2, ran.text
    assert "skip: `" in ran.text
    assert not list(home.rglob("vllm-bisect/*.json"))


def test_a_vllm_on_pythonpath_is_not_tested_instead(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    other = tmp_path / "checkout" / "vllm"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    ran = search(
        base, persons, tmp_path / "home", commits, BROKEN, variables=[f"PYTHONPATH={other.parent}"]
    )
    assert ran.code == 1, ran.text
    assert f"would import {other}/__init__.py instead of the wheel" in ran.text


def test_packages_of_the_user_can_be_imported(tmp_path: Path) -> None:
    """As after `pip install --user`, with a program."""
    python = Path(sys.base_prefix, "bin", "python3")
    variables = {**os.environ, "HOME": str(tmp_path), "PYTHONUSERBASE": str(tmp_path / "user")}
    done = subprocess.run(
        [python, "-c", bisect.PACKAGES], env=variables, text=True, capture_output=True, check=True
    )
    _, packages, programs = json.loads(done.stdout)
    assert any(path.startswith(f"{tmp_path}/user/lib") for path in packages)
    assert f"{tmp_path}/user/bin" in programs


def unit(number: int, name: str, parent: str, version: str = "0.5.4") -> dict[str, Any]:
    change = {"parent": parent, "subject": name}
    return {"commit": name, "number": number, "version": version, "change": change}


def test_commits_of_another_branch_are_left_out() -> None:
    """a - b - c - d(no wheels) - e, and y and z on c's branch from b."""
    a, b, c = unit(1, "a", ""), unit(2, "b", "a"), unit(3, "c", "b")
    y, z, e = unit(3, "y", "b"), unit(4, "z", "y"), unit(5, "e", "d")
    with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as base:

        def names(good: dict[str, Any], bad: dict[str, Any]) -> str:
            found = bisect.between(base, [a, b, y, c, z, e], good, bad)
            return "".join(unit["commit"] for unit in found)

        assert names(a, z) == "abyz"
        assert names(a, c) == "abc"
        assert names(c, e) == "ce"
        for good, bad in ((c, z), (z, e)):
            with pytest.raises(bisect.BisectError, match="is not in the history of the bad commit"):
                names(good, bad)


def test_a_commit_whose_wheels_were_removed_is_skipped(
    base: str, bucket: FolderStore, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    wheels = sorted((bucket.root / commits[4].sha).glob("*.dev*.whl"))
    hidden = [wheel.rename(wheel.with_suffix(".hidden")) for wheel in wheels]
    ran = search(base, persons, tmp_path / "home", commits, BROKEN, "--trust-ends")
    for wheel in hidden:
        wheel.rename(wheel.with_suffix(".whl"))
    assert ran.code == 0, ran.text
    assert "skip: its wheel is gone" in ran.text
    assert commits[FIRST_BAD].sha in ran.text.partition("The first bad commit:")[2]


def test_without_uv_it_makes_environments_by_venv_and_pip(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = home / "bisect.py"
    published = run([sys.executable, "-c", FETCH, f"{base}/{commits[9].sha}/bisect.py"], home)
    script.write_text(published.text)
    environment = [f"VIRTUAL_ENV={persons}", f"PATH={persons / 'bin'}:/usr/bin:/bin"]
    command = ["env", *environment, sys.executable, str(script), "--good", commits[6].sha[:9]]
    ran = run([*command, "--json", "--", "probe", str(home / "tried"), BROKEN], home, cwd=home)
    assert ran.code == 0, ran.text
    result = json.loads(ran.text[ran.text.index("\n{") :])
    assert [unit["commit"] for unit in result["candidates"]] == [commits[FIRST_BAD].sha]
    assert tried(home) == [6, 9, 7]


FETCH = """
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())
"""


def test_python_m_ci_bisect_is_the_same(
    base: str, persons: Path, tmp_path: Path, commits: list[Commit]
) -> None:
    command = [sys.executable, "-m", "ci", "bisect", "--base", base, "--variant", "cu118"]
    ends = ["--good", commits[6].sha, "--bad", commits[9].sha, "--python", f"{persons}/bin/python"]
    last = ["--", "python", "-m", "probe", str(tmp_path / "tried"), BROKEN]
    ran = run([*command, *ends, *last], tmp_path, cwd=Path(__file__).parents[3])
    assert ran.code == 0, ran.text
    assert commits[FIRST_BAD].sha in ran.text.partition("The first bad commit:")[2]
    unknown = run([*command, "--good", "0" * 40, *ends[2:], *last], tmp_path)
    assert unknown.code != 0


def test_parents_extend_the_search_beyond_the_list(
    tmp_path: Path, factory: Factory, commits: list[Commit]
) -> None:
    few = FolderStore(tmp_path / "bucket", durable=False)
    matrix = dataclasses.replace(factory.matrix, nightlies=3)
    for commit in commits[:FAILED]:
        publish(few, factory.wheels(commit), commit, matrix)
    with running(few) as base:
        units = bisect.listed(base)
        assert [unit["number"] for unit in units] == [2, 3, 4]
        good = bisect.find(base, units, commits[0].sha)
        found = bisect.between(base, units, good, units[-1])
    assert [unit["commit"] for unit in found] == [commit.sha for commit in commits[:FAILED]]
    assert reindex(few, matrix, lambda step: None).written == ()


def test_the_wheel_of_this_machine_and_variant_is_chosen(
    factory: Factory, commits: list[Commit], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        {"version": wheel.version, "variant": wheel.build.variant, "tags": list(wheel.tags)}
        for wheel in factory.wheels(commits[1])
    ]
    chosen = bisect.wheel_of({"files": files}, None)
    assert (chosen["variant"], ".dev1+" in chosen["version"]) == ("cu121", True)
    assert bisect.wheel_of({"files": files}, "cu118")["variant"] == "cu118"
    with pytest.raises(bisect.CannotTry, match="cu999"):
        bisect.wheel_of({"files": files}, "cu999")
    monkeypatch.setattr(bisect.platform, "machine", lambda: "riscv64")
    with pytest.raises(bisect.CannotTry, match="riscv64"):
        bisect.wheel_of({"files": files}, None)


def test_the_published_script_names_its_commit_and_address(
    base: str, bucket: FolderStore, commits: list[Commit]
) -> None:
    stored = bucket.get(f"{commits[2].sha}/bisect.py").body.decode()
    assert f'COMMIT = "{commits[2].sha}"' in stored
    parser = argparse.ArgumentParser()
    bisect.configure(parser)
    assert parser.get_default("base") == bisect.BASE
    served = run([sys.executable, "-c", FETCH, f"{base}/{commits[2].sha}/bisect.py"], Path.cwd())
    assert served.text == stored.replace(f'BASE = "{bisect.BASE}"', f'BASE = "{base}"')
