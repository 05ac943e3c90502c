"""The commit since which a model answers otherwise, among real wheels of a small index."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ci.serve import running
from ci.store import FolderStore
from tests.ci.conftest import factory, the_matrix  # noqa: F401 (fixtures)
from tests.examples.test_python import EXAMPLES
from tests.examples.wheels import publish_installed

PATH = EXAMPLES / "nightly_bisect.py"
PROMPT, FIRST_BAD, COUNT = "The capital of France is", 1, 3
# What the commit breaks: prompts begin with something else.
REGRESSION = """
_generate = LLM.generate
LLM.generate = lambda self, prompts, params: _generate(self, "?" + prompts, params)
"""

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="there is no torch")


@pytest.fixture(scope="module")
def commits(factory):  # noqa: F811 (the fixture)
    return [factory.commit(number, "that may break") for number in range(COUNT)]


@pytest.fixture(scope="module")
def base(commits, factory, tmp_path_factory):  # noqa: F811 (the fixture)
    folder = tmp_path_factory.mktemp("index")
    store = FolderStore(folder / "bucket", durable=False)
    for commit in commits:
        wheels = folder / commit.sha
        wheels.mkdir()
        broken = {"vllm/llm.py": REGRESSION} if commit.number >= FIRST_BAD else {}
        publish_installed(store, wheels, commit, factory, broken)
    with running(store) as address:
        yield address


@needs_torch
def test_nightly_bisect(base, commits, chat_model, tmp_path):
    from vllm import LLM, SamplingParams

    llm = LLM(str(chat_model.folder), num_kv_blocks=64)
    params = SamplingParams(temperature=0, max_tokens=16)
    asked = (PROMPT, f"?{PROMPT}")
    good, bad = (output.outputs[0].text for output in llm.generate(asked, params))
    assert not bad.startswith(good)
    ends = [commits[0].sha, commits[-1].sha]
    environ = {
        **os.environ,
        "BASE": base,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "UV_NO_CONFIG": "1",
        "XDG_CACHE_HOME": str(tmp_path),  # where a search is remembered
        "VLLM_CPU_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(PATH), *ends, str(chat_model.folder), PROMPT, good],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = dict(re.findall(r"^([0-9a-f]{12}) continues with (.+)$", done.stdout, re.M))
    texts = {c.sha[:12]: repr(bad if c.number >= FIRST_BAD else good) for c in commits}
    assert said == {sha: texts[sha] for sha in said}
    assert len(said) == COUNT  # both ends, and the one between
    found = commits[FIRST_BAD]
    named = f"The first bad commit:\n\n  {found.sha}\n  {found.subject}\n"
    assert named in done.stdout
