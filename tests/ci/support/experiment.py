"""One experiment: break one call of today's publication, look on, then publish again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ci.publish import publish
from ci.store import Store, StoreError
from tests.ci.support.faults import KINDS, POSITIONS, WITH_BODY, Crash, Fault, Probe, Reader
from tests.ci.support.labs import Lab
from tests.ci.support.wheels import Factory, clock

ABSORBED = "went through"
STOPPED = "stopped; the same command again went through"


@dataclass(frozen=True)
class Experiment:
    """A bucket that holds yesterday's commit, and what it is to be once today's is published."""

    lab: Lab
    yesterday: Store
    publish: Callable[[Store], object]
    expected: dict[str, bytes]  # every object afterwards
    calls: tuple[tuple[str, str], ...]  # (method, key) of a publication where nothing fails

    def faults(self) -> Iterator[Fault]:
        """Every call × every position × every kind."""
        for number, (method, _) in enumerate(self.calls):
            for position in POSITIONS:
                if position != "mid-body" or method in WITH_BODY:
                    yield from (Fault(number, position, kind) for kind in KINDS)

    def run(self, fault: Fault) -> str:
        """What became of it; AssertionError if a reader saw a bad link or it did not converge."""
        store = self.lab.copy(self.yesterday)
        probe = Probe(store, self.lab.breaker, Reader(self.lab.peek(store)), fault)
        outcome = ABSORBED
        try:
            self.publish(probe)
        except (StoreError, Crash):
            outcome = STOPPED
        self.publish(Probe(store, self.lab.breaker, probe.reader))
        found = self.lab.dump(store)
        differing = [
            key for key in found.keys() | self.expected if found.get(key) != self.expected.get(key)
        ]
        assert not differing, f"{fault}: {differing}"
        self.lab.drop(store)
        return outcome


def prepare(lab: Lab, factory: Factory) -> Experiment:
    first, second = factory.commit(1), factory.commit(2)
    wheels = factory.wheels(second)

    def publish_today(store: Store) -> object:
        return publish(store, wheels, second, factory.matrix, clock=clock)

    yesterday = lab.copy(None)
    publish(yesterday, factory.wheels(first), first, factory.matrix, clock=clock)
    return prepare_command(lab, yesterday, publish_today)


def prepare_command(lab: Lab, yesterday: Store, command: Callable[[Store], object]) -> Experiment:
    """An experiment with any command on a bucket."""
    ideal = lab.copy(yesterday)
    probe = Probe(ideal, lab.breaker, Reader(lab.peek(ideal)))
    command(probe)
    return Experiment(lab, yesterday, command, lab.dump(ideal), tuple(probe.calls))


def role(method: str, key: str) -> str:
    """What a call is for: the same for every commit, variant, version and address of a thing."""
    key = re.sub(r"buildid/[0-9a-f]{40}", "buildid/BUILD_ID", key)
    key = re.sub(r"[0-9a-f]{40}", "COMMIT", key)
    key = re.sub(r"vllm-[^/]*\.whl", "WHEEL", key)
    key = re.sub(r"pylock\.[^/]*\.toml", "LOCK", key)
    key = re.sub(r"cu\d+", "VARIANT", key)
    return f"{method} {re.sub(r'/$', '/index.html', key)}"
