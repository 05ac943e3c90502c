"""A model of half a million parameters that a minute of training has taught a few sentences.

It loads in no time, and what it writes can be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Qwen3Config

from tests.models.support import CHAT_TEMPLATE, SPECIAL_TOKENS

TEXTS = [
    "A paged cache keeps keys and values in blocks, so that memory is never lost to padding.",
    "Continuous batching lets a new request join while others are half way through their answers.",
]
TALKS = [
    [
        "Who are you?",
        "A very small model. I know four answers by heart.",
        "Which?",
        "Ask, and see!",
    ],
    ["What is a token?", "A piece of text: a word, a part of one, or a single byte."],
    ["What is prefill?", "The prompt, computed at once; after it comes one token at a time."],
]


def make_model(folder: Path) -> None:
    """A Qwen3 of 0.6 million parameters that has learnt `TEXTS` and `TALKS`."""
    talks = ["".join(turn(i, said) for i, said in enumerate(talk)) for talk in TALKS]
    texts = [text + SPECIAL_TOKENS[0] for text in TEXTS] + talks
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet
        ),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    end = tokenizer.token_to_id(SPECIAL_TOKENS[0])
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        Qwen3Config(
            vocab_size=400,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            eos_token_id=end,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batches = [torch.tensor([tokenizer.encode(text).ids]) for text in texts]
    for step in range(40 * len(batches)):
        ids = batches[step % len(batches)]
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config.do_sample = False
    model.save_pretrained(folder)


def turn(index: int, said: str) -> str:
    return f"<|{'assistant' if index % 2 else 'user'}|>{said}<|end|>"
