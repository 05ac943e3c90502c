"""Types `vllm generate` and `vllm chat` into a terminal, and writes docs/terminal.md from it.

    python -m tests.record_terminal

The model is made here too: two layers that a minute of training has taught a few sentences, so that
what is to be seen can be read.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Any, List, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Qwen3Config

from tests.models.support import CHAT_TEMPLATE, SPECIAL_TOKENS

DOCUMENT = Path(__file__).parents[1] / "docs/terminal.md"
VLLM = str(Path(sys.executable).with_name("vllm"))

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


def record(folder: Path, shown: str, command: Sequence[str], typed: Sequence[str] = ()) -> str:
    """What a terminal shows of a command; each line is typed when the prompt asks for it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [VLLM, *command],
        cwd=folder.parent,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "VLLM_CPU_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    waiting: List[str] = list(typed)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed: the command has ended
            break
        if seen.endswith(b"> ") and waiting:
            os.write(ours, waiting.pop(0).encode())
    os.close(ours)
    process.wait()
    lines = seen.decode().replace("\r\n", "\n").split("\n")
    # What a carriage return overwrites, as a progress bar does, is not to be seen in the end.
    text = "\n".join(line.rpartition("\r")[2] for line in lines)
    return f"```console\n$ {shown}\n{text}```\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "tiny"
        folder.mkdir()
        make_model(folder)
        small = ["--num-kv-blocks", "64"]
        parts = [HEAD]
        first = ["generate", "tiny", "--prompt", "A paged cache", *small]
        parts.append(record(folder, "vllm generate tiny --prompt 'A paged cache'", first))
        several = ["--prompt", "A paged", "--prompt", "Continuous", "--max-tokens", "8"]
        parts.append(
            record(
                folder,
                "vllm generate tiny --prompt 'A paged' --prompt Continuous --max-tokens 8 --json",
                ["generate", "tiny", *several, "--json", *small],
            )
        )
        typed = ["What is a token?\n", "/reset\n", "Who are you?\n", "Which?\n", "\x04"]
        parts.append(record(folder, "vllm chat tiny", ["chat", "tiny", *small], typed))
        wrong = ["generate", "tiny", "--prompt", "x", "--top-p", "2"]
        parts.append(record(folder, "vllm generate tiny --prompt x --top-p 2", wrong))
        DOCUMENT.write_text("\n".join(parts), encoding="utf-8")


HEAD = """# In the terminal

Recorded by `python -m tests.record_terminal`, with a model of half a million parameters that a
minute of training has taught a few sentences. Text comes token by token; progress and the line in
brackets go to the standard error.
"""

if __name__ == "__main__":
    main()
