"""Small models with random weights, written to disk the way the hub has them."""

from __future__ import annotations

import functools
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

with warnings.catch_warnings():  # what other people's modules deprecate in each other
    warnings.simplefilter("ignore")
    from transformers import (
        AutoModelForCausalLM,
        LlamaConfig,
        MistralConfig,
        PreTrainedModel,
        Qwen2Config,
        Qwen3Config,
    )
    from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

# At this size, handing work to threads costs many times the work, the more so on a busy machine.
torch.set_num_threads(1)
for _name in ("OMP_NUM_THREADS", "VLLM_CPU_THREADS"):  # of processes that tests start
    os.environ.setdefault(_name, "1")

VOCAB_SIZE = 320
MAX_LEN = 160

# Weights large enough that logits differ by much more than float32's rounding.
_COMMON: Dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_LEN,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": None,
}

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 40,
}
_YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 40,
}

# Each family as it is known, and the corners of its config that change the computation.
FAMILIES: Dict[str, Callable[[], Any]] = {
    "llama2": lambda: LlamaConfig(**{**_COMMON, "num_key_value_heads": 4}),
    "llama3": lambda: LlamaConfig(
        **_COMMON, rope_parameters=_LLAMA3_ROPE, tie_word_embeddings=True
    ),
    "llama-linear-biased": lambda: LlamaConfig(
        **_COMMON,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
        attention_bias=True,
        mlp_bias=True,
    ),
    "mistral": lambda: MistralConfig(**_COMMON, sliding_window=11),
    "mistral-full": lambda: MistralConfig(**_COMMON, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**_COMMON),
    "qwen2-window": lambda: Qwen2Config(
        **_COMMON, use_sliding_window=True, sliding_window=9, max_window_layers=1
    ),
    "qwen3": lambda: Qwen3Config(**_COMMON, head_dim=24, tie_word_embeddings=True),
    "qwen3-yarn": lambda: Qwen3Config(**_COMMON, head_dim=16, rope_parameters=_YARN_ROPE),
}


@dataclass(frozen=True)
class TinyModel:
    """A model folder, and the same model in transformers, in float32."""

    folder: Path
    reference: PreTrainedModel

    @torch.inference_mode()
    def greedy(self, prompt: List[int], num_tokens: int, **kwargs: Any) -> List[int]:
        """What transformers' generate continues the prompt with."""
        output = self.reference.generate(
            torch.tensor([prompt]), max_new_tokens=num_tokens, do_sample=False, **kwargs
        )
        return output[0, len(prompt) :].tolist()

    @torch.inference_mode()
    def logprobs(self, token_ids: List[int]) -> torch.Tensor:
        """float32 [tokens, vocab], of the token after each one."""
        return self.reference(torch.tensor([token_ids])).logits[0].float().log_softmax(-1)


def change_config(folder: Path, **changes: Any) -> None:
    """Changes fields of config.json; None removes one."""
    path = folder / "config.json"
    both = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in both.items() if v is not None}))


def write_model(folder: Path, family: str, *, seed: int = 0, **save: Any) -> TinyModel:
    """Writes a family's model with `save_pretrained`, whose arguments `save` are."""
    config = FAMILIES[family]()
    with torch.random.fork_rng(devices=[]):  # it is made on the CPU
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for name, parameter in model.named_parameters():
            # Biases and norms start as zeros and ones, which would hide that they are not loaded.
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    model.save_pretrained(folder, **save)
    return TinyModel(folder, model)


def prompts_of(lengths: List[int], seed: int = 1) -> List[List[int]]:
    """Random prompts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCAB_SIZE, (n,), generator=generator).tolist() for n in lengths]


CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<s>"]


@functools.cache
def byte_level_tokenizer() -> Tokenizer:
    """Like those of Llama 3 and Qwen: bytes, some merges, and <s> before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat and the dog sat on the mat"] * 8, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """Writes a byte-level tokenizer of VOCAB_SIZE tokens or fewer, with a chat template."""
    byte_level_tokenizer().save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "<|end|>"}}
    config["chat_template"] = CHAT_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
