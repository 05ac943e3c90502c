"""The draws, against a reference that sorts. What is random is a function of seed and count, so
every token is known, but for rounding where the number falls on the border of two."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.reference import sample as reference
from vllm import ops

VOCABS = [1, 2, 7, 255, 256, 257, 1000, 4097, 33_000]
BORDER = 1e-5  # of the cumulative distribution: sums of float32 weights, and their exp


def draw(kind, logits, *, strided=False, **how):
    """Tokens of [rows, vocab] logits; parameters are one for all rows or one for each."""
    rows, vocab = logits.shape

    def entries(name, dtype):
        if name not in how:
            return None
        values = np.broadcast_to(np.asarray(how[name], dtype), (rows,))
        return kind.tensor(np.array(values))

    out = kind.place(np.full(rows, -1))
    workspace = None
    if kind.device == "cuda":
        workspace = kind.place(np.full(ops.sample_workspace_size(rows, vocab), -1))
    placed = kind.place(logits, strided)
    ops.sample(
        out.tensor,
        placed.tensor,
        *(entries(name, np.float32) for name in ["temperatures"]),
        entries("top_k", np.int64),
        *(entries(name, np.float32) for name in ["top_p", "min_p"]),
        *(entries(name, np.int64) for name in ["seeds", "draws"]),
        workspace and workspace.tensor,
    )
    if workspace:
        workspace.read()  # looks around it
    np.testing.assert_array_equal(placed.read().astype(np.float32), logits.astype(np.float32))
    return out.read()


def assert_drawn(tokens, logits, temperatures, seeds, draws, **truncation):
    """Each token is the reference's, or one whose stretch the number misses by rounding."""
    for row, token in enumerate(tokens):
        x = logits[row].astype(np.float32)
        how = {name: np.ravel(values)[row] for name, values in truncation.items()}
        expected = reference.sample(x, temperatures[row], int(seeds[row]), int(draws[row]), **how)
        if token == expected or temperatures[row] == 0:
            assert token == expected, row
            continue
        ends = np.cumsum(reference.distribution(x, temperatures[row], **how))
        u = reference.uniform(int(seeds[row]), int(draws[row]))
        low, high = sorted((token, expected))
        assert ends[high - 1] - ends[low] <= BORDER, f"row {row}: {token}, not {expected}"
        assert abs(u - ends[low]) <= BORDER, f"row {row}: {token}, not {expected}"


def parameters(rows, seed):
    rng = np.random.default_rng(seed)
    temperatures = rng.choice([0, 0.1, 0.7, 1, 3, 100], rows).astype(np.float32)
    return temperatures, rng.integers(-(2**62), 2**62, rows), rng.integers(0, 1000, rows)


def some_logits(kind, rows, vocab, seed):
    """Flat, sharp, and with many ties, in turn."""
    rng = np.random.default_rng(seed)
    scale = np.array([0.0, 0.01, 0.3, 1.0, 4.0, 30.0])[np.arange(rows) % 6, None]
    x = rng.standard_normal((rows, vocab)) * scale
    x[rows // 2 :] = np.round(x[rows // 2 :])
    return kind.array(x)


@pytest.mark.parametrize("vocab", VOCABS)
def test_greedy(kind, vocab, strided):
    logits = some_logits(kind, 12, vocab, vocab)
    expected = logits.astype(np.float32).argmax(-1)  # the first of equals
    np.testing.assert_array_equal(draw(kind, logits, strided=strided), expected)
    parameters = {"temperatures": 0, "seeds": 3, "draws": 4, "top_k": 2, "top_p": 0.5}
    np.testing.assert_array_equal(draw(kind, logits, **parameters), expected)


@pytest.mark.parametrize("vocab", VOCABS)
def test_the_whole_vocabulary(kind, vocab, strided):
    logits = some_logits(kind, 12, vocab, vocab)
    temperatures, seeds, draws = parameters(12, vocab)
    tokens = draw(
        kind, logits, strided=strided, temperatures=temperatures, seeds=seeds, draws=draws
    )
    assert_drawn(tokens, logits, temperatures, seeds, draws)


TRUNCATIONS = [
    {"top_k": [1, 2, 5, 50, 500, 3000]},
    {"top_p": [1e-6, 0.1, 0.5, 0.9, 0.99, 0.9999]},
    {"min_p": [0.0, 0.01, 0.3, 1.0, 1e-6, 0.9]},
    {"top_k": [2, 50, 3000, 3000, 0, 10**12], "top_p": [0.5, 0.9, 0.5, 0.99, 0.9, 0.3]},
    {
        "top_k": [3, 100, 2000, 0, -1, 40],
        "top_p": [1.0, 0.9, 0.8, 0.7, 1.0, 0.1],
        "min_p": [0.1, 0.0, 0.2, 0.05, 0.5, 0.0],
    },
]


@pytest.mark.parametrize("vocab", [*VOCABS[1::2], 33_000])
@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=lambda each: "+".join(each))
def test_truncation(kind, vocab, truncation, strided):
    # Each way meets flat and sharp logits, with ties and without.
    for shift in (0, 3):
        how = {name: np.roll(values * 2, shift) for name, values in truncation.items()}
        logits = some_logits(kind, 12, vocab, vocab + shift)
        temperatures, seeds, draws = parameters(12, vocab + shift)
        tokens = draw(
            kind,
            logits,
            strided=strided,
            temperatures=temperatures,
            seeds=seeds,
            draws=draws,
            **how,
        )
        assert_drawn(tokens, logits, temperatures, seeds, draws, **how)


@pytest.mark.parametrize("truncation", [{}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
def test_many_rows_on_many_threads(kind, truncation):
    rows, vocab = 300, 2000
    logits = kind.draw(rows, vocab, scale=2.0)
    seeds, draws = np.arange(rows), np.arange(rows) % 7
    tokens = draw(kind, logits, temperatures=0.8, seeds=seeds, draws=draws, **truncation)
    how = {name: np.full(rows, value) for name, value in truncation.items()}
    assert_drawn(tokens, logits, np.full(rows, np.float32(0.8)), seeds, draws, **how)


def test_ties_are_kept_or_dropped_together(kind):
    """Of 5000 tokens 1500 are as likely as the second, in many blocks."""
    logits = np.zeros(5000)
    logits[1::3], logits[7] = 1.0, 2.0
    logits[4501:] = 0
    rows = kind.array(np.tile(logits, (400, 1)))
    near = {7, *range(1, 4501, 3)}
    for how in ({"top_k": 2}, {"top_k": 1000}, {"top_p": 0.01}, {"min_p": 0.3}):
        found = draw(kind, rows, temperatures=1, seeds=np.arange(400), draws=0, **how)
        assert set(found.tolist()) <= near
        assert len(set(found.tolist())) > 250
    found = draw(kind, rows, temperatures=1, seeds=np.arange(400), draws=0, top_k=1)
    assert set(found.tolist()) == {7}


def test_one_value_everywhere_and_more_of_it_than_fit_in_a_list(kind):
    rows = kind.array(np.full((3, 70_000), -5.0))
    for how in ({}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 1.0}, {"top_k": 9, "top_p": 0.1}):
        found = draw(kind, rows, temperatures=0.3, seeds=[1, 2, 3], draws=9, **how)
        expected = [int(reference.uniform(seed, 9) * 70_000) for seed in (1, 2, 3)]
        assert found.tolist() == expected


def test_a_seed_means_the_same_for_ever(kind):
    assert reference.splitmix64(1234567) == 6457827717110365317  # the published test vector
    seeds, draws = [0, 1, -(2**63), 2**63 - 1, -1], [0, 1, 2, 3, 10**6]
    tokens = draw(kind, kind.array(np.zeros((5, 4096))), temperatures=1, seeds=seeds, draws=draws)
    assert tokens.tolist() == [int(reference.uniform(*each) * 4096) for each in zip(seeds, draws)]


def test_what_is_not_a_number_is_never_drawn(kind):
    inf, nan = np.inf, np.nan
    rows = kind.array(
        [
            [nan, -inf, 1.0, nan, -inf, nan],
            [nan, nan, nan, nan, nan, nan],
            [-inf, -inf, -inf, -inf, -inf, -inf],
            [nan, -inf, -inf, nan, -inf, -inf],
            [3.0, inf, 2.0, nan, -inf, 0.0],
            [-inf, -inf, -inf, -inf, -inf, -3e4],
        ]
    )
    expected = [2, 0, 0, 0, 1, 5]
    assert draw(kind, rows).tolist() == expected
    for how in ({}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}, {"top_k": 2, "top_p": 0.5}):
        for temperature in (0.01, 1.0, 100.0):
            found = draw(kind, rows, temperatures=temperature, seeds=5, draws=range(6), **how)
            assert found.tolist() == expected, how


def test_infinite_logits_share_the_draws(kind):
    logits = np.zeros((500, 3000))
    logits[:, [5, 2999]] = np.inf
    logits[:, 17] = 1e4
    for how in ({}, {"top_k": 1}, {"top_p": 0.1}, {"min_p": 0.5}):
        found = draw(kind, kind.array(logits), temperatures=1, seeds=3, draws=range(500), **how)
        assert set(found.tolist()) == {5, 2999}
        assert 150 < (found == 5).sum() < 350


def test_tiny_and_huge_temperatures(kind):
    logits = kind.array(np.tile([3e4, 2.9e4, -3e4], (300, 1)))
    cold = draw(kind, logits, temperatures=1e-38, seeds=1, draws=range(300))
    assert set(cold.tolist()) == {0}
    hot = draw(kind, logits, temperatures=1e8, seeds=1, draws=range(300))
    assert set(hot.tolist()) == {0, 1, 2}


def test_no_rows(kind):
    assert draw(kind, kind.array(np.empty((0, 5)))).tolist() == []


def given(rows=2, vocab=8, **others):
    values = {
        "out": np.zeros(rows, np.int64),
        "logits": np.zeros((rows, vocab), np.float32),
        "temperatures": np.ones(rows, np.float32),
        "top_k": None,
        "top_p": None,
        "min_p": None,
        "seeds": np.zeros(rows, np.int64),
        "draws": np.zeros(rows, np.int64),
    }
    return {**values, **others}


@pytest.mark.parametrize(
    ("others", "error", "message"),
    [
        ({"vocab": 0}, ValueError, "'logits' has shape (2, 0); it takes at least one token"),
        ({"out": np.zeros(3, np.int64)}, ValueError, "'out' has shape (3,); it takes (2,)"),
        ({"out": np.zeros(2, np.int32)}, TypeError, "'out' has dtype int32; it takes int64"),
        ({"top_k": np.ones(2, np.int32)}, TypeError, "'top_k' has dtype int32; it takes int64"),
        ({"top_p": np.ones(3, np.float32)}, ValueError, "'top_p' has shape (3,); it takes (2,)"),
        ({"seeds": None}, ValueError, "argument 'seeds' is None; it takes an entry for each row"),
        ({"draws": None}, ValueError, "argument 'draws' is None; it takes an entry for each row"),
        (
            {"logits": np.zeros((2, 2, 4), np.float32)},
            ValueError,
            "'logits' has shape (2, 2, 4); it takes (rows, vocab)",
        ),
        (
            {"logits": np.zeros((8, 2), np.float32).T},
            ValueError,
            "'logits' has stride 2 in its last dimension; it takes 1 there",
        ),
    ],
)
def test_errors(others, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ops.sample(**given(**others))


def test_out_may_not_be_an_argument():
    values = given()
    with pytest.raises(ValueError, match="'out' shares memory with 'draws'"):
        ops.sample(**{**values, "out": values["draws"]})


@pytest.mark.gpu
def test_on_cuda_a_workspace_is_required():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    out, logits = torch.zeros(2, dtype=torch.int64).cuda(), torch.zeros(2, 8).cuda()
    with pytest.raises(ValueError, match="argument 'workspace' is None; on CUDA it takes 4 int64"):
        ops.sample(out, logits)
    small = torch.zeros(3, dtype=torch.int64).cuda()
    with pytest.raises(ValueError, match=re.escape("'workspace' has shape (3,)")):
        ops.sample(out, logits, workspace=small)
