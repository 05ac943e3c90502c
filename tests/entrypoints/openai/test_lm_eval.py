"""lm_eval gives the same results with our server as with transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.entrypoints.openai.support import NAME, running

pytest.importorskip("lm_eval", reason="lm_eval is not installed: `make clients` installs it")

# Log-likelihoods are sums over a text's tokens; both sides compute in float32, and differ by 8e-5.
CLOSE = 1e-3

QUESTIONS = [
    ("The capital of France is", ["Paris", "London", "Madrid", "the Eiffel Tower"], 0),
    ("Water freezes at zero degrees", ["Celsius", "Kelvin", "north", "of freedom"], 0),
    ("The opposite of hot is", ["warm", "cold", "fire"], 1),
    ("Two plus two equals", ["five", "seven hundred", "four"], 2),
    ("The sun rises in the", ["west", "east", "naïve café"], 1),
    ("Bees make", ["honey", "milk and cheese", "wool"], 0),
    ("A year has twelve", ["weeks", "months", "days"], 1),
    ("Shakespeare wrote Hamlet and", ["Faust", "War and Peace", "Macbeth"], 2),
]
# Each of lm_eval's kinds of requests.
TASKS = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} {{choices[answer]}}.",
        "metric_list": [{"metric": "word_perplexity"}],
    },
    "continued": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": " {{choices[answer]}}",
        "generation_kwargs": {"until": [".", "\n\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def evaluate(smollm2, tmp_path_factory):
    """evaluate(kind of model, {model_args}, …) -> (metrics by task, samples by task).

    Runs the command itself, on tasks of files, with nothing from a network.
    """
    tasks = tmp_path_factory.mktemp("tasks")
    with (tasks / "questions.jsonl").open("w", encoding="utf-8") as file:
        for question, choices, answer in QUESTIONS:
            line = {"question": question, "choices": choices, "answer": answer}
            file.write(json.dumps(line) + "\n")
    data = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tasks / "questions.jsonl")}},
        "test_split": "test",
    }
    for name, task in TASKS.items():  # JSON is YAML
        (tasks / f"{name}.yaml").write_text(json.dumps({"task": name, **data, **task}))

    def run(kind, model_args, *words):
        home = tmp_path_factory.mktemp(kind)
        arguments = ",".join(f"{name}={value}" for name, value in model_args.items())
        done = subprocess.run(
            [
                *[sys.executable, "-m", "lm_eval", "run", "--model", kind],
                *["--model_args", arguments, "--include_path", str(tasks)],
                *["--tasks", ",".join(TASKS), "--log_samples", "--output_path", str(home), *words],
            ],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "HF_HOME": str(home / "cache"),
                "HF_HUB_OFFLINE": "1",
                "HF_DATASETS_OFFLINE": "1",
            },
        )
        assert done.returncode == 0, done.stderr
        (results,) = home.glob("*/results_*.json")
        return json.loads(results.read_text())["results"], {
            name: samples_of(*home.glob(f"*/samples_{name}_*.jsonl")) for name in TASKS
        }

    return run


def samples_of(file):
    """What was found of each document, in the documents' order."""
    lines = file.read_text(encoding="utf-8").split("\n")  # JSON may have U+2028 in a string
    samples = [json.loads(line) for line in lines if line]
    samples.sort(key=lambda sample: sample["doc_id"])
    assert [sample["doc_id"] for sample in samples] == list(range(len(QUESTIONS)))
    return [sample["filtered_resps"] for sample in samples]


@pytest.fixture(scope="module")
def theirs(evaluate, smollm2):
    """By lm_eval's own way through transformers."""
    return evaluate("hf", {"pretrained": smollm2, "dtype": "float32"}, "--device", "cpu")


@pytest.fixture(scope="module")
def model_args(smollm2):
    with running(smollm2, apart=True, engine={"num_kv_blocks": 256}) as server:
        yield {"base_url": f"{server.url}/v1/completions", "model": NAME, "tokenizer": smollm2}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"tokenized_requests": False}, []),
        ({}, ["--batch_size", "4"]),
        ({"num_concurrent": 4}, []),
    ],
    ids=["token ids", "text", "batches", "concurrently"],
)
def test_it_finds_what_it_finds_by_transformers(evaluate, theirs, model_args, changed, words):
    metrics, samples = evaluate("local-completions", {**model_args, **changed}, *words)
    their_metrics, their_samples = theirs
    for task, metric in (("choices", "acc"), ("choices", "acc_norm"), ("continued", "exact_match")):
        found, expected = (each[task][f"{metric},none"] for each in (metrics, their_metrics))
        assert found == expected > 0
    assert samples["continued"] == their_samples["continued"]
    for task, num_asked in (
        ("choices", sum(len(c) for _, c, _ in QUESTIONS)),
        ("texts", len(QUESTIONS)),
    ):
        found, expected = numbers(samples[task]), numbers(their_samples[task])
        assert len(found) == num_asked
        assert found == pytest.approx(expected, abs=CLOSE)
    assert [greedy for each in samples["choices"] for _, greedy in each] == [
        greedy for each in their_samples["choices"] for _, greedy in each
    ]


def numbers(samples):
    """The log-likelihoods: of a text alone, or of each choice with whether it would be written.

    lm_eval writes them as strings.
    """
    return [
        float(found[0] if isinstance(found, list) else found) for each in samples for found in each
    ]
