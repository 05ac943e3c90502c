"""Trials with real interpreters, real pip and a real server; the wheels are small."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ci import serve
from ci.matrix import Matrix
from ci.publish import publish
from ci.store import FolderStore
from ci.trial import Offer, Outcome, Status, Trial, offers, run
from tests.ci.support.wheels import Factory


@pytest.fixture
def offer(factory: Factory, the_matrix: Matrix, tmp_path: Path) -> Iterator[Offer]:
    """A published wheel that installs, and has no ops."""
    commit = factory.commit(1, "trial")
    wheels = factory.wheels(commit)
    store = FolderStore(tmp_path / "bucket", durable=False)
    publish(store, wheels, commit, factory.matrix)
    with serve.running(store) as base:
        yield offers(factory.matrix, base, commit.sha, wheels)[0]


def attempt(offer: Offer, matrix: Matrix) -> Outcome:
    trial = Trial("3.11", Path(sys.executable), offer, with_dependencies=False)
    told: list[Outcome] = []
    outcomes = run([trial], matrix, told.append)
    assert told == list(outcomes)
    return outcomes[0]


def test_an_interpreter_that_is_not_there_is_listed(offer: Offer, the_matrix: Matrix) -> None:
    trial = Trial("3.99", None, offer, with_dependencies=False)
    (outcome,) = run([trial], the_matrix, lambda outcome: None)
    assert outcome.status is Status.NOT_TESTED
    assert outcome.detail == "no python3.99 on this machine"


def test_a_wheel_without_its_ops_fails_the_check(offer: Offer, the_matrix: Matrix) -> None:
    """Version, commit and origin were right, or it would not have come this far."""
    outcome = attempt(offer, the_matrix)
    assert outcome.status is Status.FAILED
    assert "in check_ops" in outcome.detail
    assert "cannot import name 'ops'" in outcome.detail


def test_a_strange_environment_changes_nothing(
    offer: Offer, the_matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes as far as without: to the check of the ops, which this wheel has not.

    (A proxy would be asked for NumPy, and rightly; tests/ci/test_environment.py has one.)
    """
    for name in ("PIP_USER", "PIP_REQUIRE_VIRTUALENV", "UV_SYSTEM_PYTHON", "PIP_NO_BINARY"):
        monkeypatch.setenv(name, "1")
    outcome = attempt(offer, the_matrix)
    assert "cannot import name 'ops'" in outcome.detail


def test_a_url_that_is_not_there_fails_in_the_words_of_pip(
    offer: Offer, the_matrix: Matrix
) -> None:
    outcome = attempt(replace(offer, url=offer.url.replace("0.5.4", "0.5.9")), the_matrix)
    assert outcome.status is Status.FAILED
    assert "404" in outcome.detail


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"commit": "0" * 40}, "vllm.__commit__: expected '000"),
        ({"version": "0.5.5"}, "vllm.__version__: expected '0.5.5', found '0.5.4'"),
        ({"sha256": "0" * 64}, "direct_url.json: hash: expected 'sha256=000"),
    ],
)
def test_an_installation_that_is_not_what_was_published_fails(
    offer: Offer, the_matrix: Matrix, change: dict[str, str], complaint: str
) -> None:
    if "commit" in change:
        offer = replace(offer, commit=change["commit"])
    else:
        offer = replace(offer, wheel=replace(offer.wheel, **change))
    outcome = attempt(offer, the_matrix)
    assert outcome.status is Status.FAILED
    assert complaint in outcome.detail
