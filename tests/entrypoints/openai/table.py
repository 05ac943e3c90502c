"""The table of parameters in docs/serving.md, from the models of requests.

python -m tests.entrypoints.openai.table     writes it
"""

from __future__ import annotations

from pathlib import Path

from tests.marked_part import MarkedPart
from vllm.entrypoints.anthropic.protocol import MessagesRequest
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.completions import CompletionRequest
from vllm.entrypoints.openai.protocol.responses import ResponsesRequest
from vllm.entrypoints.openai.protocol.tokens import DetokenizeRequest, TokenizeRequest

TABLE = MarkedPart(
    Path(__file__).parents[3] / "docs/serving.md",
    "<!-- parameters -->\n",
    "<!-- end of parameters -->\n",
)
ENDPOINTS = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}


def render():
    """The table, and below it what is refused."""
    names = {name: None for model in ENDPOINTS.values() for name in sorted(model.model_fields)}
    lines = ["| parameter | " + " | ".join(f"`{path}`" for path in ENDPOINTS) + " | |"]
    lines.append("| --- |" + " --- |" * (len(ENDPOINTS) + 1))
    for name in sorted(names):
        marks = ["✓" if name in model.model_fields else "" for model in ENDPOINTS.values()]
        notes = {
            model.model_fields[name].description
            for model in ENDPOINTS.values()
            if name in model.model_fields
        } - {None}
        note = "; ".join(sorted(notes))
        lines.append(f"| `{name}` | {' | '.join(marks)} | {note} |")
    lines += ["", "| refused | where | why |", "| --- | --- | --- |"]
    refused = {}
    for path, model in ENDPOINTS.items():
        for name, refusal in model.REFUSED.items():
            refused.setdefault((name, refusal.reason), []).append(f"`{path}`")
    for (name, reason), paths in sorted(refused.items()):
        lines.append(f"| `{name}` | {', '.join(paths)} | {reason} |")
    ignored = sorted({name for model in ENDPOINTS.values() for name in model.WITHOUT_EFFECT})
    lines += ["", "Accepted, without effect: " + ", ".join(f"`{name}`" for name in ignored) + "."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write(render())
