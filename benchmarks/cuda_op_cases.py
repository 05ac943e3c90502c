"""Rows of cuda_ops.py: for each op its buffers, its expected result, and the contenders.

Rotary embedding and cache writes are in cuda_cache_cases.py.
"""

from __future__ import annotations

from typing import ClassVar, Dict, Sequence, Tuple

import torch
from cuda_timing import Call, Replay, Sets, Tensors, number_of_sets
from torch.nn import functional

from vllm import ops

DEVICE = "cuda"
EPSILON = 1e-6
DTYPE = torch.bfloat16
ITEM = 2  # bytes
VOCABULARY = 151936


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=DTYPE, device=DEVICE)


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=DTYPE, device=DEVICE)


class Case:
    """One row. Subclasses add `make`, `reference`, `contenders` and `formula`."""

    op: ClassVar[str]
    written: ClassVar[Sequence[str]] = ()
    outputs: ClassVar[Sequence[str]] = ("out",)
    label: str
    bytes: int  # that must be read or written, once each

    def make(self) -> Tensors:
        raise NotImplementedError

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        """The results, in float64."""
        raise NotImplementedError

    def contenders(self) -> Dict[str, Call]:
        raise NotImplementedError

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        """The code for torch.compile; it writes to the same tensors as ours."""
        raise NotImplementedError

    def results(self, t: Tensors, returned: Tuple[torch.Tensor, ...]) -> Tuple[torch.Tensor, ...]:
        """The tensors with the results of a call on `t`."""
        return returned

    def make_sets(self, count: int) -> Sets:
        return Sets([self.make() for _ in range(count)], self.written, self.outputs)

    def compiled(self, mode: str) -> Call:
        def call(t: Tensors) -> Tuple[torch.Tensor, ...]:
            return self.formula(t)

        return torch.compile(call, dynamic=False, fullgraph=True, mode=mode)

    def floor(self) -> Replay:
        half = max(self.bytes // 2 // ITEM, 1)
        count = number_of_sets(self.bytes)
        pairs = [{"from": randn(half), "to": empty(half)} for _ in range(count)]
        return Replay(lambda t: (t["to"].copy_(t["from"]),), Sets(pairs, [], ["to"]))


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = x.double()
    return wide / (wide.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt() * weight.double()


def norm32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON) * weight.float()


class RmsNorm(Case):
    """RMS norm of each row."""

    op = "rms_norm"

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self.label = f"{rows} x {width}"
        self.bytes = (2 * rows + 1) * width * ITEM

    def make(self) -> Tensors:
        shape = self.rows, self.width
        return {"x": randn(*shape), "weight": randn(self.width), "out": empty(*shape)}

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        return (norm(t["x"], t["weight"]),)

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        return (t["out"].copy_(norm32(t["x"], t["weight"])),)

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            ops.rms_norm(t["out"], t["x"], t["weight"], EPSILON)
            return (t["out"],)

        def flashinfer(pdl: bool) -> Call:
            def call(t: Tensors) -> Tuple[torch.Tensor, ...]:
                from flashinfer.norm import rmsnorm

                return (rmsnorm(t["x"], t["weight"], EPSILON, out=t["out"], enable_pdl=pdl),)

            return call

        def liger(t: Tensors) -> Tuple[torch.Tensor, ...]:
            from liger_kernel.ops.rms_norm import rms_norm_forward

            return (rms_norm_forward(t["x"], t["weight"], EPSILON, 0.0, "llama", None)[0],)

        return {
            "vllm": ours,
            "eager": lambda t: (functional.rms_norm(t["x"], (self.width,), t["weight"], EPSILON),),
            "flashinfer": flashinfer(False),
            "flashinfer pdl": flashinfer(True),
            "liger": liger,
        }


class FusedAddRmsNorm(RmsNorm):
    """RMS norm of the sum with a residual; the sum is stored, too."""

    op = "fused_add_rms_norm"
    written = ("x", "residual")
    outputs = ()

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width)
        self.bytes = (4 * rows + 1) * width * ITEM

    def make(self) -> Tensors:
        shape = self.rows, self.width
        return {"x": randn(*shape), "residual": randn(*shape), "weight": randn(self.width)}

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        total = t["x"].double() + t["residual"].double()
        return norm(total.to(DTYPE), t["weight"]), total

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        total = t["x"].float() + t["residual"].float()
        return t["x"].copy_(norm32(total, t["weight"])), t["residual"].copy_(total)

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            ops.fused_add_rms_norm(t["x"], t["residual"], t["weight"], EPSILON)
            return t["x"], t["residual"]

        def flashinfer(pdl: bool) -> Call:
            def call(t: Tensors) -> Tuple[torch.Tensor, ...]:
                from flashinfer.norm import fused_add_rmsnorm

                fused_add_rmsnorm(t["x"], t["residual"], t["weight"], EPSILON, enable_pdl=pdl)
                return t["x"], t["residual"]

            return call

        def liger(t: Tensors) -> Tuple[torch.Tensor, ...]:
            from liger_kernel.ops.fused_add_rms_norm import fused_add_rms_norm_forward

            arguments = t["x"], t["residual"], t["weight"], EPSILON, 0.0, "llama"
            return fused_add_rms_norm_forward(*arguments)[:2]

        def eager(t: Tensors) -> Tuple[torch.Tensor, ...]:
            total = t["residual"] + t["x"]
            return functional.rms_norm(total, (self.width,), t["weight"], EPSILON), total

        return {
            "vllm": ours,
            "eager": eager,
            "flashinfer": flashinfer(False),
            "flashinfer pdl": flashinfer(True),
            "liger": liger,
        }


class SiluAndMul(Case):
    """The gated activation of an MLP."""

    op = "silu_and_mul"

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self.label = f"{rows} x {width}"
        self.bytes = 3 * rows * width * ITEM

    def make(self) -> Tensors:
        return {"x": randn(self.rows, 2 * self.width), "out": empty(self.rows, self.width)}

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        gate, up = t["x"].double().chunk(2, dim=-1)
        return (functional.silu(gate) * up,)

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        gate, up = t["x"].float().chunk(2, dim=-1)
        return (t["out"].copy_(functional.silu(gate) * up),)

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            ops.silu_and_mul(t["out"], t["x"])
            return (t["out"],)

        def flashinfer(pdl: bool) -> Call:
            def call(t: Tensors) -> Tuple[torch.Tensor, ...]:
                from flashinfer.activation import silu_and_mul

                return (silu_and_mul(t["x"], out=t["out"], enable_pdl=pdl),)

            return call

        def liger(t: Tensors) -> Tuple[torch.Tensor, ...]:
            from liger_kernel.ops.swiglu import swiglu_fused_gate_up_forward

            return (swiglu_fused_gate_up_forward(t["x"])[1],)

        def eager(t: Tensors) -> Tuple[torch.Tensor, ...]:
            gate, up = t["x"].chunk(2, dim=-1)
            return (functional.silu(gate) * up,)

        return {
            "vllm": ours,
            "eager": eager,
            "flashinfer": flashinfer(False),
            "flashinfer pdl": flashinfer(True),
            "liger": liger,
        }


class Embedding(Case):
    """All sets read one table, each for its own tokens."""

    op = "embedding"

    def __init__(self, tokens: int, width: int) -> None:
        self.tokens, self.width = tokens, width
        self.label = f"{tokens} x {width}"
        self.bytes = 2 * tokens * width * ITEM

    def make_sets(self, count: int) -> Sets:
        self.table = randn(VOCABULARY, self.width)
        return super().make_sets(count)

    def make(self) -> Tensors:
        ids = torch.randint(VOCABULARY, (self.tokens,), device=DEVICE)
        return {"ids": ids, "table": self.table, "out": empty(self.tokens, self.width)}

    def reference(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        return (t["table"][t["ids"]].double(),)

    def formula(self, t: Tensors) -> Tuple[torch.Tensor, ...]:
        return (t["out"].copy_(functional.embedding(t["ids"], t["table"])),)

    def contenders(self) -> Dict[str, Call]:
        def ours(t: Tensors) -> Tuple[torch.Tensor, ...]:
            ops.embedding(t["out"], t["ids"], t["table"])
            return (t["out"],)

        def eager(t: Tensors) -> Tuple[torch.Tensor, ...]:
            return (torch.index_select(t["table"], 0, t["ids"], out=t["out"]),)

        return {"vllm": ours, "eager": eager}
