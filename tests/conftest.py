"""Fixtures for several areas. torch is imported only if a test needs it."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine is says nothing of an example: hypothesis limits the time of each otherwise.
settings.register_profile("vllm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vllm")

# A shell starts its background jobs with SIGINT ignored, and their children inherit that: what
# tests interrupt would run on for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The libraries of every worker would start a thread for each processor: 12 workers on 32 processors
# took twice as long as with one thread each.
workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
if workers is not None:
    share = len(os.sched_getaffinity(0)) // int(workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

# A hook of git that runs tests has them act on its own repository, not on those that they make.
for name in [name for name in os.environ if name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")]:
    del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.option.dist != "loadfile":
        return None
    from tests.longest_first import LongestFirst

    return LongestFirst(config, log)


def pytest_unconfigure(config):
    """Ends Python although a thread of a failed test goes on. (xdist ends its own workers.)"""
    left = [each for each in threading.enumerate() if not each.daemon]
    if left != [threading.main_thread()] and not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(30, exit=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """tiny(family) -> tests.models.support.TinyModel."""
    pytest.importorskip("torch")
    from tests.models.support import write_model

    made = {}

    def get(family):
        if family not in made:
            made[family] = write_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory):
    """A Qwen3 with a tokenizer, a chat template and advice on sampling: all that the CLI needs."""
    pytest.importorskip("torch")
    from tests.models.support import write_model, write_tokenizer

    model = write_model(tmp_path_factory.mktemp("chat"), "qwen3", seed=4)
    write_tokenizer(model.folder)
    return model


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """The folder of SmolLM2-135M-Instruct: a model that was trained, computed in float32."""
    pytest.importorskip("torch")
    from tests.models.smollm2 import make

    return make(tmp_path_factory.mktemp("models") / "SmolLM2-135M-Instruct")


@pytest.fixture(params=["table", "attributes"])
def torch_source(request):
    """torch tensors read through torch's DLPack exchange table, then by their attributes."""
    torch = pytest.importorskip("torch")
    from vllm import _C

    if request.param == "table" and not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip(f"torch {torch.__version__} has no DLPack exchange table")
    _C.use_torch_attributes(request.param == "attributes")
    yield request.param
    _C.use_torch_attributes(False)


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    from tests import chromium

    if not chromium.is_installed():
        pytest.skip("no chromium and chromium-driver on this machine: apt-get install them")
    with chromium.browser() as started:
        yield started
