from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import ROUNDING, assert_close, bits
from tests.reference.few_rows_linear import few_rows_linear
from vllm import ops

EPSILON = 1e-6
ROWS = [0, 1, 3, 8, 9, 16]
# (inputs, outputs)
SHAPES = [(8, 1), (64, 8), (72, 130), (520, 33)]
# Of the inputs as many pieces of 64 as warps, fewer, more, several times as many; outputs for
# blocks of 8, 16, 32, 48 and more weight rows, and a last block with fewer.
LARGE_SHAPES = [(520, 1000), (3072, 1030), (1160, 2050), (1024, 4100), (2056, 6150), (128, 30007)]
# With which up to 8 rows have kernels without loops, in some forms, on 129 to 148 multiprocessors.
LARGE_SHAPES += [(2048, 1030), (2048, 2060), (1024, 3080)]
FORMS = {
    "plain": {},
    "bias": {"bias": True},
    "norm": {"norm": True},
    "residual": {"residual": True},
    "gated": {"gated": True},
    "all": {"bias": True, "norm": True, "residual": True, "gated": True},
}


class Case:
    """Arguments of a call, and the result that it must have."""

    def __init__(self, kind, rows, inputs, outputs, form, seed=0):
        self.kind, self.rows, self.outputs = kind, rows, outputs
        self.gated = form.get("gated", False)
        weight_rows = 2 * outputs if self.gated else outputs
        self.x = kind.draw(rows, inputs, seed=seed)
        self.weight = kind.draw(weight_rows, inputs, seed=seed + 1, scale=inputs**-0.5)
        self.bias = kind.draw(weight_rows, seed=seed + 2) if form.get("bias") else None
        self.norm = kind.draw(inputs, seed=seed + 3) if form.get("norm") else None
        self.residual = kind.draw(rows, outputs, seed=seed + 4) if form.get("residual") else None

    @property
    def rest(self):
        return self.bias, self.norm, EPSILON, self.gated, self.residual

    def expected(self):
        return few_rows_linear(self.x, self.weight, *self.rest)

    def tolerance(self):
        """Of sums in float32 of another order, and, of a norm, of inputs that are rounded the other
        way, or before they are scaled. silu's slope is at most 1.1, and what it is multiplied by
        below 6."""
        products = 1e-5
        if self.norm is not None and self.rows:
            normed = np.abs(self.x.astype(float)).max() * np.abs(self.norm.astype(float)).max()
            step = 2 * ROUNDING[self.kind.dtype] * normed
            products += 2 * step * np.abs(self.weight.astype(float)).max()
        return products * (6 if self.gated else 1)

    def check(self, found, what=""):
        assert_close(found, self.expected(), self.kind.dtype, self.tolerance(), what)


def can(kind, inputs=8, strided=False):
    """Whether CUDA takes it; what it refuses has tests of its own."""
    return kind.device == "cpu" or (kind.dtype != "float32" and inputs % 8 == 0 and not strided)


def optional(kind, values):
    return None if values is None else kind.tensor(values)


def call(kind, out, x, weight, bias=None, norm=None, epsilon=0.0, gated=False, residual=None):
    vectors = (optional(kind, bias), optional(kind, norm), epsilon, gated)
    ops.few_rows_linear(out, x, weight, *vectors, optional(kind, residual))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_few_rows_linear(kind, inputs, outputs, form):
    if not can(kind):
        return  # test_cuda_takes_no_float32
    for rows in ROWS:
        case = Case(kind, rows, inputs, outputs, form)
        out = kind.empty(rows, outputs)
        call(kind, out.tensor, kind.tensor(case.x), kind.tensor(case.weight), *case.rest)
        case.check(out.read(), f"{rows} rows")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("inputs", "outputs"), LARGE_SHAPES)
def test_shapes_of_models(cuda_kind, inputs, outputs, form):
    if not can(cuda_kind):
        return
    for rows in [1, 2, 7, 8, 9, 15, 16]:
        case = Case(cuda_kind, rows, inputs, outputs, form)
        out = cuda_kind.empty(rows, outputs)
        x, weight = cuda_kind.tensor(case.x), cuda_kind.tensor(case.weight)
        call(cuda_kind, out.tensor, x, weight, *case.rest)
        case.check(out.read(), f"{rows} rows")


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 3), (65, 9)])
def test_the_cpu_takes_any_width(cpu_kind, inputs, outputs):
    case = Case(cpu_kind, 3, inputs, outputs, FORMS["all"])
    out = cpu_kind.empty(3, outputs)
    call(cpu_kind, out.tensor, cpu_kind.tensor(case.x), cpu_kind.tensor(case.weight), *case.rest)
    case.check(out.read())


def test_a_single_product_is_rounded_to_float32_and_then_to_the_dtype(cpu_kind):
    """Of any bits, subnormal numbers and infinities too: some processors' dot products take the
    former as zero, or round otherwise."""
    width = np.dtype(cpu_kind.numpy_dtype).itemsize
    draw = np.random.default_rng(0).integers
    x = draw(0, 2 ** (8 * width), (300, 1)).astype(f"u{width}").view(cpu_kind.numpy_dtype)
    weight = draw(0, 2 ** (8 * width), (301, 1)).astype(f"u{width}").view(cpu_kind.numpy_dtype)
    with np.errstate(all="ignore"):
        product = (x.astype(np.float64) * weight.astype(np.float64).T).astype(np.float32)
        expected = product.astype(cpu_kind.numpy_dtype).astype(np.float32)
    for begin in range(0, 300, 15):
        out = cpu_kind.empty(15, 301)
        rows = slice(begin, begin + 15)
        ops.few_rows_linear(out.tensor, cpu_kind.tensor(x[rows]), cpu_kind.tensor(weight))
        np.testing.assert_array_equal(out.read().astype(np.float32), expected[rows])


@pytest.mark.parametrize("form", ["plain", "all"])
def test_rows_with_strides(kind, form):
    """NaN lies between the rows of what is read; what is written there would be seen."""
    if not can(kind):
        return
    case = Case(kind, 5, 136, 70, FORMS[form])

    def place(values, strided=True):
        if kind.device == "cpu":
            return kind.place(values, strided)
        wide = kind.array(np.full((len(values), values.shape[1] + 8), np.nan))
        wide[:, : values.shape[1]] = values
        placed = kind.place(wide)
        placed.tensor = placed.tensor[:, : values.shape[1]]
        return placed

    out = kind.empty(5, 70, strided=True)
    x, weight = place(case.x), place(case.weight)
    residual = None
    if case.residual is not None:
        residual = kind.place(case.residual, True).tensor
    vectors = (optional(kind, case.bias), optional(kind, case.norm), EPSILON, case.gated)
    ops.few_rows_linear(out.tensor, x.tensor, weight.tensor, *vectors, residual)
    case.check(out.read())


def test_out_may_be_the_residual(kind, strided):
    if not can(kind):
        return
    case = Case(kind, 11, 200, 40, FORMS["residual"])
    both = kind.place(case.residual, strided)
    x, weight = kind.tensor(case.x), kind.tensor(case.weight)
    ops.few_rows_linear(both.tensor, x, weight, residual=both.tensor)
    case.check(both.read())


@pytest.mark.parametrize("inputs", [640, 2048])
def test_special_values_stay_in_their_row_and_output(kind, inputs):
    if not can(kind):
        return
    case = Case(kind, 10, inputs, 24, FORMS["norm"])
    case.x[3, inputs - 1] = np.nan
    case.x[9, 0] = np.nan
    case.weight[5, 17] = np.nan
    case.weight[23, inputs - 2] = np.inf
    out = kind.empty(10, 24)
    call(kind, out.tensor, kind.tensor(case.x), kind.tensor(case.weight), *case.rest)
    found = out.read().astype(np.float64)
    wrong = np.zeros(found.shape, bool)
    wrong[[3, 9]] = wrong[:, [5, 23]] = True
    np.testing.assert_array_equal(np.isfinite(found), ~wrong)


@pytest.mark.parametrize("form", ["plain", "all"])
@pytest.mark.parametrize(("inputs", "outputs"), [(1024, 24), (640, 50)])
def test_a_row_does_not_depend_on_its_company(kind, inputs, outputs, form):
    if can(kind):
        check_company(kind, inputs, outputs, form)


@pytest.mark.parametrize(
    ("inputs", "outputs", "form"),
    [
        *((*shape, form) for shape in [(640, 4100), (128, 30000)] for form in ("plain", "all")),
        # Kernels without loops give the bits of those with loops, which are for more rows.
        *((3072, 1024, form) for form in ("plain", "bias", "residual", "all")),
        *((2048, 1024, form) for form in ("plain", "bias", "residual", "all")),
        *((2048, 2048, form) for form in ("plain", "residual")),
        *((1024, 4096, form) for form in ("norm", "all")),
        *((1024, 3072, form) for form in ("gated", "all")),
    ],
)
def test_a_row_does_not_depend_on_its_company_in_models(cuda_kind, inputs, outputs, form):
    if can(cuda_kind):
        check_company(cuda_kind, inputs, outputs, form)


def check_company(kind, inputs, outputs, form):
    case = Case(kind, 16, inputs, outputs, FORMS[form])

    def run(rows):
        case.rows = len(rows)
        residual = None if case.residual is None else case.residual[rows]
        out = kind.empty(len(rows), outputs)
        x, weight = kind.tensor(case.x[rows]), kind.tensor(case.weight)
        call(kind, out.tensor, x, weight, *case.rest[:4], residual)
        return bits(out.read())

    all_rows = run(list(range(16)))
    for rows in [[3], [15, 0, 7], list(range(8)), list(range(9))]:
        np.testing.assert_array_equal(run(rows), all_rows[rows])


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (array(17, 3), array(17, 8), array(3, 8)),
            ValueError,
            "argument 'x' has 17 rows; it takes at most 16",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 7)),
            ValueError,
            "argument 'weight' has shape (3, 7); it takes (3, 8), as many inputs as 'x' has",
        ),
        (
            (array(2, 4), array(2, 8), array(3, 8)),
            ValueError,
            "argument 'out' has shape (2, 4); it takes (2, 3), the rows of 'x' and the outputs",
        ),
        (
            (array(2, 3), array(8), array(3, 8)),
            ValueError,
            "argument 'x' has shape (8,); it takes (rows, inputs)",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 8), array(4)),
            ValueError,
            "argument 'bias' has shape (4,); it takes (3,), the rows of 'weight'",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 8), None, array(3)),
            ValueError,
            "argument 'norm_weight' has shape (3,); it takes (8,), a row of 'x'",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 8), None, array(8), -1.0),
            ValueError,
            "argument 'epsilon' is -1; it takes a finite number that is not negative",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 8), None, None, 0.0, True),
            ValueError,
            "argument 'weight' has 3 rows; it takes an even number of them if gated",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 8), None, None, 0.0, False, array(2, 2)),
            ValueError,
            "argument 'residual' has shape (2, 2); it takes (2, 3), the shape of 'out'",
        ),
        (
            (array(2, 3), array(2, 8), array(3, 8, dtype=np.float16)),
            TypeError,
            "argument 'weight' has dtype float16; it takes float32, the dtype of 'x'",
        ),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"few_rows_linear: {message}")):
        ops.few_rows_linear(*arguments)


def test_out_shares_no_memory_with_inputs():
    x = array(2, 8)
    with pytest.raises(ValueError, match="argument 'out' shares memory with 'x'"):
        ops.few_rows_linear(x, x, array(8, 8))


def test_what_cuda_refuses(cuda_kind):
    def refused(error, message, x, weight, norm=None):
        out = cuda_kind.empty(len(x), len(weight))
        with pytest.raises(error, match=f"few_rows_linear: argument {message}"):
            ops.few_rows_linear(out.tensor, x, weight, None, norm)
        assert np.isnan(out.read().astype(np.float64)).all()

    even, odd = cuda_kind.draw(2, 16), cuda_kind.draw(2, 20)
    tensor = cuda_kind.tensor(even)
    if cuda_kind.dtype == "float32":
        refused(TypeError, "'x' has dtype float32; it takes float16 or bfloat16", tensor, tensor)
        return
    odd = cuda_kind.tensor(odd)
    refused(ValueError, "'x' has rows of 20 elements; it takes a multiple of 8", odd, odd)
    starts = "has rows that do not start at multiples of 16 bytes"
    refused(ValueError, f"'x' {starts}", odd[:, :16], tensor)
    refused(ValueError, f"'weight' {starts}", tensor, odd[:, 4:])
    refused(ValueError, f"'norm_weight' {starts}", tensor, tensor, odd.flatten()[4:20])
