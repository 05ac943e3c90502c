"""Small models, written to disk once per session. No torch until a test asks for one."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """tiny(family) -> tests.models.support.TinyModel."""
    from tests.models.support import write_model

    made = {}

    def get(family):
        if family not in made:
            made[family] = write_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory):
    """A Qwen3 with a tokenizer, a chat template and advice on sampling: all that the CLI needs."""
    from tests.models.support import write_model, write_tokenizer

    model = write_model(tmp_path_factory.mktemp("chat"), "qwen3", seed=4)
    write_tokenizer(model.folder)
    return model
