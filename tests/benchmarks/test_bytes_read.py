"""What each rank reads of a checkpoint, as recorded, is its share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks import bytes_read, random_model

RECORD = json.loads(Path(bytes_read.__file__).with_suffix(".json").read_text())


def share(config, whole, num_ranks, size):
    """What a rank reads of `whole` bytes: all norms, its heads, and a part of everything else.

    size: bytes of an element.
    """
    hidden, head, heads = (
        config[name] for name in ("hidden_size", "head_dim", "num_key_value_heads")
    )
    layers = config["num_hidden_layers"]
    norms = size * (layers * (2 * hidden + 2 * head) + hidden)
    keys_and_values = size * layers * 2 * heads * head * hidden
    divided = whole - norms - keys_and_values
    return norms + keys_and_values // min(num_ranks, heads) + divided // num_ranks


@pytest.mark.parametrize("num_ranks", RECORD["bytes_by_rank"])
def test_the_recorded_bytes_are_shares(num_ranks):
    (whole,), counts = RECORD["bytes_by_rank"]["1"], RECORD["bytes_by_rank"][num_ranks]
    config = random_model.SHAPES[RECORD["shape"]]
    assert counts == [share(config, whole, int(num_ranks), 2)] * int(num_ranks)
    assert 0 < RECORD["file_bytes"] - whole < 100_000  # headers


def test_they_are_counted(tmp_path, monkeypatch):
    config = {**random_model.SHAPES["small"], "num_hidden_layers": 1}
    monkeypatch.setitem(random_model.SHAPES, "one layer", config)
    random_model.write_model("one layer", tmp_path)
    (whole,) = bytes_read.bytes_by_rank(tmp_path, 1)
    for num_ranks in (2, 8):
        expected = share(config, whole, num_ranks, 4)
        assert bytes_read.bytes_by_rank(tmp_path, num_ranks) == [expected] * num_ranks
