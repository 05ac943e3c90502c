"""The tables of kernels on a GPU, most of them in docs/kernels.md."""

from __future__ import annotations

import re
import statistics
from typing import Any

from benchmarks.figures.tables import load, significant, table

_PEERS = ("ours", "read")  # columns of an attention row that are no peer


def attention() -> str:
    """Decode attention: every row beside its best peer."""
    record = load("cuda_attention.h200")
    bandwidth = record["ceilings"]["read_tb_s"]
    rows, ratios = [], []
    for row in record["rows"]:
        name, ratio = best_attention_peer(row)
        ratios.append(ratio)
        heads, case = row["case"].split("  ")
        times = row["us"]
        share = row["cache_bytes"] / (times["ours"] * 1e6) / bandwidth
        peer = name.replace("flashinfer ", "").replace(" tensor", ", tensor")
        rows.append(
            (
                heads,
                case.replace(" x ", " × "),
                significant(times["read"]),
                significant(times["ours"]),
                f"{significant(times[name])} ({peer})",
                f"{ratio:.2f}",
                f"{share:.0%}",
            )
        )
    head = (
        "heads",
        "batch × context",
        "read µs",
        "ours µs",
        "best peer µs",
        "peer ÷ ours",
        "of read",
    )
    ahead = sum(ratio >= 1 for ratio in ratios)
    return table(head, rows) + (
        f"\nGeometric mean {statistics.geometric_mean(ratios):.3f}, {min(ratios):.3f} to "
        f"{max(ratios):.2f}; ahead of the best peer on {ahead} of {len(ratios)} rows.\n"
    )


def memory_bound() -> str:
    """Memory-bound ops: every row beside its best peer."""
    record = load("cuda_ops.h200")
    copy = record["copy_gb_per_s"]
    rows = []
    for row in record["records"]:
        ours, peer = row["microseconds"]["vllm"], row["best_peer"]
        rows.append(
            (
                row["op"],
                row["case"].replace(" x ", " × "),
                f"{ours:.2f}",
                f"{row['bytes'] / ours / copy / 1e3:.0%}",
                f"{row['microseconds'][peer]:.2f} ({peer})",
                f"{row['ratio']:.2f}",
            )
        )
    width = "rows × width, or tokens × heads"
    return table(("op", width, "ours µs", "of copy", "best peer µs", "peer ÷ ours"), rows)


def few_rows() -> str:
    """Products of few rows, as a layer has them: each beside cuBLAS and a plain read."""
    record = load("cuda_few_rows.h200")
    products: dict[tuple[str, str], list[Any]] = {}
    for row in record["records"]:
        products.setdefault((row["model"], row["product"]), []).append(row)
    counts = [row["rows"] for row in next(iter(products.values()))]
    rows, ratios = [], []
    for (model, product), found in products.items():
        times = []
        for us in (row["us"] for row in found):
            way = "" if product == "head" else " in a layer"
            ours, cublas = us.get(f"ours{way}"), us[f"cublas{way}"]
            times.append(f"{significant(ours) if ours else '–'} ({significant(cublas)})")
            ratios += [cublas / ours] if ours else []
        shape = f"{found[0]['outputs']} × {found[0]['inputs']}"
        rows.append((model, product, shape, significant(found[0]["us"]["read"]), *times))
    head = ("model", "product", "outputs × inputs", "read µs")
    ahead = sum(ratio >= 1 for ratio in ratios)
    return table((*head, *(f"{n} rows" if n > 1 else "1 row" for n in counts)), rows) + (
        f"\nIn the geometric mean cuBLAS takes {statistics.geometric_mean(ratios):.2f} × as long, "
        f"{min(ratios):.2f} to {max(ratios):.2f}; ours is ahead on {ahead} of {len(ratios)}.\n"
    )


def _prefill_lengths(case: str) -> str:
    return re.sub(r"^(\d+)x", r"\1 × ", case).replace("+", " + ").replace("/", ", ")


def prefill() -> str:
    """Prefill attention: every row beside each peer."""
    record = load("cuda_prefill.h200")
    peers = {
        "fa3 paged": "FA3 paged",
        "fa3 contiguous": "FA3 contiguous",
        "cudnn": "cuDNN",
        "torch fa2": "torch's FA2",
        "flashinfer fa2": "FlashInfer's fa2",
        "flashinfer fa3": "FlashInfer's fa3",
    }
    peers = {peer: peers[peer] for peer in peers if any(peer in r["us"] for r in record["rows"])}
    rows = []
    for row in record["rows"]:
        heads, size, case = row["case"].split(" ")
        found = row["tflops"]
        rows.append(
            (
                f"{heads} {size}",
                _prefill_lengths(case),
                f"{found['ours']:.0f}",
                *(f"{found[peer]:.0f}" if peer in found else "–" for peer in peers),
                f"{row['us']['fa3 paged'] / row['us']['ours']:.2f}",
            )
        )
    head = ("heads", "sequences × new + before", "ours", *peers.values(), "ours ÷ FA3 paged")
    lines = []
    for peer, name in peers.items():
        ratios = [
            row["us"][peer] / row["us"]["ours"] for row in record["rows"] if peer in row["us"]
        ]
        ahead = sum(ratio >= 1 for ratio in ratios)
        lines.append(
            f"* {name}: {statistics.geometric_mean(ratios):.3f} × in the geometric mean, "
            f"{min(ratios):.2f} to {max(ratios):.2f}, ahead on {ahead} of {len(ratios)} rows\n"
        )
    return table(head, rows) + "\n" + "".join(lines)


def prefill_few_rows() -> str:
    """Few new tokens behind many, beside one, which decoding serves."""
    rows = {row["case"]: row for row in load("cuda_prefill.h200")["rows"]}
    found = {}
    for name, row in rows.items():
        match = re.fullmatch(r"32/8 d128 1x(\d+)\+(\d+)", name)
        if match and int(match[1]) + int(match[2]) == 32768:
            found[int(match[1])] = row
    decoding = found[1]["us"]["ours"]
    whole = rows["32/8 d128 1x8192"]["tflops"]["ours"]
    cells = [
        (
            str(new),
            f"{row['us']['ours']:.1f}",
            f"{row['us']['fa3 paged']:.1f}",
            f"{decoding / row['us']['ours']:.0%}",
            f"{row['tflops']['ours'] / whole:.0%}",
        )
        for new, row in sorted(found.items())
    ]
    head = ("new tokens", "ours, µs", "FA3 paged, µs", "of decoding's bandwidth")
    return table((*head, "of the rate of 1 × 8192"), cells)


def prefill_mma() -> str:
    """Prefill attention by mma.sync, as code of 9.0 and as PTX: every row beside each peer."""
    peers = {"torch fa2": "torch's FA2", "flashinfer fa2": "FlashInfer's fa2"}
    codes = {"code of 9.0": "cuda_prefill_sm_90.h200", "PTX": "cuda_prefill_ptx.h200"}
    records = {code: {r["case"]: r for r in load(name)["rows"]} for code, name in codes.items()}
    rows = []
    for case, row in records["code of 9.0"].items():
        heads, size, lengths = case.split(" ")
        rates = [_rate(row, name) for name in ("ours", *peers)]
        found = [each.get(case) for each in records.values()]
        ratios = [_ratio(each, peer) for each in found for peer in peers]
        rows.append((f"{heads} {size}", _prefill_lengths(lengths), *rates, *ratios))
    head = ["heads", "sequences × new + before", "ours", *peers.values()]
    head += [f"÷ {peer}, {code}" for code in codes for peer in ("FA2", "fa2")]
    lines = []
    for code, cases in records.items():
        for peer, name in peers.items():
            ratios = [r["us"][peer] / r["us"]["ours"] for r in cases.values() if peer in r["us"]]
            lines.append(
                f"* {code}, {name}: {statistics.geometric_mean(ratios):.3f} × in the geometric mean"
                f" of {len(ratios)} rows, {min(ratios):.2f} to {max(ratios):.2f}\n"
            )
    return table(head, rows) + "\n" + "".join(lines)


def _rate(row: Any, name: str) -> str:
    return f"{row['tflops'][name]:.0f}" if name in row["tflops"] else "–"


def _ratio(row: Any, peer: str) -> str:
    """How many times as long a peer takes."""
    known = row is not None and peer in row["us"]
    return f"{row['us'][peer] / row['us']['ours']:.2f}" if known else "–"


def all_reduce() -> str:
    """Sums over the ranks of one host, alone and with the norm that follows."""
    record = load("cuda_all_reduce.h200")
    rows = []
    for row in record["rows"]:
        times = row["us"]
        norm = "{}, with norm".format
        fused = min(times[name] for name in map(norm, ("ours", "two shots")) if name in times)
        rows.append(
            (
                f"{row['rows']} × {row['width']}",
                f"{times['ours']:.1f}",
                f"{times['two shots']:.1f}",
                f"{times['NCCL']:.1f}",
                f"{times['NCCL'] / min(times['ours'], times['two shots']):.1f}",
                f"{fused:.1f}",
                f"{times[norm('ours apart')]:.1f}",
                f"{times[norm('NCCL apart')]:.1f}",
            )
        )
    head = ("rows × width", "one shot µs", "two shots", "NCCL", "NCCL ÷ ours")
    return table((*head, "with norm: one kernel", "two kernels", "NCCL and ours"), rows)


def sampling() -> str:
    """Sampling from logits of 128256 tokens; † marks rows of another commit than the record's."""
    record = load("cuda_sampling.h200")
    rows = []
    for row in record["records"]:
        times = dict(row["microseconds"])
        ours = times.pop("vllm")
        name = min(times, key=lambda peer: times[peer])
        older = " †" if row.get("commit", record["commit"]) != record["commit"] else ""
        rows.append(
            (
                row["how"],
                f"{row['dtype']}, {row['logits']}",
                row["rows"],
                f"{ours:.1f}{older}",
                f"{times[name]:.1f} ({name})",
                f"{row['ratio_to_best_peer']:.2f}",
            )
        )
    return table(("how", "logits", "rows", "ours µs", "best peer µs", "peer ÷ ours"), rows)


def best_attention_peer(row: Any) -> tuple[str, float]:
    """The fastest peer of a row of decode attention, and its time over ours."""
    peers = {name: us for name, us in row["us"].items() if name not in _PEERS}
    best = min(peers, key=lambda name: peers[name])
    return best, peers[best] / row["us"]["ours"]
