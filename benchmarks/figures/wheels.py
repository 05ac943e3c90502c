"""The table of architectures, compilers and sizes."""

from __future__ import annotations

from benchmarks.figures.tables import load, table


def wheel_code() -> str:
    """What each architecture takes in each wheel, and which compiler made it."""
    record = load("wheel_sizes")
    wheels = [(v, p) for v, processors in sorted(record["bytes"].items()) for p in processors]
    code = {(v, p): record["code"][v][p] for v, p in wheels}
    archs = sorted({arch for found in code.values() for arch in found}, key=_order)
    rows = []
    for arch in archs:
        cells = (code[wheel].get(arch) for wheel in wheels)
        rows.append((f"`{arch}`", *map(_cell, cells)))
    rows.append(("the wheel", *(f"**{record['bytes'][v][p] / 1e6:.2f}**" for v, p in wheels)))
    rows.append(("its commit", *(f"`{record['commits'][v][:7]}`" for v, _ in wheels)))
    head = ("MB (by CUDA)", *(f"{v}, {'Arm' if p == 'aarch64' else 'x86'}" for v, p in wheels))
    return table(head, rows)


def _order(arch: str) -> tuple[bool, int, str]:
    kind, _, digits = arch.partition("_")
    return kind == "compute", int(digits.rstrip("af")), digits


def _cell(found: dict[str, object] | None) -> str:
    if found is None:
        return "–"
    return f"{int(str(found['bytes'])) / 1e6:.2f} ({found['compiler']})"
