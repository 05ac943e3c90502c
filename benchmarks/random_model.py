"""Model folders with random weights in known shapes, and a tokenizer that fits them.

The weights are random, so generated texts mean nothing; sizes are those of real models. Tokens are
bytes and random strings of letters, about as long as those of real vocabularies.
"""

from __future__ import annotations

import json
import random
import string
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

_QWEN3: Dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "rope_theta": 1000000,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 40960,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def _shape(
    hidden: int, width: int, *, layers: int, heads: int, tied: bool = False
) -> Dict[str, Any]:
    return {
        **_QWEN3,
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "tie_word_embeddings": tied,
    }


_FILES = 4  # of layers, in addition to that of the embedding
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}  # in safetensors
# All in the shapes of Qwen3, the largest one in the sizes of a Llama of 70B.
SHAPES: Dict[str, Dict[str, Any]] = {
    "small": {
        **_QWEN3,
        "vocab_size": 4096,
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "dtype": "float32",
    },
    "0.6B": _shape(1024, 3072, layers=28, heads=16, tied=True),
    "8B": _shape(4096, 12288, layers=36, heads=32),
    "14B": _shape(5120, 17408, layers=40, heads=40),
    "70B": _shape(8192, 28672, layers=80, heads=64),
}


def write_model(shape: str, folder: Path) -> None:
    """Writes config.json, weights and tokenizer of one of SHAPES."""
    config = _begin(shape, folder)
    where: Dict[str, str] = {}
    for part, sizes in enumerate(_parts(config)):
        name = f"model-{part}.safetensors"
        tensors = _draw(sizes, config)
        save_file(tensors, folder / name, metadata={"format": "pt"})
        where.update(dict.fromkeys(tensors, name))
    _write_index(folder, where)
    write_tokenizer(config["vocab_size"], folder)


def write_equal_layers(shape: str, folder: Path) -> int:
    """Writes config.json and weights, without a tokenizer; returns the bytes of the weights.

    All layers have equal weights: times do not depend on that, and a large model is written in
    seconds.
    """
    config = _begin(shape, folder)
    first, layer = (_draw(sizes, config) for sizes in islice(_parts(config), 2))
    files = [first]
    for part in range(_FILES):
        numbers = range(part, config["num_hidden_layers"], _FILES)
        files.append(
            {key.replace(".0.", f".{n}.", 1): each for n in numbers for key, each in layer.items()}
        )
    paths = [folder / f"model-{part}.safetensors" for part in range(len(files))]
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(_write_shared, paths, files))
    _write_index(folder, {key: path.name for path, each in zip(paths, files) for key in each})
    return sum(path.stat().st_size for path in paths)


def write_tokenizer(vocab_size: int, folder: Path) -> None:
    """A byte-level tokenizer; of what it has beside bytes, text never becomes a token."""
    letters = random.Random(0)
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    while len(vocab) < vocab_size:
        word = "".join(letters.choices(string.ascii_lowercase, k=letters.randint(3, 6)))
        vocab.setdefault(word if letters.random() < 0.3 else f"Ġ{word}", len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def _begin(shape: str, folder: Path) -> Dict[str, Any]:
    """Writes config.json, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[shape]))
    torch.manual_seed(0)
    return SHAPES[shape]


def _draw(sizes: Dict[str, Tuple[int, ...]], config: Dict[str, Any]) -> Dict[str, torch.Tensor]:
    """Random weights of these sizes; ones for norms. Drawn on the GPU where there is one."""
    dtype = getattr(torch, config["dtype"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        name: torch.ones(size, dtype=dtype)
        if len(size) == 1
        else torch.empty(size, dtype=dtype, device=device).normal_(0, 0.02).cpu()
        for name, size in sizes.items()
    }


def _write_index(folder: Path, weight_map: Dict[str, str]) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _parts(config: Dict[str, Any]) -> Iterator[Dict[str, Tuple[int, ...]]]:
    """Names and sizes of tensors, one file after another."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    first: Dict[str, Tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        first["lm_head.weight"] = (config["vocab_size"], hidden)
    yield first
    for index in range(config["num_hidden_layers"]):
        sizes: Dict[str, Tuple[int, ...]] = {
            "self_attn.q_proj": (q, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, q),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        yield {f"model.layers.{index}.{name}.weight": size for name, size in sizes.items()}


def _write_shared(path: Path, tensors: Dict[str, torch.Tensor]) -> None:
    """Writes a safetensors file; safetensors' own function rejects tensors that share memory."""
    header: Dict[str, Any] = {}
    parts: List[memoryview] = []
    end = 0
    for name, tensor in tensors.items():
        place: Tuple[int, int] = (end, end + tensor.nbytes)
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": place,
        }
        parts.append(memoryview(tensor.contiguous().view(torch.uint8).numpy()).cast("B"))
        end = place[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for part in parts:
            file.write(part)
