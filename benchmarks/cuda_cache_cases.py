"""Rows of cuda_ops.py that rotate queries and keys, or write to the paged cache."""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import torch
from cuda_op_cases import DEVICE, DTYPE, EPSILON, ITEM, Case, empty, norm, norm32, randn
from cuda_timing import Call, Sets, Tensors

from vllm import ops

HEADS, KV_HEADS, HEAD_SIZE = 32, 8, 128
MAX_POSITION = 32768
BLOCK_SIZE = 16


def cos_sin_table() -> torch.Tensor:
    frequencies = 1e6 ** -(torch.arange(0, HEAD_SIZE, 2) / HEAD_SIZE)
    angles = torch.outer(torch.arange(MAX_POSITION), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(DEVICE)


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """[tokens, heads, head_size] by [tokens, 1, head_size / 2], NeoX style."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class RotaryEmbedding(Case):
    """All sets share positions and table, as the layers of a model do."""

    op = "rotary_embedding"
    written = ("query", "key")
    outputs = ()

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.label = f"{tokens} x ({HEADS} + {KV_HEADS})"
        self.bytes = 2 * tokens * (HEADS + KV_HEADS) * HEAD_SIZE * ITEM
        positions = torch.randint(MAX_POSITION, (tokens,), device=DEVICE)
        table = cos_sin_table()
        self.shared = {
            "positions": positions,
            "positions32": positions.int(),
            "table": table.to(DTYPE),
            "table32": table.to(DTYPE).float(),  # the format of FlashInfer; the same angles
        }

    def make(self) -> Tensors:
        query, key = (randn(self.tokens, heads, HEAD_SIZE) for heads in (HEADS, KV_HEADS))
        return {"query": query, "key": key, **self.shared}

    def angles(self, t: Tensors, dtype: torch.dtype) -> List[torch.Tensor]:
        return list(t["table"][t["positions"]].to(dtype)[:, None].chunk(2, dim=-1))

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        angles = self.angles(t, torch.float64)
        return rotate(t["query"].double(), *angles), rotate(t["key"].double(), *angles)

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        angles = self.angles(t, torch.float32)
        return tuple(t[name].copy_(rotate(t[name].float(), *angles)) for name in ("query", "key"))

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            ops.rotary_embedding(t["positions"], t["query"], t["key"], HEAD_SIZE, t["table"])
            return t["query"], t["key"]

        def flashinfer(t: Tensors) -> Tuple[torch.Tensor, ...]:
            from flashinfer.rope import apply_rope_with_cos_sin_cache_inplace

            query, key = (t[name].flatten(1) for name in ("query", "key"))
            apply_rope_with_cos_sin_cache_inplace(
                t["positions32"], query, key, HEAD_SIZE, t["table32"]
            )
            return t["query"], t["key"]

        def liger(t: Tensors) -> Tuple[torch.Tensor, ...]:
            from liger_kernel.ops.rope import rope_forward

            rope_forward(
                t["query"][None].transpose(1, 2), t["key"][None].transpose(1, 2), *self.liger_angles
            )
            return t["query"], t["key"]

        def eager(t: Tensors) -> Tuple[torch.Tensor, ...]:
            angles = self.angles(t, DTYPE)
            return tuple(rotate(t[name], *angles) for name in ("query", "key"))

        # Liger takes the angles of each token, gathered before, once for all layers.
        rows = self.shared["table"][self.shared["positions"]]
        self.liger_angles = [
            torch.cat((half, half), dim=-1)[None] for half in rows.chunk(2, dim=-1)
        ]
        return {"vllm": ours, "eager": eager, "flashinfer": flashinfer, "liger": liger}


class ReshapeAndCache(Case):
    """All sets write to one cache, each to slots of its own in any order."""

    op = "reshape_and_cache"
    outputs = ("key_cache", "value_cache", "our_key_cache", "our_value_cache")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.label = f"{tokens} x 2 x {KV_HEADS}"
        self.bytes = 4 * tokens * KV_HEADS * HEAD_SIZE * ITEM
        self.shared: Tensors = {}

    def make_sets(self, count: int) -> Sets:
        self.share(count)
        return super().make_sets(count)

    def share(self, count: int) -> None:
        """The caches and other tensors that all sets share."""
        blocks = -(-count * self.tokens // BLOCK_SIZE)
        order = torch.randperm(blocks * BLOCK_SIZE, device=DEVICE)
        self._slots = iter(order[: count * self.tokens].split(self.tokens))
        shape = blocks, BLOCK_SIZE, KV_HEADS, HEAD_SIZE
        stored = blocks, KV_HEADS, BLOCK_SIZE, HEAD_SIZE
        self.shared = {
            "key_cache": empty(*shape),
            "value_cache": empty(*shape),
            # In the engine's layout.
            "our_key_cache": empty(*stored).transpose(1, 2),
            "our_value_cache": empty(*stored).transpose(1, 2),
            # To FlashInfer the whole cache is one sequence, and a slot a position in it.
            "pages": torch.arange(blocks, dtype=torch.int32, device=DEVICE),
            "page_range": torch.tensor([0, blocks], dtype=torch.int32, device=DEVICE),
            "last_page": torch.tensor([BLOCK_SIZE], dtype=torch.int32, device=DEVICE),
            "sequence": torch.zeros(self.tokens, dtype=torch.int32, device=DEVICE),
        }

    def slots(self) -> Tensors:
        slots = next(self._slots)
        return {"slots": slots, "slots32": slots.int()}

    def make(self) -> Tensors:
        key, value = (randn(self.tokens, KV_HEADS, HEAD_SIZE) for _ in "kv")
        return {"key": key, "value": value, **self.slots(), **self.shared}

    def results(self, t: Tensors, returned: Tuple[torch.Tensor, ...]) -> Tuple[torch.Tensor, ...]:
        at = t["slots"] // BLOCK_SIZE, t["slots"] % BLOCK_SIZE
        return tuple(cache[at] for cache in returned)

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        return t["key"].double(), t["value"].double()

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        for name in ("key", "value"):
            t[name + "_cache"].view(-1, KV_HEADS, HEAD_SIZE)[t["slots"]] = t[name]
        return t["key_cache"], t["value_cache"]

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            caches = t["our_key_cache"], t["our_value_cache"]
            ops.reshape_and_cache(t["key"], t["value"], *caches, t["slots"])
            return caches

        return {"vllm": ours, "eager": self.formula, "flashinfer": append_with_flashinfer}


def append_with_flashinfer(t: Tensors) -> Tuple[torch.Tensor, ...]:
    from flashinfer.page import append_paged_kv_cache

    append_paged_kv_cache(
        t["key"],
        t["value"],
        t["sequence"],
        t["slots32"],
        (t["key_cache"], t["value_cache"]),
        t["pages"],
        t["page_range"],
        t["last_page"],
    )
    return t["key_cache"], t["value_cache"]


class RotaryAndCache(RotaryEmbedding):
    """What a layer does between projections and attention; with `normed`, as in Qwen3.

    Query, key and value are slices of one joint projection.
    """

    op = "rotary_and_cache"
    written = ("joint",)
    outputs = (*ReshapeAndCache.outputs, "out")

    def __init__(self, tokens: int, normed: bool) -> None:
        super().__init__(tokens)
        self.normed = normed
        self.label = f"{tokens} x ({HEADS} + 2 x {KV_HEADS}){', norm' if normed else ''}"
        self.bytes = 2 * tokens * (HEADS + 2 * KV_HEADS) * HEAD_SIZE * ITEM
        self.cache = ReshapeAndCache(tokens)

    def make_sets(self, count: int) -> Sets:
        self.cache.share(count)
        return super().make_sets(count)

    def make(self) -> Tensors:
        joint = randn(self.tokens, HEADS + 2 * KV_HEADS, HEAD_SIZE)
        query, key, value = joint.split((HEADS, KV_HEADS, KV_HEADS), dim=1)
        own = {"joint": joint, "query": query, "key": key, "value": value}
        own["out"] = empty(self.tokens, HEADS, HEAD_SIZE)
        weights = {name: randn(HEAD_SIZE) for name in ("query_weight", "key_weight")}
        return {**self.shared, **self.cache.shared, **self.cache.slots(), **weights, **own}

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        return *super().reference(self.normalized(t, norm)), t["value"].double()

    def results(self, t: Tensors, returned: Tuple[torch.Tensor, ...]) -> Tuple[torch.Tensor, ...]:
        return returned[0], *self.cache.results(t, returned[1:])

    def normalized(self, t: Tensors, how: Callable[..., torch.Tensor]) -> Tensors:
        if not self.normed:
            return t
        normed = {name: how(t[name], t[name + "_weight"]) for name in ("query", "key")}
        return {**t, **normed}

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        """With a query of its own: torch.compile writes to a slice by writing all of the whole."""
        parts = t["joint"].split((HEADS, KV_HEADS, KV_HEADS), dim=1)
        sliced = {**t, **dict(zip(("query", "key", "value"), parts))}
        angles = self.angles(t, torch.float32)
        normed = self.normalized(sliced, norm32)
        query, key = (rotate(normed[name].float(), *angles) for name in ("query", "key"))
        t["out"].copy_(query)
        for name, values in (("key", key.to(DTYPE)), ("value", sliced["value"])):
            t[name + "_cache"].view(-1, KV_HEADS, HEAD_SIZE)[t["slots"]] = values
        return t["out"], t["key_cache"], t["value_cache"]

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            inputs = (t[name] for name in ("positions", "query", "key", "value", "table"))
            caches = t["our_key_cache"], t["our_value_cache"]
            weights = [t["query_weight"], t["key_weight"]] if self.normed else [None, None]
            ops.rotary_and_cache(*inputs, *caches, t["slots"], *weights, EPSILON)
            return t["query"], *caches

        def flashinfer(t: Tensors) -> Tuple[torch.Tensor, ...]:
            from flashinfer.norm import rmsnorm
            from flashinfer.rope import _apply_rope_pos_ids_cos_sin_cache as apply_rope

            query, key = t["query"], t["key"]
            if self.normed:
                for x, weight in ((query, t["query_weight"]), (key, t["key_weight"])):
                    rmsnorm(x, weight, EPSILON, out=x)
            # What its documented function calls, which takes no slices of a projection.
            apply_rope(
                q=query,
                k=key,
                q_rope=query,
                k_rope=key,
                cos_sin_cache=t["table32"],
                pos_ids=t["positions32"],
                interleave=False,
            )
            return query, *append_with_flashinfer(t)

        return {"vllm": ours, "eager": self.formula, "flashinfer": flashinfer}
