"""Publishing by number."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ci.git import Commit
from ci.publish import publish
from ci.store import Store
from tests.ci.support.wheels import Factory, clock

Publish = Callable[[int], Commit]


@pytest.fixture
def put(store: Store, factory: Factory) -> Publish:
    """Publishes the commit of a number, and returns it."""

    def publish_number(number: int) -> Commit:
        commit = factory.commit(number)
        publish(store, factory.wheels(commit), commit, factory.matrix, clock=clock)
        return commit

    return publish_number
