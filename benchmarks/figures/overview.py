"""README's table of what was measured."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.figures.kernels import best_attention_peer
from benchmarks.figures.tables import link, load, table


def measured() -> str:
    """README's table of what was measured."""
    matrix, host = load("release_matrix"), load("host_overhead.h200")
    wheels = load("wheel_sizes")
    sizes = wheels["bytes"]
    prefills = [
        row["us"]["fa3 paged"] / row["us"]["ours"] for row in load("cuda_prefill.h200")["rows"]
    ]
    decode = [best_attention_peer(row)[1] for row in load("cuda_attention.h200")["rows"]]
    ops = [row["ratio"] for row in load("cuda_ops.h200")["records"]]
    cpu = [row["torch_us"] / row["ours_us"] for row in load("cpu_ops")["records"]]
    engine = [
        load(f"cpu_throughput_{name}")["compared"]
        for name in ("small_float32_2", "small_float32_1", "half-billion_float32_2")
    ]
    python_only = matrix["python_only_commit"]
    tests = load("gpu_tests.h200")["wheels"]
    rows = [
        (
            "a commit's whole set of wheels",
            f"{matrix['whole_matrix']['ratio']:.2f} × the time of its two canonical builds",
            link("release_matrix", up=""),
        ),
        (
            "a commit that changed only Python",
            f"{python_only['seconds']:.1f} s for its {python_only['wheels']} wheels, nothing "
            "compiled",
            link("release_matrix", up=""),
        ),
        (
            "wheel, all GPU architectures",
            f"{_mb(sizes['cu121']['x86_64'])} MB (for Arm {_mb(sizes['cu121']['aarch64'])}), "
            f"{_mb(sizes['cu118']['x86_64'])} MB (`+cu118`)",
            link("wheel_sizes", up="", commit=wheels["commits"]["cu121"]),
        ),
        ("platform tag", "`manylinux_2_5_x86_64`, by auditwheel", "the audit's table"),
        (
            "host time of an op on CPU tensors of torch",
            f"{_host_range(host, 'table', 'microseconds')} µs; "
            f"{_host_range(host, 'attributes', 'microseconds_per_tensor')} µs a tensor for a torch "
            "without DLPack's table",
            link("host_overhead.h200", up=""),
        ),
        (
            "the same wheel from a container of Debian 11",
            "every native file the same, bit for bit",
            "`make cibuildwheel`",
        ),
        (
            "one wheel, torch 2.1.2 to 2.13.0",
            "the tests of the ops pass under each",
            "[docs/compatibility.md](docs/compatibility.md)",
        ),
        (
            "CPU ops, one thread, AVX-512",
            f"{min(cpu):.1f} to {max(cpu):.0f} × torch's own, "
            f"{sum(ratio < 1 for ratio in cpu)} of {len(cpu)} rows slower",
            link("cpu_ops", up=""),
        ),
        (
            "GPU tests, H200",
            ", ".join(f"{wheel['passed']} passed ({name})" for name, wheel in tests.items()),
            link("gpu_tests.h200", up=""),
        ),
        (
            "prefill attention on an H200, over pages",
            f"{statistics.geometric_mean(prefills):.2f} × FlashAttention 3 in the geometric mean, "
            f"ahead on {sum(ratio >= 1 for ratio in prefills)} of {len(prefills)} rows",
            link("cuda_prefill.h200", up=""),
        ),
        (
            "paged decode attention, H200",
            f"{statistics.geometric_mean(decode):.2f} × the best of FlashInfer in the mean of "
            f"{len(decode)} rows, {min(decode):.2f} to {max(decode):.2f}",
            "[docs/kernels.md](docs/kernels.md)",
        ),
        (
            "memory-bound ops, H200",
            f"at least the best of torch.compile, FlashInfer and Liger on "
            f"{sum(ratio >= 1 for ratio in ops)} of {len(ops)} rows, "
            f"{min(ops):.2f} to {max(ops):.2f}",
            "[docs/kernels.md](docs/kernels.md)",
        ),
        (
            "engine on an H200, 0.6B, 256 requests",
            f"{_over_nano_vllm():.2f} × nano-vllm's output tokens per second",
            link("engine_peers.h200", up=""),
        ),
        (
            "engine on two CPU cores, float32",
            f"{_range(engine, 'over_best_static')} × transformers' best static batches, "
            f"{_range(engine, 'over_continuous')} × its continuous batching",
            "[docs/engine.md](docs/engine.md)",
        ),
    ]
    return table(("what", "figure", "where"), rows)


def _over_nano_vllm() -> float:
    runs = load("engine_peers.h200")["runs"]
    rates = {run["engine"]: run["offline_output_tok_s"] for run in runs if run["model"] == "0.6B"}
    return float(rates["ours"] / rates["nano-vllm"])


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _host_range(record: Any, source: str, key: str) -> str:
    found = [
        row[key]
        for row in record["records"]
        if row["source"] == source and row["device"] == "cpu" and row["op"] != "torch.add"
    ]
    return f"{min(found):.2f} to {max(found):.2f}"


def _range(records: list[Any], key: str) -> str:
    found = [record[key] for record in records]
    return f"{min(found):.1f} to {max(found):.1f}"
