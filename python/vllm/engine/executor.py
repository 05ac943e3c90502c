"""The interface between the engine and whatever computes its steps.

The engine knows sequences, the executor knows the device. They exchange plain values: a packed
`StepInput` and a `StepResult`. So an executor may run the model in this process, in several, or on
several hosts; `vllm.worker` implements them.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from vllm.engine.step_input import SizeClass, StepInput
from vllm.outputs import TokenLogprobs


@dataclass
class StepResult:
    """The results of a step, as plain Python values.

    token_ids: the sampled tokens, one for each of the step's `rows`.
    logprobs: by row, for the rows in `StepInput.logprobs`.
    prompt_logprobs: by the sequence's index in the step, one entry for each of its targets.
    """

    token_ids: List[int] = field(default_factory=list)
    logprobs: Dict[int, TokenLogprobs] = field(default_factory=dict)
    prompt_logprobs: Dict[int, List[TokenLogprobs]] = field(default_factory=dict)


class Executor(abc.ABC):
    """A model and its KV cache, which compute one step after another.

    num_blocks, block_size: of the KV cache. A block keeps its contents until another step writes
        to it.
    max_rows: the most rows that a step may sample; see `StepInput.sources`.
    overlaps: whether `submit` returns before the step is computed, so that preparing the next step
        meanwhile saves time.
    """

    num_blocks: int
    block_size: int
    max_rows: int
    overlaps: bool

    @abc.abstractmethod
    def allocate(self, nbytes: int) -> memoryview:
        """Writable bytes for step buffers; valid as long as the executor exists."""

    @abc.abstractmethod
    def room(self, size: SizeClass) -> int:
        """Bytes that this executor needs after a step's arrays, for data that it adds itself."""

    @abc.abstractmethod
    def submit(self, step: StepInput) -> Any:
        """Starts a step; returns a handle for `sample` and `collect`.

        Steps are computed in the order of their submission. The caller must not write to the
        buffer until the step has been collected. A step with masks stops at its logits; call
        `sample` or `launch_ahead` before the next `submit`.
        """

    def launch_ahead(self, handle: Any, step: StepInput) -> Optional[Any]:
        """Launches sampling of a step whose masks are not there yet, and then another step, so that
        the device goes on by itself when `masks_are_ready` says that they are.

        Returns the handle of `step`; or None, with nothing launched, if the device cannot wait, or
        if launching might need something that waits for the device. Then the caller must `sample`
        and `submit` when the masks are there.
        """
        return None

    def masks_are_ready(self, handle: Any) -> None:  # noqa: B027 (most have nobody who waits)
        """Says that a step's masks have been filled. Any thread may call it."""

    @abc.abstractmethod
    def sample(self, handle: Any) -> None:
        """Continues a step with masks, which have been filled: starts sampling its rows.

        The caller must not write to the masks' memory until the step has been collected.
        """

    @abc.abstractmethod
    def collect(self, handle: Any) -> StepResult:
        """Waits for a step's result. Each step is collected once, in the order of submission."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Waits for the submitted steps and discards their results. Those that still wait for masks
        go on without."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Ends the processes and frees the resources of this executor, which cannot be used
        afterwards."""
