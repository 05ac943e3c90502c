"""Weights on their way to a GPU: all arrive, converted, in whatever pieces."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")

from tests.parallel.support import groups  # noqa: E402
from vllm.config import ModelConfig, ModelError  # noqa: E402
from vllm.models import upload  # noqa: E402
from vllm.models.checkpoint import SINGLE  # noqa: E402
from vllm.models.loader import checkpoint_targets, load_model  # noqa: E402


def load(folder, device="cuda", dtype=torch.float32, group=None):
    config = ModelConfig.read(folder)
    return load_model(
        folder, config, dtype=dtype, device=torch.device(device), max_model_len=32, group=group
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece_bytes", [1000, 16 << 20])
@pytest.mark.parametrize("family", ["llama-linear-biased", "qwen3"])
def test_every_tensor_arrives(tiny, family, piece_bytes, dtype, monkeypatch):
    monkeypatch.setattr(upload.divide, "__defaults__", (piece_bytes,))
    folder = tiny(family).folder
    expected = checkpoint_targets(load(folder, "cpu", dtype))
    found = checkpoint_targets(load(folder, dtype=dtype))
    assert found.keys() == expected.keys()
    for name, target in found.items():
        assert target.tensor.is_cuda
        assert torch.equal(target.tensor.cpu(), expected[name].tensor), name


def test_a_rank_gets_its_part(tiny):
    folder = tiny("qwen3").folder
    for group in groups(2):
        expected = checkpoint_targets(load(folder, "cpu", group=group))
        for name, target in checkpoint_targets(load(folder, group=group)).items():
            assert torch.equal(target.tensor.cpu(), expected[name].tensor), name


def test_an_error_ends_all_threads(tiny, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny("qwen3").folder, tmp_path / "model")
    monkeypatch.setattr(upload.divide, "__defaults__", (1000,))
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / SINGLE)
    weights["model.norm.weight"] = torch.zeros(63)
    save_file(weights, folder / SINGLE, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight has shape \(63,\)"):
        load(folder)
