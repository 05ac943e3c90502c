"""Model folders with random weights in known shapes, and a tokenizer that fits them.

The weights are random, so generated texts mean nothing; sizes are those of real models. Tokens are
bytes and random strings of letters, about as long as those of real vocabularies.
"""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

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
    "0.6B": {
        **_QWEN3,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "8B": {
        **_QWEN3,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
}


def write_model(shape: str, folder: Path) -> None:
    """Writes config.json, weights and tokenizer of one of SHAPES."""
    config = SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    dtype = getattr(torch, config["dtype"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    where: Dict[str, str] = {}
    for part, sizes in enumerate(_parts(config)):
        name = f"model-{part}.safetensors"
        tensors = {
            key: torch.ones(size, dtype=dtype)
            if len(size) == 1
            else torch.empty(size, dtype=dtype, device=device).normal_(0, 0.02).cpu()
            for key, size in sizes.items()
        }
        save_file(tensors, folder / name, metadata={"format": "pt"})
        where.update(dict.fromkeys(tensors, name))
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_tokenizer(config["vocab_size"], folder)


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
