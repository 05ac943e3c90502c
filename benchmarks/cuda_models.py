"""Models with random weights in the shapes of Qwen3, in bfloat16, for measurements on a GPU."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch

_COMMON = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_act": "silu",
    "vocab_size": 151936,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}


def _shape(hidden: int, width: int, layers: int, heads: int, tied: bool) -> Dict[str, Any]:
    return {
        **_COMMON,
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "tie_word_embeddings": tied,
    }


SHAPES = {
    "0.6B": _shape(1024, 3072, 28, 16, True),
    "8B": _shape(4096, 12288, 36, 32, False),
    "14B": _shape(5120, 17408, 40, 40, False),
}
_FILES = 4  # in addition to that of the embedding


def write_model(folder: Path, name: str) -> int:
    """Writes config.json and files of weights; returns their bytes. All layers have equal
    weights: times do not depend on that, and a large model is written in seconds."""
    config = SHAPES[name]
    hidden, width, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    generator = torch.Generator("cuda").manual_seed(0)

    def random_weight(*shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=generator, device="cuda") * 0.02
        return values.bfloat16().cpu()

    ones = torch.ones(max(hidden, head)).bfloat16()
    layer = {
        "self_attn.q_proj": random_weight(query, hidden),
        "self_attn.k_proj": random_weight(kv, hidden),
        "self_attn.v_proj": random_weight(kv, hidden),
        "self_attn.o_proj": random_weight(hidden, query),
        "mlp.gate_proj": random_weight(width, hidden),
        "mlp.up_proj": random_weight(width, hidden),
        "mlp.down_proj": random_weight(hidden, width),
        "self_attn.q_norm": ones[:head],
        "self_attn.k_norm": ones[:head],
        "input_layernorm": ones[:hidden],
        "post_attention_layernorm": ones[:hidden],
    }
    first = {
        "model.embed_tokens.weight": random_weight(config["vocab_size"], hidden),
        "model.norm.weight": ones[:hidden],
    }
    if not config["tie_word_embeddings"]:
        first["lm_head.weight"] = random_weight(config["vocab_size"], hidden)
    files = [first]
    for part in range(_FILES):
        layers = range(part, config["num_hidden_layers"], _FILES)
        files.append(
            {f"model.layers.{n}.{k}.weight": each for n in layers for k, each in layer.items()}
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"model-{index}.safetensors" for index in range(len(files))]
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(_write_file, paths, files))
    weight_map = {key: path.name for path, each in zip(paths, files) for key in each}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))
    return sum(path.stat().st_size for path in paths)


def _write_file(path: Path, tensors: Dict[str, torch.Tensor]) -> None:
    """Writes a safetensors file; safetensors' own function rejects tensors that share memory."""
    header: Dict[str, Any] = {}
    parts: List[memoryview] = []
    end = 0
    for name, tensor in tensors.items():
        place: Tuple[int, int] = (end, end + tensor.nbytes)
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": place}
        parts.append(memoryview(tensor.contiguous().view(torch.int16).numpy()).cast("B"))
        end = place[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for part in parts:
            file.write(part)
