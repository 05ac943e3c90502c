"""The tables of the engine, the server and the command line."""

from __future__ import annotations

import re
import statistics
from typing import Any, Optional

from benchmarks.figures.tables import FOLDER, link, load, table

EXCHANGES = 80  # of a step of a model of 40 layers
_FUSED = ("ours, with norm", "two shots, with norm")

# Models that were served -> their records.
SERVED = {
    "0.6B": "server_throughput_0.6B.h200",
    "8B": "server_throughput_8B.h200",
    "small, on a CPU": "server_throughput_small",
}


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
                _if_asked(decode.get("4"), ".2f"),
                _if_asked(decode.get("64"), ".2f"),
                run["prefill_prompt_tok_s"],
                f"{run['first_token_of_8192_ms']:.0f}",
                _if_asked(run.get("shared_prefix_s"), ".2f"),
            )
        )
    head = (
        "model",
        "engine",
        "load, s",
        "offline, output tokens/s",
        "decode at 1, ms",
        "at 4, ms",
        "at 64, ms",
        "prefill, tokens/s",
        "first token of 8192, ms",
        "shared prefix, s",
    )
    return table(head, rows)


def _if_asked(figure: Optional[float], form: str) -> str:
    return "" if figure is None else format(figure, form)


def ranks() -> str:
    """A model on one GPU and on several."""
    record = load("cuda_ranks_14B.h200")
    alone, rows = record["ranks"]["1"], []
    for num_ranks, found in sorted(record["ranks"].items()):
        times = found["step_ms"]
        rate, base = found["offline_tokens_per_s"], alone["offline_tokens_per_s"]
        steps = [f"{t:.2f} ({alone['step_ms'][batch] / t:.2f} ×)" for batch, t in times.items()]
        rows.append((num_ranks, *steps, f"{rate} ({rate / base:.2f} ×)"))
    head = [f"step of {batch}, ms" for batch in alone["step_ms"]]
    return table(("GPUs", *head, "offline, output tokens/s"), rows)


def ranks_arithmetic() -> str:
    """What a step on two GPUs is made of."""
    record = load("cuda_ranks_14B.h200")["ranks"]
    exchanges = {row["rows"]: row["us"] for row in load("cuda_all_reduce.h200")["rows"]}
    rows = []
    for batch, whole in record["1"]["step_ms"].items():
        us = min(us for way, us in exchanges[int(batch)].items() if way in _FUSED)
        parts = whole / 2, EXCHANGES * us / 1e3
        step = record["2"]["step_ms"][batch]
        rest = step - sum(parts)
        times = (f"{ms:.2f}" for ms in (*parts, rest, step))
        rows.append((batch, f"{us:.1f}", *times))
    head = (
        *("sequences", "an exchange, µs", "half of one GPU's step, ms", f"{EXCHANGES} exchanges"),
        *("the rest", "a step on two"),
    )
    return table(head, rows)


def bytes_read() -> str:
    """What each rank reads of a checkpoint."""
    record = load("bytes_read")
    whole, rows = record["file_bytes"], []
    for num_ranks, counts in record["bytes_by_rank"].items():
        least, most = min(counts), max(counts)
        each = f"{most / 1e6:.1f}" if least == most else f"{least / 1e6:.1f} to {most / 1e6:.1f}"
        rows.append((num_ranks, each, f"{100 * most / whole:.2f}", f"{sum(counts) / whole:.4f}"))
    head = ("ranks", "MB that each reads", "% of the files", "all together, of the files")
    text = table(head, rows)
    return f"{text}\n{link('bytes_read')}: the shape of a {record['shape']}, bfloat16.\n"


def rank_faults() -> str:
    """What happens to a rank, and what the others say."""
    return _faults("rank_faults")


def ray_faults() -> str:
    """The same, of ranks that Ray has started on two hosts."""
    return _faults("ray_faults")


def _faults(name: str) -> str:
    head = ("rank", "what", "when", "what the others say", "seconds later")
    rows = []
    for row in load(name)["faults"]:
        said = re.sub(r"process \d+", "process N", row["said"]) or "nothing: Ray ends them"
        rows.append((row["rank"], row["what"], row["when"], said, row["seconds"]))
    return table(head, rows) + f"\n{link(name)}, two busy cores.\n"


def replicas() -> str:
    """Two replicas behind one address, beside one."""
    rows, links = [], []
    for path in sorted(FOLDER.glob("server_replicas_*.h200.json")):
        record = load(path.stem)
        one, two = (record["replicas"][count] for count in "12")
        rate, of = (each["output_tokens_per_second"] for each in (two, one))
        front = f"{two['front_end_processor_seconds']:.1f}"
        given = record["input"], record["output"]
        rows.append((*given, f"{of:.0f}", f"{rate:.0f}", f"{rate / of:.2f} ×", front))
        links.append(link(path.stem))
    head = (
        *("tokens of a prompt", "of an answer", "one replica, tokens/s", "two", "ratio"),
        "processor seconds of the front, with two",
    )
    return table(head, rows) + f"\n{', '.join(links)}.\n"


def server_fronts() -> str:
    """A burst of streams through several numbers of front processes."""
    name = "server_fronts_0.6B.h200"
    record = load(name)
    base = record["offline"]
    rows = [("loop", f"{base['output_tokens_per_second']:.0f}", "", _three(base, _FIRST), "", "")]
    for count, served in record["served"].items():
        rate = served["output_tokens_per_second"]
        added = served[f"{_FIRST}_p50"] - base[f"{_FIRST}_p50"]
        spent = f"{served['front_end_processor_seconds']:.1f}"
        ratio = f"{rate / base['output_tokens_per_second']:.2f}"
        rows.append((count, f"{rate:.0f}", ratio, _three(served, _FIRST), f"{added:.0f}", spent))
    head = (
        *("fronts", "tokens/s", "of offline", "first token, ms", "added at the median"),
        "their processor seconds",
    )
    return f"{table(head, rows)}\n{link(name)}: {record['processors']} processors.\n"


def server_work() -> str:
    """What a streamed request costs the process that handles it."""
    record = load("server_work")
    rows = []
    for kind, parts in record["now"].items():
        for part, now in parts.items():
            before = record["before"][kind][part]
            calls = f"{before['calls']:.0f} → {now['calls']:.0f}"
            rows.append((kind, part, calls, f"{before['us']:.0f} → {now['us']:.0f}"))
    text = table(("request", "part", "calls of functions", "µs"), rows)
    return (
        f"{text}\n{link('server_work')}, before: {record['before_commit'][:7]}; two cores with a "
        f"load of {_load(record)}.\n"
    )


def first_outputs() -> str:
    """The time until the first output of each command."""
    record = load("cli_first_output")
    times = {f"`{name}`": each for name, each in record["first_output"].items()}
    times["`vllm serve`, until it is ready"] = record["serve_ready"]
    rows = [(name, f"{t['ms']:.0f}", f"{t['processor_ms']:.0f}") for name, t in times.items()]
    text = table(("command", "first output, ms", "of processor time"), rows)
    return f"{text}\n{link('cli_first_output')}, two cores with a load of {_load(record)}.\n"


def server_throughput() -> str:
    """The server, beside `LLM.generate` and a loop around the engine."""
    rows, links, starts = [], [], []
    for shape, name in SERVED.items():
        record = load(name)
        links.append(link(name))
        starts.append(f"{shape} {record['ready_seconds']:.1f}")
        for streams, both in sorted(record["streams"].items(), key=lambda item: int(item[0])):
            offline, served = both["offline"], both["served"]
            rate, of = (each["output_tokens_per_second"] for each in (served, offline))
            cells = [f"{of:.0f}", f"{rate:.0f}", f"{rate / of:.2f}"]
            for key in ("first_token_ms", "between_events_ms"):
                cells += [_three(each, key) for each in (offline, served)]
            rows.append((shape, streams, *cells, f"{served['tokens_per_event']:.1f}"))
    head = (
        *("model", "streams", "offline, tokens/s", "served", "ratio"),
        *("first token in a loop, ms", "served", "between tokens in a loop, ms"),
        *("between events served", "tokens per event"),
    )
    ready = ", ".join(starts)
    return f"{table(head, rows)}\nReady to serve after (seconds): {ready}. {', '.join(links)}.\n"


_FIRST = "first_token_ms"


def _three(figures: Any, key: str) -> str:
    """The percentiles 50, 90 and 99."""
    values = [figures[f"{key}_p{p}"] for p in (50, 90, 99)]
    return " / ".join(f"{value:.1f}" if value < 20 else f"{value:.0f}" for value in values)


def structured_outputs() -> str:
    """What grammars cost on an H200."""
    name = "structured_outputs_0.6B.h200"
    record = load(name)
    rates, cost = record["tokens_per_second"], record["cost"]
    rows = [("without a schema", f"{rates['free']:.0f}", "")]
    for kind, share in cost.items():
        rows.append((f"a schema, its string: {kind}", f"{rates[kind]:.0f}", f"{share:.0%}"))
    text = table((f"0.6B, {record['sequences']} sequences at once", "tokens/s", "cost"), rows)
    return f"{text}\n{link(name)}.\n"


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


def _load(record: Any) -> str:
    return f"{record['machine']['load_average']:.1f}"


def _ms(times: list[float]) -> str:
    value = statistics.median(times)
    return f"{value:.1f}" if value < 20 else f"{value:.0f}"
