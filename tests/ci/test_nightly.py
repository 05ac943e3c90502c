"""The main job's refusals, typed as a person would; `make test` runs the job itself for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci import git, matrix, nightly, trial
from ci.errors import CiError
from ci.git import Commit
from ci.index.records import State
from ci.publish import publish
from ci.publish.status import of_bucket
from ci.store import FolderStore
from tests.ci.support import repository
from tests.ci.support.wheels import Factory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit and nothing to build."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    repository.run(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("wheelhouse\n", encoding="utf-8")
    repository.run(folder, "add", ".gitignore")
    repository.commit(folder, "first")
    return folder


def run_nightly(
    folder: Path, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ci", "nightly", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_refuses_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    done = run_nightly(tmp_path, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert done.returncode == 1
    assert "is not a git checkout" in done.stderr
    assert "git clone" in done.stderr


def test_refuses_a_dirty_tree_and_names_what_is_dirty(checkout: Path) -> None:
    (checkout / "stray.txt").write_text("x", encoding="utf-8")
    done = run_nightly(checkout)
    assert done.returncode == 1
    assert "stray.txt" in done.stderr
    assert "--allow-dirty" in done.stderr
    assert not (checkout / "wheelhouse").exists()


def test_refuses_an_unknown_variant(checkout: Path) -> None:
    done = run_nightly(checkout, "--also", "cu128", "--also", "cu999")
    assert done.returncode == 1
    assert "unknown variant 'cu999'" in done.stderr
    assert "use one of: cu118, cu121, cu128, cu129, cu130" in done.stderr
    assert not (checkout / "wheelhouse").exists()


def test_refuses_other_variants_than_a_published_commit_has_before_it_builds(
    checkout: Path, factory: Factory
) -> None:
    commit = git.read(checkout)
    store = FolderStore(checkout / "wheelhouse" / "bucket", durable=False)
    publish(store, factory.wheels(commit), commit, factory.matrix)
    done = run_nightly(checkout, "--also", "cu128")
    assert done.returncode == 1
    assert "was published with cu118, cu121, not cu118, cu121, cu128" in done.stderr
    assert "compil" not in done.stdout
    assert not (checkout / "build").exists()
    assert states(store) == {commit.sha: State.COMPLETE}


def test_finds_out_that_a_bucket_is_missing_before_it_builds(checkout: Path) -> None:
    """A port that nobody listens at: as for a wrong AWS_ENDPOINT_URL."""
    secret = "do-not-show-this"
    done = run_nightly(
        checkout,
        "--bucket",
        "s3://nowhere",
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="AKIATESTS",
        AWS_SECRET_ACCESS_KEY=secret,
        AWS_DEFAULT_REGION="us-west-2",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
    )
    assert done.returncode == 1
    assert "AWS_ENDPOINT_URL" in done.stderr
    assert secret not in done.stdout + done.stderr
    assert "compil" not in done.stdout
    assert not (checkout / "build").exists()


def test_says_in_the_bucket_why_a_commit_has_no_wheels(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    commit = Commit("0123456789" * 4, 7, 1_780_000_000, dirty=False)
    with nightly.announced(store, commit):
        assert states(store) == {commit.sha: State.PENDING}
    with pytest.raises(CiError), nightly.announced(store, commit):
        raise CiError("the compiler is out of sorts")
    assert states(store) == {commit.sha: State.FAILED}
    status = json.loads((tmp_path / "bucket" / commit.sha / "status.json").read_text("utf-8"))
    assert status["reason"] == "the compiler is out of sorts"


def test_a_dirty_tree_announces_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    commit = Commit("0123456789" * 4, 7, 1_780_000_000, dirty=True)
    with pytest.raises(CiError), nightly.announced(store, commit):
        raise CiError("not published anyway")
    assert states(store) == {}


def states(store: FolderStore) -> "dict[str, State]":
    return {status.unit: status.state for status in of_bucket(store, matrix.load()).recent}


def test_a_machine_without_any_python_fails() -> None:
    first = trial.Trial("3.8", None, None, False)  # type: ignore[arg-type]  # no offer is looked at
    untried = trial.Outcome(first, trial.Status.NOT_TESTED, "no python3.8 on this machine")
    with pytest.raises(trial.TrialError, match="no wheel was installed") as caught:
        nightly.check_tried([untried, untried])
    assert "for trials: 3.8" in str(caught.value)
    nightly.check_tried([untried, trial.Outcome(first, trial.Status.PASSED, "")])
