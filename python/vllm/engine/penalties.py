"""Which logits of a sequence its penalties change, and by how much."""

from __future__ import annotations

from array import array
from typing import Dict, Iterable, List

from vllm.sampling_params import SamplingParams


class Penalties:
    """One entry for each different token of a prompt and its output.

    Arrays, so that a step copies them as they are: there may be thousands of entries.

    token_ids: the tokens, in order of first use.
    subtract: float32, what presence and frequency penalties take from each token's logit.
    repetition: the factor for all of them.
    """

    __slots__ = (
        "_frequency",
        "_indices",
        "_presence",
        "_uses",
        "repetition",
        "subtract",
        "token_ids",
    )

    def __init__(self, params: SamplingParams, prompt_token_ids: Iterable[int]) -> None:
        self.token_ids = array("q", dict.fromkeys(prompt_token_ids))
        self.subtract = array("f", bytes(4 * len(self.token_ids)))
        self.repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._indices: Dict[int, int] = {token: i for i, token in enumerate(self.token_ids)}
        self._uses: List[int] = [0] * len(self.token_ids)  # in the output alone

    def add(self, token_id: int) -> None:
        """Counts a token of the output."""
        index = self._indices.setdefault(token_id, len(self.token_ids))
        if index == len(self.token_ids):
            self.token_ids.append(token_id)
            self.subtract.append(0.0)
            self._uses.append(0)
        self._uses[index] += 1
        self.subtract[index] = self._presence + self._frequency * self._uses[index]

    def index(self, token_id: int) -> int:
        """Which entry is this token's; -1 if none is."""
        return self._indices.get(token_id, -1)
