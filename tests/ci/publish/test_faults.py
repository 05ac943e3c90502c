"""Every storage call of a publication fails in every way, and repeating the command recovers.

The other commands crash, before and after their calls in turn.

A reader checks every state: no link may lead to a missing or a different file. On a folder these
are all faults; on S3 a third of one per role, with every kind among them (`python -m
benchmarks.publish_faults` runs all of them there too, in half an hour).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ci.publish import publish
from ci.publish.care import promote, yank
from ci.publish.prune import plan, prune
from ci.publish.signed import Signer
from ci.publish.site import publish_site
from ci.store import Store
from tests.ci.conftest import client_of
from tests.ci.support.experiment import (
    ABSORBED,
    STOPPED,
    Experiment,
    prepare,
    prepare_command,
    role,
)
from tests.ci.support.faults import KINDS, MUTATING, Fault
from tests.ci.support.labs import FolderLab, S3Lab, memory_folder
from tests.ci.support.s3 import Endpoint
from tests.ci.support.wheels import Factory, clock


def test_on_a_folder_every_fault_is_healed_by_the_same_command(
    factory: Factory, tmp_path: Path
) -> None:
    with memory_folder(tmp_path) as folder:
        experiment = prepare(FolderLab(folder), factory)
        # To the publisher a folder's time-out and its I/O error are the same exception.
        faults = [fault for fault in experiment.faults() if fault.kind != "timeout"]
        outcomes = Counter(experiment.run(fault) for fault in faults)
    # A folder's errors are never retried, so whatever fails stops the publication.
    assert outcomes == {STOPPED: len(faults)}


@pytest.mark.usefixtures("impatient")
def test_on_s3_a_fault_of_each_role_is_healed_by_the_same_command(
    factory: Factory, s3_endpoint: Endpoint
) -> None:
    # One variant: two would only repeat every role, and each request costs milliseconds.
    one = replace(factory, matrix=replace(factory.matrix, cudas=(factory.matrix.default,)))
    experiment = prepare(S3Lab(s3_endpoint, client_of(s3_endpoint.url)), one)
    chosen = one_of_each_role(experiment)
    outcomes = {fault: experiment.run(fault) for fault in chosen}
    # What botocore may repeat heals in the same run; the rest needs the command again.
    for fault, outcome in outcomes.items():
        method = experiment.calls[fault.call][0]
        if fault.kind in ("crash", "403"):
            assert outcome == STOPPED, fault
        elif method not in ("get", "scan") or fault.position != "mid-body":
            assert outcome == ABSORBED, fault


def signed_publication(store: Store, factory: Factory) -> object:
    commit, signer = factory.commit(3), Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    wheels = factory.wheels(commit)
    return publish(store, wheels, commit, factory.matrix, signer=signer, clock=clock)


def release(store: Store, factory: Factory) -> object:
    commit = factory.commit(1)
    wheels = factory.release(commit)
    return publish(store, wheels, commit, factory.matrix, release=True, clock=clock)


def documentation(store: Store, factory: Factory) -> object:
    site = factory.folder / "site"
    site.mkdir(exist_ok=True)
    for name in ("index.html", "a.html", "b.html"):
        (site / name).write_text(name)
    return publish_site(store, factory.commit(2).sha, site, lambda step: None)


def pruning(store: Store, factory: Factory) -> object:
    later = datetime(2030, 1, 1, tzinfo=timezone.utc)
    decisions = plan(store, keep=0, older_than=timedelta(days=30), now=later)
    return prune(store, decisions, now=later, report=lambda step: None)


OTHERS: dict[str, Callable[[Store, Factory], object]] = {
    "signed publication": signed_publication,
    "release": release,
    "documentation": documentation,
    "yank of the nightly": lambda store, factory: yank(store, factory.commit(2).sha, "bad"),
    "promotion": lambda store, factory: promote(store, factory.commit(1).sha),
    "pruning": pruning,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_crash_of_every_other_command_is_healed_by_the_same_command(
    factory: Factory, tmp_path: Path, name: str
) -> None:
    one = factory.of_default()
    with memory_folder(tmp_path) as folder:
        lab = FolderLab(folder)
        yesterday = lab.copy(None)
        for number in (1, 2):
            commit = one.commit(number)
            publish(yesterday, one.wheels(commit), commit, one.matrix, clock=clock)
        experiment = prepare_command(lab, yesterday, lambda store: OTHERS[name](store, one))
        # Before one call and after the next: a crash before it is one after the last.
        faults = [
            Fault(number, ("before", "after")[number % 2], "crash")
            for number in range(len(experiment.calls))
        ]
        assert {experiment.run(fault) for fault in faults} == {STOPPED}


def one_of_each_role(experiment: Experiment) -> list[Fault]:
    """The first write of each role in every position, and each kind of read in every position."""
    chosen: dict[tuple[str, str], Fault] = {}
    for fault in experiment.faults():
        method, key = experiment.calls[fault.call]
        place = (role(method, key) if method in MUTATING else method, fault.position)
        if fault.kind == KINDS[len(chosen) % len(KINDS)]:
            chosen.setdefault(place, fault)
    return list(chosen.values())[::3]  # four kinds take turns, so each is still among them
