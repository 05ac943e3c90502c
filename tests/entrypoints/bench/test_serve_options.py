"""Options of ``vllm bench serve`` that are refused."""

from __future__ import annotations

import pytest

from vllm.entrypoints.cli import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-prompts", "0"], "--num-prompts must be at least 1, got 0"),
        (["--random-output-len", "0"], "--random-output-len must be at least 1, got 0"),
        (["--random-range-ratio", "1"], "--random-range-ratio must be in [0, 1), got 1.0"),
        (["--request-rate", "0"], "--request-rate must be above 0, got 0.0"),
        (
            ["--percentile-metrics", "speed"],
            "--percentile-metrics: 'speed' is not one of ttft, tpot",
        ),
        (["--goodput", "itl:5"], "--goodput: 'itl' is not one of"),
        (["--goodput", "ttft"], "--goodput: 'ttft' is not NAME:VALUE"),
        (["--metric-percentiles", "101"], "--metric-percentiles must be in [0, 100]"),
        (["--dataset-name", "sharegpt"], "--dataset-name sharegpt needs --dataset-path"),
        (["--model", "a", "--served-model-name", "b"], "use only one of them"),
        (["--use-beam-search"], "use_beam_search only as False or None, got True"),
        (["--plot-timeline"], "figures are text and JSON"),
        (["--lora-modules", "a=b"], "there are no LoRA adapters"),
        (["--ramp-up-end-rps", "5"], "need --ramp-up-strategy"),
        (["--ramp-up-strategy", "linear"], "needs --ramp-up-start-rps above 0"),
        (
            ["--ramp-up-strategy", "linear", "--request-rate", "3"],
            "replaces --request-rate",
        ),
    ],
)
def test_what_is_refused(capsys, options, message):
    """Before any server is asked: none listens at this port."""
    assert main(["bench", "serve", "--port", "9", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
