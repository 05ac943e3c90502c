"""The CUDA kernels where they differ from the CPU's: packs of 16 bytes and none, edges of memory,
sizes beyond 32 bits, positions out of range."""

from __future__ import annotations

import pytest

from vllm import ops

torch = pytest.importorskip("torch")

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
CANARY = 77.0  # exact in every dtype


class Guarded:
    """A tensor inside a larger one: rows `gap` elements apart, everything around it CANARY."""

    def __init__(self, shape, dtype, offset=0, gap=0):
        rows, width = shape
        self.buffer = torch.full((256 + rows * (width + gap),), CANARY, dtype=dtype, device="cuda")
        strides = (width + gap, 1)
        self.tensor = self.buffer.as_strided(shape, strides, 64 + offset)
        outside = torch.ones_like(self.buffer, dtype=torch.bool)
        outside.as_strided(shape, strides, 64 + offset)[:] = False
        self._outside = outside

    def filled(self, seed: int):
        generator = torch.Generator("cuda").manual_seed(seed)
        self.tensor.normal_(generator=generator)
        return self

    def is_untouched_outside(self) -> bool:
        return bool((self.buffer[self._outside] == CANARY).all())


def close(got, expected, dtype) -> None:
    torch.testing.assert_close(
        got.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], check_dtype=False
    )


def norm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


# Widths around a warp, a block, and two packs per thread; with offset 0 and gap 0 or 8 most of
# them are read in packs of 16 bytes, with any other element by element.
LAYOUTS = [(0, 0), (0, 8), (1, 0), (0, 3), (4, 8)]
WIDTHS = [1, 2, 7, 8, 31, 64, 100, 1000, 1024, 4096, 5120, 8200, 16384, 16392, 40000]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("offset", "gap"), LAYOUTS)
def test_norms_stay_inside_their_tensors(dtype, offset, gap):
    for width in WIDTHS:
        input = Guarded((3, width), dtype, offset, gap).filled(1)
        residual = Guarded((3, width), dtype, offset, gap).filled(2)
        out = Guarded((3, width), dtype, offset, gap)
        weight = Guarded((1, width), dtype, offset).filled(3)
        wide = [each.tensor.double() for each in (input, residual)]
        factors = weight.tensor[0].double()

        ops.rms_norm(out.tensor, input.tensor, weight.tensor[0], 1e-6)
        close(out.tensor, norm(wide[0], factors), dtype)

        ops.fused_add_rms_norm(input.tensor, residual.tensor, weight.tensor[0], 1e-6)
        added = (wide[0] + wide[1]).to(dtype)  # both are exact in float64
        assert torch.equal(residual.tensor, added), width
        close(input.tensor, norm(added.double(), factors), dtype)
        for each in (input, residual, out, weight):
            assert each.is_untouched_outside(), width


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("offset", "gap"), LAYOUTS)
def test_the_activation_stays_inside_its_tensors(dtype, offset, gap):
    for width in WIDTHS:
        input = Guarded((3, 2 * width), dtype, offset, gap).filled(1)
        out = Guarded((3, width), dtype, offset, gap)
        ops.silu_and_mul(out.tensor, input.tensor)
        gate, up = input.tensor.double().split(width, -1)
        close(out.tensor, gate * gate.sigmoid() * up, dtype)
        assert input.is_untouched_outside(), width
        assert out.is_untouched_outside(), width


def rotated(x, heads, head_size, angles, is_neox):
    half = angles.shape[-1] // 2
    x = x.double().reshape(len(x), heads, head_size).clone()
    turned = x[..., : 2 * half]
    first, second = (
        (turned[..., :half], turned[..., half:])
        if is_neox
        else (turned[..., ::2], turned[..., 1::2])
    )
    cosine, sine = angles.double()[:, None, :].split(half, -1)
    pair = first * cosine - second * sine, second * cosine + first * sine
    x[..., : 2 * half] = torch.cat(pair, -1) if is_neox else torch.stack(pair, -1).flatten(-2)
    return x.flatten(1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("offset", "gap"), LAYOUTS)
@pytest.mark.parametrize("is_neox", [True, False], ids=["neox", "gptj"])
def test_the_rotation_stays_inside_its_tensors(dtype, offset, gap, is_neox):
    tokens = 4
    for heads, kv_heads, head_size, rotary_size in [
        (1, 1, 2, 2),
        (3, 1, 10, 6),
        (4, 2, 64, 64),
        (4, 4, 64, 48),
        (32, 8, 128, 128),
        (71, 1, 64, 64),
    ]:
        query = Guarded((tokens, heads * head_size), dtype, offset, gap).filled(1)
        key = Guarded((tokens, kv_heads * head_size), dtype, offset, gap).filled(2)
        cache = Guarded((9, rotary_size), dtype, offset, gap).filled(3)
        positions = torch.tensor([8, 0, 3, 3], device="cuda")
        angles = cache.tensor[positions]
        expected = [
            rotated(query.tensor, heads, head_size, angles, is_neox),
            rotated(key.tensor, kv_heads, head_size, angles, is_neox),
        ]
        ops.rotary_embedding(positions, query.tensor, key.tensor, head_size, cache.tensor, is_neox)
        for each, wanted in zip((query, key), expected):
            close(each.tensor, wanted, dtype)
            assert each.is_untouched_outside(), (heads, head_size)
        assert cache.is_untouched_outside()


@pytest.mark.parametrize("is_neox", [True, False], ids=["neox", "gptj"])
@pytest.mark.parametrize("rotary_size", [32, 6])
def test_a_position_out_of_range_makes_nan_and_touches_nothing_else(is_neox, rotary_size):
    positions = torch.tensor([1, -1, 5, 2**62, 4], device="cuda")  # of 5 rows
    query = torch.randn(5, 2, 64, device="cuda")
    cache = torch.randn(5, rotary_size, device="cuda")
    before = query.clone()
    ops.rotary_embedding(positions, query, None, 64, cache, is_neox)
    for token in (1, 2, 3):
        assert query[token, :, :rotary_size].isnan().all()
    assert torch.equal(query[..., rotary_size:], before[..., rotary_size:])
    for token in (0, 4):
        angles = cache[positions[token : token + 1]]
        expected = rotated(before[token : token + 1], 2, 64, angles, is_neox)
        close(query[token : token + 1].flatten(1), expected, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_at_the_edges_of_a_dtype(dtype):
    """Rounding is to nearest even, infinities and NaN stay what they are, nothing saturates."""
    largest = torch.finfo(dtype).max
    values = [0.0, -0.0, 1.0, largest, -largest, float("inf"), float("nan"), 2.0**-20, 2.0**-130]
    gate = torch.tensor(values, dtype=dtype, device="cuda")
    up = torch.full_like(gate, 1.0)
    out = torch.empty_like(gate)
    ops.silu_and_mul(out, torch.cat([gate, up]))
    wide = gate.float()
    expected = (wide / (1 + (-wide).exp())).to(dtype)
    torch.testing.assert_close(out, expected, rtol=2**-7, atol=0, equal_nan=True)


def needs_memory(gigabytes: int) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free < gigabytes << 30:
        pytest.skip(f"needs {gigabytes} GiB of free GPU memory; there are {free >> 30}")


def test_more_rows_than_a_grid_has_blocks():
    needs_memory(15)
    rows = 2**31 + 5
    input = torch.ones(rows, 2, dtype=torch.bfloat16, device="cuda")
    out = torch.zeros(rows, 1, dtype=torch.bfloat16, device="cuda")
    input[-1] = 2
    ops.silu_and_mul(out, input)
    first = torch.nn.functional.silu(torch.ones(1)).bfloat16().item()
    assert out[0].item() == out[2**31 - 1].item() == out[-2].item() == first
    assert out[-1].item() == (2 * torch.nn.functional.silu(torch.tensor(2.0))).bfloat16().item()
    assert bool((out[:-1] == first).all())


def test_more_elements_than_32_bits_count():
    needs_memory(12)
    rows, width = 70_000, 32_768  # 2.29e9 elements
    values = torch.ones(rows, width, dtype=torch.bfloat16, device="cuda")
    values[-1] = 4
    values[-1, ::2] = -4
    weight = torch.full((width,), 3.0, dtype=torch.bfloat16, device="cuda")
    ops.rms_norm(values, values, weight, 0.0)
    assert bool((values[:-1] == 3).all())
    assert bool((values[-1, 1::2] == 3).all())
    assert bool((values[-1, ::2] == -3).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [512, 1024, 4096])
def test_sums_of_more_than_the_cache_holds(dtype, width):
    """They have a kernel of their own, with the same results to the bit."""
    rows = 2**26 // width  # of each 128 MiB, or 256 in float32
    generator = torch.Generator("cuda").manual_seed(0)
    given = torch.randn(2, rows, width, device="cuda", generator=generator).to(dtype)
    weight = torch.randn(width, device="cuda", generator=generator).to(dtype)
    at_once, in_parts = given.clone(), given.clone()
    ops.fused_add_rms_norm(*at_once, weight, 1e-6)
    for part in in_parts.split(rows // 7, 1):
        ops.fused_add_rms_norm(*part, weight, 1e-6)
    assert torch.equal(at_once, in_parts)
    added = (given[0, -9:].double() + given[1, -9:].double()).to(dtype)
    assert torch.equal(at_once[1, -9:], added)
    close(at_once[0, -9:], norm(added.double(), weight.double()), dtype)


def test_more_rows_than_a_launch_takes():
    """65535, where blocks along x have the parts of a row."""
    rows = 2 * 65535 + 7
    ids = torch.arange(rows, device="cuda").flip(0)
    table = torch.randn(rows, 24, device="cuda")
    out = torch.full_like(table, float("nan"))
    ops.embedding(out, ids, table)
    assert torch.equal(out, table.flip(0))

    halves = table.view(rows, 2, 1, 12).unbind(1)
    caches = [torch.full((rows, 1, 1, 12), float("nan"), device="cuda") for _ in "kv"]
    ops.reshape_and_cache(*halves, *caches, ids)
    for half, cache in zip(halves, caches):
        assert torch.equal(cache[:, 0], half.flip(0))

    activated = torch.full((rows, 12), float("nan"), device="cuda")
    ops.silu_and_mul(activated, table)
    gate, up = table.double().split(12, -1)
    close(activated, gate * gate.sigmoid() * up, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "normed"])
def test_many_tokens_are_turned_as_few_are(dtype, normed):
    """By other kernels, from 512 tokens on with a cache and from 2048 without."""
    tokens, heads, kv_heads, size = 2100, 4, 2, 128
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, device="cuda", generator=generator).to(dtype)

    query, key = normal(tokens, heads, size), normal(tokens, kv_heads, size)
    value, angles = normal(tokens, kv_heads, size), normal(50, size)
    weights = (normal(size), normal(size)) if normed else (None, None)
    positions = torch.arange(tokens, device="cuda") % 50

    def run(parts: int):
        turned, again = query.clone(), query.clone()
        shape = (tokens, 1, kv_heads, size)
        caches = [torch.full(shape, CANARY, dtype=dtype, device="cuda") for _ in "kv"]
        slots = torch.arange(tokens, device="cuda").flip(0)
        for part in torch.arange(tokens).chunk(parts):
            here = slice(int(part[0]), int(part[-1]) + 1)
            of_part = (each[here] for each in (positions, turned, key, value))
            ops.rotary_and_cache(*of_part, angles, *caches, slots[here], *weights)
            ops.rotary_embedding(positions[here], again[here], None, size, angles)
        return (turned, again, *caches)

    for at_once, in_parts in zip(run(1), run(9)):
        torch.testing.assert_close(at_once, in_parts, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ("out", "argument 'out' is on the CPU; it takes a tensor on cuda:0, where 'input' is"),
        ("weight", "argument 'weight' is on the CPU; it takes a tensor on cuda:0"),
        ("input", "argument 'out' is on cuda:0; it takes a tensor on the CPU"),
    ],
)
def test_devices_are_not_mixed(move, words):
    tensors = {
        "out": torch.empty(2, 8, device="cuda"),
        "input": torch.ones(2, 8, device="cuda"),
        "weight": torch.ones(8, device="cuda"),
    }
    tensors[move] = tensors[move].cpu()
    with pytest.raises(ValueError, match=words):
        ops.rms_norm(*tensors.values(), 1e-6)


def test_no_rows_launch_nothing():
    empty = torch.empty(0, 64, device="cuda")
    ops.rms_norm(empty, empty, torch.ones(64, device="cuda"), 1e-6)
    ops.silu_and_mul(empty[:, :32], empty.clone())
    positions = torch.empty(0, dtype=torch.int64, device="cuda")
    ops.rotary_embedding(positions, empty, None, 32, torch.ones(4, 32, device="cuda"))
    torch.cuda.synchronize()


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_compiled_function_runs_them(backend):
    if backend == "inductor":
        pytest.importorskip("triton")
    torch._dynamo.reset()

    def block(x, weight):
        out = torch.empty_like(x)
        ops.rms_norm(out, x * 2, weight, 1e-6)
        return out + 1

    x, weight = torch.randn(5, 64, device="cuda"), torch.randn(64, device="cuda")
    compiled = torch.compile(block, fullgraph=True, backend=backend)(x, weight)
    torch.testing.assert_close(compiled, block(x, weight))
