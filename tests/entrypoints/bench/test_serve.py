"""``vllm bench serve`` against a real server."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from vllm.entrypoints.cli import main

SHORT = ["--random-input-len", "20", "--random-output-len", "6", "--ignore-eos"]


@pytest.fixture
def bench(server, capsys):
    """bench(*options) -> exit status, standard output, standard error."""

    def run(*options):
        words = ["bench", "serve", "--base-url", server.url, *map(str, options)]
        status = main(words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def line(text, label):
    """The figure behind a label of the report."""
    (found,) = re.findall(rf"^{re.escape(label)}: +([\d.]+) *$", text, re.M)
    return float(found)


def test_the_report_is_vllms(bench):
    percentiles = ["--metric-percentiles", "50,99.9", "--percentile-metrics", "ttft,tpot,itl,e2el"]
    goodput = ["--goodput", "ttft:60000", "tpot:60000"]
    status, out, _ = bench("--num-prompts", 8, *SHORT, *percentiles, *goodput)
    assert status == 0
    assert line(out, "Successful requests") == 8
    assert line(out, "Failed requests") == 0
    assert line(out, "Total input tokens") == 160
    assert line(out, "Total generated tokens") == 48
    assert line(out, "Request goodput (req/s)") == line(out, "Request throughput (req/s)") > 0
    # Tokens that arrive together share an event: `each_token` has what becomes of ITL.
    for metric in ("TTFT", "TPOT", "E2EL"):
        figures = [
            line(out, f"{kind} {metric} (ms)") for kind in ("Mean", "Median", "P50", "P99.9")
        ]
        assert figures[1] == figures[2] <= figures[3]
    assert line(out, "Median E2EL (ms)") >= line(out, "Median TTFT (ms)")


@pytest.mark.parametrize("backend", ["vllm", "openai-chat"])
def test_each_event_with_a_token_counts(each_token, capsys, tmp_path, backend):
    words = ["bench", "serve", "--base-url", each_token.url, "--backend", backend]
    words += ["--num-prompts", "5", *SHORT, "--save-result", "--save-detailed"]
    words += ["--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99.9"]
    assert main([*words, "--result-dir", str(tmp_path), "--result-filename", "a.json"]) == 0
    out = capsys.readouterr().out
    for metric in ("TTFT", "TPOT", "ITL", "E2EL"):
        figures = [
            line(out, f"{kind} {metric} (ms)") for kind in ("Mean", "Median", "P50", "P99.9")
        ]
        assert figures[1] == figures[2] <= figures[3]
    result = json.loads((tmp_path / "a.json").read_text())
    assert [len(times) for times in result["itls"]] == [5] * 5  # six tokens each, one at a time
    assert result["output_lens"] == [6] * 5
    assert result["generated_texts"] == ["a" * 6] * 5
    assert result["mean_itl_ms"] == pytest.approx(
        1000 * sum(map(sum, result["itls"])) / sum(map(len, result["itls"]))
    )
    assert {f"{kind}_itl_ms" for kind in ("mean", "median", "std", "p50", "p99.9")} < set(result)


def test_what_a_server_is_asked(each_token, capsys):
    words = ["bench", "serve", "--base-url", each_token.url, "--served-model-name", "counted"]
    words += ["--num-prompts", "2", *SHORT, "--request-id-prefix", "bench-", "--top-k", "3"]
    words += ["--presence-penalty", "0.5", "--frequency-penalty", "0.25", "--max-concurrency", "1"]
    each_token.asked.clear()
    assert main(words) == 0
    ids = [headers["x-request-id"] for headers, _ in each_token.asked]
    assert ids == ["bench-0", "bench-1", "bench-2"]  # the first one is not counted
    for _, body in each_token.asked:
        assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("counted", 6, True)
        assert (body["presence_penalty"], body["frequency_penalty"]) == (0.5, 0.25)
        assert body["top_k"] == 3


def test_a_result_is_saved(bench, tmp_path):
    words = ["--num-prompts", 3, *SHORT, "--save-detailed", "--append-result", "--max-concurrency"]
    words += [1, "--result-dir", tmp_path / "new", "--result-filename", "all.jsonl"]
    for label in ("first", "second"):
        bench(*words, "--label", label, "--metadata", "machine=mine")
    lines = (tmp_path / "new/all.jsonl").read_text().splitlines()
    results = [json.loads(each) for each in lines]
    assert [result["label"] for result in results] == ["first", "second"]
    for result in results:
        assert (result["model_id"], result["machine"]) == ("tiny", "mine")
        assert result["max_concurrent_requests"] == 1
        assert result["input_lens"] == [20, 20, 20]
        assert result["output_lens"] == [6, 6, 6]
        assert result["errors"] == ["", "", ""]
        assert len(result["generated_texts"]) == len(result["ttfts"]) == 3
        assert result["mean_ttft_ms"] == pytest.approx(1000 * sum(result["ttfts"]) / 3)


def test_a_conversation(bench):
    status, out, _ = bench("--backend", "openai-chat", "--num-prompts", 3, *SHORT)
    assert status == 0
    assert line(out, "Total generated tokens") == 18


def test_prefixes_are_found_in_the_cache(bench, server):
    def hits():
        text = server.http.get("/metrics").text
        (found,) = re.findall(r"^vllm:prefix_cache_hits_total\S* ([\d.e+]+)$", text, re.M)
        return float(found)

    before = hits()
    words = ["--dataset-name", "prefix_repetition", "--prefix-repetition-prefix-len", 32]
    words += ["--prefix-repetition-suffix-len", 8, "--prefix-repetition-num-prefixes", 2]
    words += ["--prefix-repetition-output-len", 2, "--num-prompts", 6, "--max-concurrency", 1]
    status, out, _ = bench(*words)
    assert status == 0
    assert line(out, "Total input tokens") == 240
    assert hits() - before >= 4 * 32


def test_requests_that_fail_are_counted_and_said(bench):
    """The first one has to succeed, so that a wrong option is not measured."""
    words = ["--num-prompts", 4, "--random-input-len", 100, "--random-output-len", 30]
    status, out, err = bench(*words, "--random-range-ratio", 0.9, "--seed", 1)
    assert status == 1
    assert line(out, "Failed requests") > 0
    assert "a request failed: 400: " in err
    status, out, err = bench("--num-prompts", 1, "--random-input-len", 500)
    assert (status, out) == (2, "")
    assert "a request before the benchmark failed: 400: " in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset-name", "sharegpt", "--dataset-path", "/gone"], "/gone cannot be read"),
        (["--model", "other"], "--model: 'other' is not served at"),
    ],
)
def test_what_the_server_has_not_is_refused(bench, options, message):
    status, out, err = bench(*options)
    assert (status, out) == (2, "")
    assert message in err


def test_a_server_that_is_not_there(capsys):
    words = ["bench", "serve", "--port", "9", "--ready-check-timeout-sec", "0"]
    assert main(words) == 2
    assert "http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


def test_a_python_without_httpx_is_told(capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    assert main(["bench", "serve"]) == 1
    assert capsys.readouterr().err == (
        "vllm bench: error: bench serve needs httpx, which this Python does not have: "
        "pip install 'vllm[bench]'\n"
    )
    assert httpx.__version__


@pytest.mark.parametrize("end", ["", "data: [DONE]"])
def test_a_stream_without_its_end_has_failed(end):
    from vllm.entrypoints.bench.client import Endpoint
    from vllm.entrypoints.bench.datasets import SampleRequest

    httpx = pytest.importorskip("httpx")
    event = 'data: {"choices": [{"text": "a"}]}'
    answer = httpx.MockTransport(lambda request: httpx.Response(200, text=f"{event}\n\n{end}\n\n"))

    async def ask():
        async with httpx.AsyncClient(transport=answer) as client:
            endpoint = Endpoint(client, "http://a", is_chat=False, fields={})
            return await endpoint.ask(SampleRequest("hi", 1, 1))

    result = asyncio.run(ask())
    assert result.text == "a"
    assert result.error == (None if end else "the stream ended before its last event")
