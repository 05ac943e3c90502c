"""What a call of an op costs on the host, beside an older build."""

from __future__ import annotations

from typing import Any

from benchmarks.figures.tables import load, table


def host_instructions() -> str:
    """Of calls with one row, by both ways of reading torch's tensors."""
    found = {(r["source"], r["op"]): r for r in load("host_instructions")["records"] if r["rows"]}
    ops = sorted({op for _, op in found})
    head = ("op", "instructions", "÷ before", "ns", "÷ before", "by attributes: ÷ before", "ns ÷")
    rows = []
    for op in ops:
        by_table, attributes = found["table", op], found["attributes", op]
        rows.append(
            (
                f"`{op}`" + (" (a tensor)" if "tensors" in by_table else ""),
                *_pair(by_table, "instructions"),
                *_pair(by_table, "nanoseconds"),
                f"{attributes['instructions_ratio']:.3f}",
                f"{attributes['nanoseconds_ratio']:.2f}",
            )
        )
    return table(head, rows)


def _pair(record: dict[str, Any], name: str) -> tuple[str, str]:
    after, ratio = record[name][1], record[f"{name}_ratio"]
    if "tensors" in record:
        after /= record["tensors"][1]
    return f"{after:.0f}", f"{ratio:.3f}" if name == "instructions" else f"{ratio:.2f}"
