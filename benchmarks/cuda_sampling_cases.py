"""Cases of cuda_sampling.py: sampling methods, each with several implementations.

Each contender reads a set of buffers and writes int tokens to it. torch's functions are written for
torch.compile: they sample by the argmax of probabilities divided by exponential noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Optional

import torch
from cuda_timing import Tensors

from vllm import ops

TEMPERATURE = 0.8
SEED = 17


@dataclass(frozen=True)
class How:
    """A sampling method, the same for every row."""

    name: str
    temperature: float = TEMPERATURE
    top_k: Optional[int] = None
    top_p: Optional[float] = None
    min_p: Optional[float] = None


HOWS = (
    How("greedy", temperature=0.0),
    How("temperature"),
    How("top-k", top_k=50),
    How("top-p", top_p=0.9),
    How("top-k+top-p", top_k=50, top_p=0.9),
    How("min-p", min_p=0.05),
)


def make_set(rows: int, vocab: int, dtype: torch.dtype, spread: float, how: How) -> Tensors:
    """Logits, and the other tensors that contenders need."""

    def full(value: Optional[float], of: torch.dtype = torch.float32) -> Optional[torch.Tensor]:
        return None if value is None else torch.full((rows,), value, dtype=of, device="cuda")

    logits = torch.randn(rows, vocab, device="cuda") * spread
    tensors = {
        "logits": logits.to(dtype),
        "out": torch.full((rows,), -1, device="cuda"),
        "workspace": torch.empty(
            ops.sample_workspace_size(rows, vocab), dtype=torch.int64, device="cuda"
        ),
        "temperatures": full(how.temperature),
        "top_k": full(how.top_k, torch.int64),
        "top_p": full(how.top_p),
        "min_p": full(how.min_p),
        "seeds": full(SEED, torch.int64),
        "draws": torch.arange(rows, device="cuda"),
        "temperature": full(how.temperature or 1.0),
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def vllm_sample(each: Tensors) -> torch.Tensor:
    names = ("temperatures", "top_k", "top_p", "min_p", "seeds", "draws", "workspace")
    ops.sample(each["out"], each["logits"], *(each.get(name) for name in names))
    return each["out"]


def draw(probabilities: torch.Tensor) -> torch.Tensor:
    noise = torch.empty_like(probabilities).exponential_()
    return (probabilities / noise).argmax(-1)


def by_torch(how: How) -> Callable[[torch.Tensor], torch.Tensor]:
    """logits [rows, vocab] -> tokens [rows]."""

    def sample(logits: torch.Tensor) -> torch.Tensor:
        if how.temperature == 0:
            return logits.argmax(-1)
        scaled = logits.float() / how.temperature
        if how.top_k is not None:
            kth = scaled.topk(how.top_k, dim=-1).values[:, -1:]
            scaled = scaled.masked_fill(scaled < kth, -torch.inf)
        if how.top_p is not None:
            ordered, order = scaled.sort(dim=-1, descending=True)
            mass = ordered.softmax(-1).cumsum(-1)
            before = torch.nn.functional.pad(mass[:, :-1], (1, 0))
            ordered = ordered.masked_fill(before >= how.top_p, -torch.inf)
            return order.gather(-1, draw(ordered.softmax(-1))[:, None])[:, 0]
        probabilities = scaled.softmax(-1)
        if how.min_p is not None:
            least = probabilities.amax(-1, keepdim=True) * how.min_p
            probabilities = probabilities.masked_fill(probabilities < least, 0)
        return draw(probabilities)

    return sample


def by_flashinfer(how: How) -> Dict[str, Callable[[Tensors], torch.Tensor]]:
    """FlashInfer's implementations by name; none for greedy. It samples from float32."""
    from flashinfer import sampling

    fixed = {"seed": SEED, "offset": 0}  # a generator's state could not be captured

    def probabilities(each: Tensors) -> torch.Tensor:
        return sampling.softmax(each["logits"], temperature=each["temperature"])

    def scaled(each: Tensors) -> torch.Tensor:
        return each["logits"].float() / how.temperature

    if how.temperature == 0:
        return {}
    if how.top_k is not None and how.top_p is not None:
        return {
            "flashinfer": lambda each: sampling.top_k_top_p_sampling_from_logits(
                scaled(each), how.top_k, how.top_p, **fixed
            ),
            "flashinfer joint": lambda each: sampling.top_k_top_p_sampling_from_probs(
                probabilities(each), how.top_k, how.top_p, filter_apply_order="joint", **fixed
            ),
        }
    if how.top_k is not None:
        return {
            "flashinfer": lambda each: sampling.top_k_sampling_from_probs(
                probabilities(each), how.top_k, **fixed
            )
        }
    if how.top_p is not None:
        return {
            "flashinfer": lambda each: sampling.top_p_sampling_from_probs(
                probabilities(each), how.top_p, **fixed
            )
        }
    if how.min_p is not None:
        return {
            "flashinfer": lambda each: sampling.min_p_sampling_from_probs(
                probabilities(each), how.min_p, **fixed
            )
        }
    return {
        "flashinfer": lambda each: sampling.sampling_from_logits(scaled(each), **fixed),
        "flashinfer probs": lambda each: sampling.sampling_from_probs(probabilities(each), **fixed),
    }


def distribution(logits: torch.Tensor, how: How, relaxed: float = 0.0) -> torch.Tensor:
    """What one row is drawn from, float64; `relaxed` keeps a little more than the definition."""
    z = (logits.double().max() - logits.double()) / how.temperature
    weights = (-z).exp()
    limit = torch.tensor(torch.inf, device=logits.device, dtype=torch.float64)
    if how.top_k is not None:
        limit = z.sort().values[how.top_k - 1]
    if how.top_p is not None:
        ordered = z.sort().values
        inside = torch.where(ordered <= limit, (-ordered).exp(), 0.0)
        before = (inside.cumsum(0) - inside) / inside.sum()
        limit = torch.minimum(limit, ordered[before < how.top_p + relaxed].max())
    kept = z <= limit + relaxed
    if how.min_p is not None:
        kept &= weights >= how.min_p * (1 - relaxed)
    weights = torch.where(kept, weights, 0.0)
    return weights / weights.sum()
