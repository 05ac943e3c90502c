"""``vllm bench throughput|latency``, as a person types it: vLLM's options, lines and keys."""

from __future__ import annotations

import json
import re

import pytest

from vllm.entrypoints.cli import main

SMALL = ["--num-kv-blocks", "64"]
SHORT = ["--input-len", "5", "--output-len", "4"]


@pytest.fixture
def bench(chat_model, capsys, tmp_path):
    """bench(kind, *options) -> exit status, standard output, standard error, the JSON."""

    def run(kind, *options):
        file = tmp_path / "figures.json"
        words = [kind, "--model", str(chat_model.folder), *SMALL, "--output-json", str(file)]
        status = main(["bench", *words, *map(str, options)])
        shown = capsys.readouterr()
        figures = json.loads(file.read_text()) if file.exists() else None
        return status, shown.out, shown.err, figures

    return run


def test_throughput_has_vllms_lines_and_keys(bench):
    status, out, err, figures = bench("throughput", "--num-prompts", 5, *SHORT, "--n", 2)
    assert status == 0
    assert figures["num_requests"] == 5
    assert figures["total_prompt_tokens"] == 25
    assert figures["total_output_tokens"] == 40
    assert figures["total_num_tokens"] == 65
    assert figures["tokens_per_second"] == pytest.approx(65 / figures["elapsed_time"])
    assert figures["requests_per_second"] == pytest.approx(5 / figures["elapsed_time"])
    assert figures["first_token_seconds_p50"] <= figures["request_seconds_p99"]
    found = re.search(
        r"^Throughput: ([\d.]+) requests/s, ([\d.]+) total tokens/s, ([\d.]+) output tokens/s\n"
        r"Total num prompt tokens:  25\nTotal num output tokens:  40$",
        out,
        re.M,
    )
    names = ("requests_per_second", "tokens_per_second", "output_tokens_per_second")
    assert found.groups() == tuple(f"{figures[name]:.2f}" for name in names)
    assert re.search(r"^preemptions +0$", out, re.M)
    assert "figures.json" in err


def test_lengths_within_a_ratio_behind_a_prefix(bench):
    words = ["--num-prompts", 6, "--input-len", 10, "--prefix-len", 3, "--output-len", 4]
    status, _, _, figures = bench("throughput", *words, "--random-range-ratio", 0.5)
    assert status == 0
    assert 6 * (3 + 5) <= figures["total_prompt_tokens"] <= 6 * (3 + 15)
    assert 6 * 2 <= figures["total_output_tokens"] <= 6 * 6


@pytest.mark.parametrize("option", ["--dataset-path", "--dataset"])
def test_a_file_is_one_of_conversations(bench, tmp_path, option):
    path = tmp_path / "talks.json"
    talk = {"conversations": [{"value": "the cat sat on the mat"}, {"value": "the dog " * 3}]}
    path.write_text(json.dumps([talk] * 3))
    status, _, _, figures = bench("throughput", option, path, "--output-len", 7)
    assert status == 0
    assert figures["num_requests"] == 3
    assert figures["total_output_tokens"] == 21


def test_a_model_without_a_tokenizer(bench, chat_model, tmp_path):
    import shutil

    shutil.copytree(chat_model.folder, tmp_path / "model")
    (tmp_path / "model/tokenizer.json").unlink()
    words = ["bench", "throughput", str(tmp_path / "model"), *SMALL, *SHORT, "--num-prompts", "2"]
    assert main([*words, "--disable-detokenize"]) == 0
    assert main(words) == 2


def test_latency_has_vllms_lines_and_keys(bench):
    words = ["--batch-size", 2, "--num-iters", 3, "--num-iters-warmup", 0, *SHORT]
    status, out, _, figures = bench("latency", *words)
    assert status == 0
    times = figures["latencies"]
    assert len(times) == 3
    assert figures["avg_latency"] == pytest.approx(sum(times) / 3)
    assert list(figures["percentiles"]) == ["10", "25", "50", "75", "90", "99"]
    assert figures["percentiles"]["50"] == sorted(times)[1]
    assert figures["first_token_seconds_p50"] <= max(times)
    lines = [f"Avg latency: {figures['avg_latency']} seconds"]
    lines.append(f"Std latency: {figures['std_latency']} seconds")
    for p, value in figures["percentiles"].items():
        lines.append(f"{p}% percentile latency: {value} seconds")
    assert out.endswith("\n".join(lines) + "\n")
    assert "next token milliseconds p99" in out


def test_latency_of_a_beam_search(bench):
    words = ["--batch-size", 2, "--num-iters", 2, "--num-iters-warmup", 1, *SHORT]
    status, out, _, figures = bench("latency", *words, "--use-beam-search", "--n", 2)
    assert status == 0
    assert len(figures["latencies"]) == 2
    assert "first token" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["throughput", "--async-engine"], "measured with its server: `vllm bench serve`"),
        (["throughput", "--backend", "hf"], "takes backend only as 'vllm' or None, got 'hf'"),
        (["throughput", "--enable-lora"], "vllm bench throughput takes enable_lora only as False"),
        (["throughput", "--profile"], "no profiler is started"),
        (["throughput", "--input-len", "0"], "--input-len must be at least 1, got 0"),
        (["throughput", "--n", "0"], "--n must be at least 1, got 0"),
        (["throughput", "--num-prompts", "0"], "--num-prompts must be at least 1, got 0"),
        (["throughput", "--dataset-name", "sharegpt"], "sharegpt needs --dataset-path"),
        (["throughput", "--output-json", "/no/such/x.json"], "there is no folder /no/such"),
        (["latency", "--num-iters", "0"], "--num-iters must be at least 1, got 0"),
        (["latency", "--num-iters-warmup", "-1"], "--num-iters-warmup must be at least 0, got -1"),
        (["latency", "another"], "name one model: vllm bench latency MODEL, or --model MODEL"),
    ],
)
def test_what_is_refused(bench, words, message):
    status, out, err, _ = bench(*words)
    assert (status, out) == (2, "")
    assert message in err
