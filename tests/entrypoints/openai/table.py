"""The table of parameters in docs/serving.md, from the models of requests.

python -m tests.entrypoints.openai.table     writes it
"""

from __future__ import annotations

from pathlib import Path

from tests.entrypoints.openai.parameters import CLIENTS, ENDPOINTS, LETTERS
from tests.marked_part import MarkedPart

TABLE = MarkedPart(
    Path(__file__).parents[3] / "docs/serving.md",
    "<!-- parameters -->\n",
    "<!-- end of parameters -->\n",
)


def render():
    """The table, and below it what is refused."""
    names = {name: None for model in ENDPOINTS.values() for name in sorted(model.model_fields)}
    lines = ["| parameter | " + " | ".join(f"`{path}`" for path in ENDPOINTS) + " | |"]
    lines.append("| --- |" + " --- |" * (len(ENDPOINTS) + 1))
    for name in sorted(names):
        marks = [
            " ".join(CLIENTS[path]) if name in model.model_fields else ""
            for path, model in ENDPOINTS.items()
        ]
        notes = {
            model.model_fields[name].description
            for model in ENDPOINTS.values()
            if name in model.model_fields
        } - {None}
        note = "; ".join(sorted(notes))
        lines.append(f"| `{name}` | {' | '.join(marks)} | {note} |")
    clients = ", ".join(f"{letter} {name}" for letter, name in LETTERS.items())
    lines += ["", f"The letters are the clients that send the parameter in the tests: {clients}."]
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
