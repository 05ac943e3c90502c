"""The text of each marked part, as a function of the records."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.figures.tables import link, load, significant, table

_PEERS = ("ours", "read")  # columns of an attention row that are no peer


def attention() -> str:
    """Decode attention: every row beside its best peer."""
    record = load("cuda_attention.h200")
    bandwidth = record["ceilings"]["read_tb_s"]
    rows, ratios = [], []
    for row in record["rows"]:
        name, ratio = _best_attention_peer(row)
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


def _prefill_lengths(case: str) -> str:
    return re.sub(r"^(\d+)x", r"\1 × ", case).replace("+", " + ").replace("/", ", ")


def prefill() -> str:
    """Prefill attention: every row beside each peer."""
    record = load("cuda_prefill.h200")
    peers = ("fa3 paged", "fa3 contiguous", "cudnn", "torch fa2")
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
    head = ("heads", "sequences × new + before", "ours", "FA3 paged", "FA3 contiguous", "cuDNN")
    lines = []
    for peer, name in zip(peers, ("FA3 paged", "FA3 contiguous", "cuDNN", "torch's FA2")):
        ratios = [
            row["us"][peer] / row["us"]["ours"] for row in record["rows"] if peer in row["us"]
        ]
        ahead = sum(ratio >= 1 for ratio in ratios)
        lines.append(
            f"* {name}: {statistics.geometric_mean(ratios):.3f} × in the geometric mean, "
            f"{min(ratios):.2f} to {max(ratios):.2f}, ahead on {ahead} of {len(ratios)} rows\n"
        )
    return table((*head, "torch FA2", "ours ÷ FA3 paged"), rows) + "\n" + "".join(lines)


def prefill_mma() -> str:
    """Prefill attention by mma.sync: every row beside each peer."""
    record = load("cuda_prefill_sm_90.h200")
    peers = {"torch fa2": "torch's FA2", "flashinfer fa2": "FlashInfer's fa2"}
    rows = []
    for row in record["rows"]:
        heads, size, case = row["case"].split(" ")
        found, times = row["tflops"], row["us"]
        cells = (f"{found[peer]:.0f}" for peer in peers)
        ratios = (f"{times[peer] / times['ours']:.2f}" for peer in peers)
        rows.append(
            (f"{heads} {size}", _prefill_lengths(case), f"{found['ours']:.0f}", *cells, *ratios)
        )
    head = ("heads", "sequences × new + before", "ours", *peers.values())
    lines = []
    for peer, name in peers.items():
        ratios = [row["us"][peer] / row["us"]["ours"] for row in record["rows"]]
        lines.append(
            f"* {name}: {statistics.geometric_mean(ratios):.3f} × in the geometric mean, "
            f"{min(ratios):.2f} to {max(ratios):.2f}\n"
        )
    return table((*head, "÷ FA2", "÷ fa2"), rows) + "\n" + "".join(lines)


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


def ranks() -> str:
    """A model on one GPU and on several."""
    record = load("cuda_ranks_14B.h200")
    alone, rows = record["ranks"]["1"], []
    for num_ranks, found in record["ranks"].items():
        times = found["step_ms"]
        rate, base = found["offline_tokens_per_s"], alone["offline_tokens_per_s"]
        steps = [f"{t:.2f} ({alone['step_ms'][batch] / t:.2f} ×)" for batch, t in times.items()]
        rows.append((num_ranks, *steps, f"{rate} ({rate / base:.2f} ×)"))
    head = [f"step of {batch}, ms" for batch in alone["step_ms"]]
    return table(("GPUs", *head, "offline, output tokens/s"), rows)


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


def cpu_throughput() -> str:
    """The engine on a CPU, beside transformers."""
    rows = []
    for name, requests in (
        ("small_float32_2", "small: 4 layers of 512, 64 requests, 2"),
        ("small_float32_1", "small, 64 requests, 1"),
        ("half-billion_float32_2", "half-billion: the shape of Qwen2.5-0.5B, 8 requests, 2"),
    ):
        record = load(f"cpu_throughput_{name}")
        compared, alone = record["compared"], record["single_request_ms_per_token"]
        rows.append(
            (
                requests,
                f"{record['peers']['vllm']['total_tokens_per_second']:.0f}",
                f"{compared['over_best_static']:.2f} ({compared['goal_over_best_static']:.2f})",
                f"{compared['over_continuous']:.2f}",
                f"{_ms(alone['vllm'])}, {_ms(alone['transformers'])}",
            )
        )
    head = (
        "model, requests, threads",
        "tokens/s",
        "over static batches (goal)",
        "over continuous batching",
        "one request, ms a token: ours, theirs",
    )
    return table(head, rows)


def first_outputs() -> str:
    """What a person waits for, command by command."""
    record = load("cli_first_output")
    rows = [(f"`{name}`", f"{ms:.0f}") for name, ms in record["first_output_ms"].items()]
    rows.append(("`vllm serve`, until it is ready", f"{record['serve_ready_ms']:.0f}"))
    text = table(("command", "first output, ms"), rows)
    return f"{text}\n{link('cli_first_output')}, two cores with a load of {_load(record)}.\n"


def _load(record: Any) -> str:
    return f"{record['machine']['load_average']:.1f}"


def engine_peers() -> str:
    """The engine on an H200, beside nano-vllm where that ran."""
    rows = []
    for run in load("engine_peers.h200")["runs"]:
        decode = run["decode_ms"]
        rows.append(
            (
                run["model"],
                run["engine"],
                f"{run['load_s']:.1f}",
                run["offline_output_tok_s"],
                f"{decode['1']:.2f}",
                f"{decode['64']:.2f}",
                run["prefill_prompt_tok_s"],
                f"{run['first_token_of_8192_ms']:.0f}",
                f"{run['shared_prefix_s']:.2f}",
            )
        )
    head = (
        "model",
        "engine",
        "load, s",
        "offline, output tokens/s",
        "decode at 1, ms",
        "at 64, ms",
        "prefill, tokens/s",
        "first token of 8192, ms",
        "shared prefix, s",
    )
    return table(head, rows)


def server_throughput() -> str:
    """The server on an H200, beside `LLM.generate`."""
    rows, links = [], []
    for shape in ("0.6B", "8B"):
        name = f"server_throughput_{shape}.h200"
        links.append(link(name))
        for streams, both in load(name)["streams"].items():
            offline, served = both["offline"], both["served"]
            rate, of = (each["output_tokens_per_second"] for each in (served, offline))
            waits = " / ".join(f"{served[f'first_token_ms_p{p}']:.0f}" for p in (50, 90, 99))
            gaps = " / ".join(f"{served[f'between_events_ms_p{p}']:.1f}" for p in (50, 90, 99))
            cells = (f"{of:.0f}", f"{rate:.0f}", f"{rate / of:.2f}", waits, gaps)
            rows.append((shape, streams, *cells, f"{served['tokens_per_event']:.1f}"))
    head = (
        *("model", "streams", "offline, tokens/s", "served", "ratio"),
        *("first token, ms (p50 / p90 / p99)", "between events, ms", "tokens per event"),
    )
    return table(head, rows) + f"\n{', '.join(links)}.\n"


def structured_outputs() -> str:
    """What grammars cost on an H200."""
    name = "structured_outputs_0.6B.h200"
    record = load(name)
    free, schema = (record["tokens_per_second"][kind] for kind in ("free", "schema"))
    return (
        f"{record['sequences']} sequences of the 0.6B at once on an H200, all of them JSON of one "
        f"schema, give {schema:.0f} tokens/s, without it {free:.0f} ({link(name)}).\n"
    )


def schema_validity() -> str:
    """Outputs of schemas on the JSON-Schema-Test-Suite."""
    record = load("schema_validity")
    unknown = record["reasons"]["Unimplemented keys: …"]
    taken = record["schemas"] - record["refused"]
    return (
        f"Of the {record['schemas']} schemas of the JSON-Schema-Test-Suite ({record['suite']}) "
        f"{record['refused']} are refused, {unknown} of them for keywords that llguidance does not "
        f"have. Of {record['finished']} finished outputs of the {taken} others, "
        f"{record['finished'] - record['invalid']} validate "
        f"([schema_validity.json](../benchmarks/schema_validity.json) has all reasons).\n"
    )


def measured() -> str:
    """README's table of what was measured."""
    matrix, host = load("release_matrix"), load("host_overhead.h200")
    prefills = [
        row["us"]["fa3 paged"] / row["us"]["ours"] for row in load("cuda_prefill.h200")["rows"]
    ]
    decode = [_best_attention_peer(row)[1] for row in load("cuda_attention.h200")["rows"]]
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
            f"{_wheel_mb(matrix, '')} MB (CUDA 12.1), {_wheel_mb(matrix, '+cu118')} MB (11.8)",
            link("release_matrix", up=""),
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


def _best_attention_peer(row: Any) -> tuple[str, float]:
    peers = {name: us for name, us in row["us"].items() if name not in _PEERS}
    best = min(peers, key=lambda name: peers[name])
    return best, peers[best] / row["us"]["ours"]


def _ms(times: list[float]) -> str:
    value = statistics.median(times)
    return f"{value:.1f}" if value < 20 else f"{value:.0f}"


def _wheel_mb(matrix: Any, local: str) -> str:
    """Of the abi3 wheel under the released version, whose only local version may be `local`."""
    wheels = matrix["whole_matrix"]["wheels"]
    pattern = re.compile(rf"vllm-[0-9.]+{re.escape(local)}-cp38-abi3-manylinux1_x86_64\.whl")
    (name,) = filter(pattern.fullmatch, wheels)
    return f"{wheels[name]['bytes'] / 1e6:.2f}"


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


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        all_reduce,
        attention,
        engine_peers,
        ranks,
        prefill,
        prefill_mma,
        memory_bound,
        sampling,
        cpu_throughput,
        first_outputs,
        server_throughput,
        structured_outputs,
        schema_validity,
        measured,
    )
}
