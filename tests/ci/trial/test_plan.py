"""Which trials there are of a commit."""

from dataclasses import replace
from pathlib import Path

from ci.matrix import Matrix
from ci.trial import offers, trials
from tests.ci.support.wheels import Factory

BASE = "https://wheels.example"


def test_offers_every_documented_url_once(factory: Factory) -> None:
    commit = factory.commit(1)
    offered = offers(factory.matrix, BASE, commit.sha, factory.wheels(commit))
    tail = "-cp38-abi3-manylinux1_x86_64.whl"
    assert [offer.url for offer in offered] == [
        f"{BASE}/nightly/vllm-0.5.4{tail}",
        f"{BASE}/{commit.sha}/vllm-0.5.4{tail}",
        f"{BASE}/nightly/vllm-0.5.4+cu118{tail}",
        f"{BASE}/{commit.sha}/vllm-0.5.4+cu118{tail}",
    ]
    assert [offer.wheel.version for offer in offered] == ["0.5.4", "0.5.4"] + 2 * ["0.5.4+cu118"]


def test_a_variant_on_request_has_no_alias(factory: Factory, the_matrix: Matrix) -> None:
    asked = replace(factory, matrix=the_matrix.of_commit(["cu130"]))
    commit = asked.commit(1)
    offered = offers(asked.matrix, BASE, commit.sha, asked.wheels(commit))
    assert [offer.title for offer in offered if "cu130" in offer.title] == ["commit cu130"]
    assert len(offered) == 5


def test_tries_every_interpreter_with_every_url(factory: Factory, the_matrix: Matrix) -> None:
    commit = factory.commit(1)
    offered = offers(factory.matrix, BASE, commit.sha, factory.wheels(commit))
    interpreters = {python: Path(f"/opt/{python}") for python in the_matrix.trial_pythons}
    planned = trials(the_matrix, interpreters, offered)
    assert len(planned) == len(the_matrix.trial_pythons) * len(offered)
    assert {(trial.python, trial.interpreter) for trial in planned} == set(interpreters.items())


def test_only_one_interpreter_has_torch_and_only_where_its_range_allows(
    factory: Factory, the_matrix: Matrix
) -> None:
    """Elsewhere torch would be gigabytes; and `+cu118` takes none as new as the trial's."""
    commit = factory.commit(1)
    offered = offers(factory.matrix, BASE, commit.sha, factory.wheels(commit))
    planned = trials(the_matrix, dict.fromkeys(the_matrix.trial_pythons), offered)
    with_torch = [(trial.python, trial.offer.title) for trial in planned if trial.with_dependencies]
    assert with_torch == [("3.11", "nightly cu121"), ("3.11", "commit cu121")]
