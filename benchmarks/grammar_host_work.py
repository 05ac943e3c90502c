"""Host work of a step whose sequences all have a grammar, without the model.

    python -m benchmarks.grammar_host_work [--before FILE]

64 sequences: without a grammar, and constrained to the schemas of
`benchmarks/structured_outputs.py` (with a string of any length, and of at most 20 characters), with
a vocabulary of 151,936 tokens. The executor computes nothing, and samples any token that the mask
allows.

Figures are medians of processor time, in milliseconds, which other load affects little:

* "take in", "plan" (to schedule and to describe a step), "outputs".
* "masks": of all threads together, the hand-over between threads included. "heavy masks" is what
  one step in twenty exceeds. The next step is planned meanwhile, by the engine's thread.
* "behind the sampler": of the engine's thread, from the launch of a step's sampling to that of the
  next step. The device has only the sampling to do then.

Written to grammar_host_work.json in this folder. FILE: what this has written at another commit,
which goes into the record.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from benchmarks import cpu_machine, random_model
from benchmarks.host_steps import NoModel, config
from benchmarks.structured_outputs import SCHEMAS
from vllm import SamplingParams
from vllm.config import GenerationDefaults
from vllm.engine.executor import StepResult
from vllm.engine.llm_engine import EngineParts, LLMEngine
from vllm.engine.masks import StepMasks
from vllm.engine.step_input import StepInput
from vllm.engine_args import EngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.text.tokenizer import Tokenizer

SEQUENCES = 64
STEPS = 200
VOCAB = 151_936
MAX_LEN = 1024


class AnyAllowed(NoModel):
    """Computes nothing: samples uniformly from the tokens that each row's mask allows, or from all.

    behind: seconds between the launch of sampling and that of the next step, for each.
    """

    num_blocks, block_size, max_rows, overlaps = 8192, 16, SEQUENCES, True

    def __init__(self) -> None:
        self.behind: List[float] = []
        self._source = random.Random(0)
        self._sampled = 0.0
        self._tokens: Dict[int, List[int]] = {}  # of the steps in flight

    def submit(self, step: StepInput) -> StepInput:
        self.behind.append(time.thread_time() - self._sampled)
        if step.masks is None:
            self._tokens[id(step)] = self._source.choices(range(100, VOCAB), k=step.num_rows)
        return step

    def sample(self, handle: StepInput) -> None:
        masks = handle.masks
        assert masks is not None
        nbytes = 4 * masks.num_words
        starts = range(masks.bits_offset, masks.nbytes, nbytes)
        rows = [masks.memory[start : start + nbytes] for start in starts]
        self._tokens[id(handle)] = [self._any_of(row) for row in rows]
        self._sampled = time.thread_time()

    def _any_of(self, row: memoryview) -> int:
        """Tries tokens first: reading whole masks would drive the engine's data from the caches."""
        for _ in range(50):
            token = self._source.randrange(VOCAB)
            if row[token >> 3] >> (token & 7) & 1:
                return token
        octets = np.frombuffer(row, np.uint8)
        (places,) = np.nonzero(octets)
        found = np.flatnonzero(np.unpackbits(octets[places], bitorder="little"))
        place = int(self._source.choice(found))
        return 8 * int(places[place // 8]) + place % 8

    def collect(self, handle: StepInput) -> StepResult:
        return StepResult(self._tokens.pop(id(handle)))


class Work:
    """Seconds of processor time that functions took, by their names, without those functions that
    they have called and that are watched as well."""

    def __init__(self) -> None:
        self.seconds: Dict[str, List[float]] = {}
        self._inner = 0.0

    def watch(self, owner: Any, name: str, clock: Callable[[], float] = time.thread_time) -> None:
        """clock: counts the thread that calls the function, or the whole process."""
        function, found = getattr(owner, name), self.seconds.setdefault(name, [])

        def timed(*args: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            own, started = time.thread_time(), clock()
            result = function(*args)
            found.append(clock() - started - self._inner)
            self._inner = outer + time.thread_time() - own
            return result

        setattr(owner, name, timed)


def milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def work_of_a_step(tokenizer: Tokenizer, schema: Optional[Dict[str, Any]]) -> Dict[str, float]:
    executor = AnyAllowed()
    parts = EngineParts(executor, config(VOCAB, MAX_LEN), GenerationDefaults(), tokenizer, MAX_LEN)
    engine = LLMEngine(EngineArgs("none", max_num_seqs=SEQUENCES), parts)
    params = SamplingParams(
        temperature=1.0,
        seed=0,
        max_tokens=900,
        ignore_eos=True,
        structured_outputs=None if schema is None else {"json": schema},
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    for index in range(SEQUENCES):
        engine.add_request(str(index), [index + 1, 5, 7, 9], params)
    for _ in range(20):
        engine.step()
    work, fill = Work(), StepMasks.fill
    work.watch(engine.scheduler, "schedule")
    work.watch(engine._pipeline.writer, "write")
    work.watch(engine.scheduler, "update")
    work.watch(engine, "_outputs")
    work.watch(StepMasks, "fill", time.process_time)
    del executor.behind[:]
    try:
        for _ in range(STEPS):
            engine.step()
    finally:
        StepMasks.fill = fill  # type: ignore[method-assign]
    assert len(engine.scheduler.running) == SEQUENCES
    median = {name: statistics.median(each) for name, each in work.seconds.items() if each}
    found = {
        "take in": median["update"],
        "plan": median["schedule"] + median["write"],
        "outputs": median["_outputs"],
    }
    if "fill" in median:
        found["behind the sampler"] = statistics.median(executor.behind)
        found["masks"] = median["fill"]
        found["heavy masks"] = sorted(work.seconds["fill"])[STEPS * 19 // 20]
    return {name: milliseconds(seconds) for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = cpu_machine.describe()
    with tempfile.TemporaryDirectory() as made:
        random_model.write_tokenizer(VOCAB, Path(made))
        tokenizer = Tokenizer(Path(made))
        record = {
            **machine,
            "llguidance": importlib.metadata.version("llguidance"),
            "sequences": SEQUENCES,
            "vocabulary": VOCAB,
            "free": work_of_a_step(tokenizer, None),
            **{name: work_of_a_step(tokenizer, schema) for name, schema in SCHEMAS.items()},
        }
    if args.before is not None:
        record["before"] = json.loads(args.before.read_text())
    text = json.dumps(record, indent=1, ensure_ascii=False)
    print(text)
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
