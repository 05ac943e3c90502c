"""A timeline of two decode steps on a GPU: activity of host and device.

    python benchmarks/cuda_step_timeline.py --json FILE --svg FILE [--batch 64] [--model 0.6B]
    python benchmarks/cuda_step_timeline.py --from FILE --svg FILE     draws it again, without a GPU

Top: kernels launched one by one, and each step finished before the next; bottom: CUDA graphs and
overlapped steps. Times are from torch.profiler, which slows the host down. "busy" is the fraction
of the time from the first to the last kernel in which a kernel runs, over all profiled steps.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

WAYS: Mapping[str, Mapping[str, bool]] = {
    "kernel by kernel": {"enforce_eager": True, "async_scheduling": False},
    "graphs and overlap": {},
}
STEPS, DRAWN = 12, 2
PARTS = ("schedule", "describe", "submit", "wait", "outputs")
COLORS = dict(zip((*PARTS, "kernel"), ("#7a5195", "#bc5090", "#ef5675", "#d9d9d9", "#ffa600")))
COLORS["kernel"] = "#003f5c"
Span = Tuple[str, float, float]  # name, start, end in microseconds


def watch(engine: Any) -> None:
    """Gives the parts of a step names in the profile."""
    from torch.profiler import record_function

    def name_it(owner: Any, method: str, name: str) -> None:
        function = getattr(owner, method)

        def named(*args: Any) -> Any:
            with record_function(f"step: {name}"):
                return function(*args)

        setattr(owner, method, named)

    name_it(engine.scheduler, "schedule", "schedule")
    name_it(engine._writer, "write", "describe")
    name_it(engine.executor, "submit", "submit")
    name_it(engine.executor, "collect", "wait")
    name_it(engine.scheduler, "update", "outputs")
    name_it(engine, "_outputs", "outputs")


def profile(folder: Path, batch: int, how: Mapping[str, bool]) -> Dict[str, Any]:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from vllm import LLM, RequestOutputKind, SamplingParams

    llm = LLM(str(folder), skip_tokenizer_init=True, num_kv_blocks=12_000, **how)
    engine, generator = llm.engine, random.Random(0)
    params = SamplingParams(
        temperature=0, max_tokens=200, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
    )
    for index in range(batch):
        prompt = [generator.randrange(150_000) for _ in range(256)]
        engine.add_request(str(index), prompt, params)
    for _ in range(60):
        engine.step()
    watch(engine)
    with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(STEPS):
            engine.step()
        import torch

        torch.cuda.synchronize()
    host: List[Span] = []
    device: List[Span] = []
    for event in found.profiler.kineto_results.events():
        start = event.start_ns() / 1e3
        span = start, start + event.duration_ns() / 1e3
        if "CUDA" in str(event.device_type()):
            if not event.name().startswith("step: "):
                device.append(("kernel", *span))
        elif event.name().startswith("step: "):
            host.append((event.name()[len("step: ") :], *span))
    return cut(sorted(host, key=lambda s: s[1]), sorted(device, key=lambda s: s[1]))


def cut(host: List[Span], device: List[Span]) -> Dict[str, Any]:
    """Two steps from the middle, with times from their start; and the busy fraction."""
    begins = [start for name, start, _ in host if name == "schedule"]
    middle = len(begins) // 2
    first, last = begins[middle], begins[middle + DRAWN]

    def part(spans: List[Span]) -> List[Span]:
        seen = [span for span in spans if span[2] > first and span[1] < last]
        return [
            (name, round(max(start, first) - first, 1), round(min(end, last) - first, 1))
            for name, start, end in seen
        ]

    # The first step is profiled from its middle on, and the last may not be.
    whole = [span for span in device if begins[1] <= span[1] < begins[-1]]
    return {
        "busy": round(union(whole) / (whole[-1][2] - whole[0][1]), 4),
        "microseconds": round(last - first, 1),
        "host": part(host),
        "device": part(device),
    }


def union(spans: List[Span]) -> float:
    """The total time covered by spans, which are sorted by start."""
    total, end = 0.0, float("-inf")
    for _, start, stop in spans:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def draw(result: Mapping[str, Any]) -> str:
    """The picture, as SVG."""
    ways = result["ways"]
    width, left, lane, gap = 920, 60, 26, 34
    scale = (width - left - 10) / max(way["microseconds"] for way in ways.values())
    lines, y = [], 24
    for name, way in ways.items():
        took = way["microseconds"] / DRAWN / 1e3
        lines.append(
            f'<text x="{left}" y="{y}">{name}: {took:.2f} ms a step, kernels fill '
            f"{100 * way['busy']:.0f} % of the time</text>"
        )
        for row, spans in enumerate((way["host"], way["device"])):
            top = y + 8 + row * (lane + 4)
            label = ("host", "device")[row]
            lines.append(f'<text x="4" y="{top + 17}">{label}</text>')
            # Enclosing parts are drawn first, inner ones over them.
            for part, start, end in spans:
                lines.append(
                    f'<rect x="{left + start * scale:.1f}" y="{top}" height="{lane}" '
                    f'width="{max(0.3, (end - start) * scale):.1f}" fill="{COLORS[part]}"/>'
                )
        y += 2 * lane + gap + 10
    for index, (part, color) in enumerate(COLORS.items()):
        x = left + index * 110
        lines.append(f'<rect x="{x}" y="{y - 8}" width="12" height="12" fill="{color}"/>')
        lines.append(f'<text x="{x + 17}" y="{y + 3}">{part}</text>')
    title = f"Two decode steps of {result['batch']} sequences, {result['model']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 14}" '
        f'font-family="sans-serif" font-size="13" role="img"><title>{title}</title>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(lines)}</svg>\n'
    )


def measure(model: str, batch: int) -> Dict[str, Any]:
    from cuda_models import write_model
    from host_overhead import commit, machine

    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), model)
        ways = {name: profile(Path(folder), batch, how) for name, how in WAYS.items()}
    about = {"commit": commit(), "machine": machine(), "model": f"the shape of Qwen3-{model}"}
    return {**about, "batch": batch, "ways": ways}


def main() -> None:
    parser = argparse.ArgumentParser(description="A picture of decode steps on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write what was seen")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="where to write the picture")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="what was seen")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", default="0.6B")
    arguments = parser.parse_args()
    if arguments.source:
        result = json.loads(arguments.source.read_text())
    else:
        result = measure(arguments.model, arguments.batch)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    if arguments.svg:
        arguments.svg.write_text(draw(result))
    print({name: (way["busy"], way["microseconds"]) for name, way in result["ways"].items()})


if __name__ == "__main__":
    main()
