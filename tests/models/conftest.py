"""Models of every family, written once per session."""

from __future__ import annotations

import pytest

from tests.models.support import write_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """tiny(family) -> TinyModel."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = write_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get
