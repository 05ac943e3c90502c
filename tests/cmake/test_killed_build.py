"""A killed build of the backend: its compilers are killed, and the next build continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.backend.conftest import IMPORT
from tests.cmake.conftest import MakeTree, build, compiled
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
SLOW = """\
#!/bin/sh
for word; do
  case $word in *bindings.cpp) echo $$ > {mark}; exec sleep 100000 ;; esac
done
exec c++ "$@"
"""


def test_compilers_are_killed_with_the_backend(make_tree: MakeTree, tmp_path: Path) -> None:
    tree, mark = make_tree(), tmp_path / "mark"
    compiler = tmp_path / "slow"
    compiler.write_text(SLOW.format(mark=mark))
    compiler.chmod(0o755)
    environ = {"VLLM_TARGET_DEVICE": "cpu", "CCACHE_DISABLE": "1"}
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    code = f"{IMPORT}; b.build_wheel('dist')"
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**os.environ, **environ, "PATH": path, "CXX": str(compiler)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not mark.exists() or not mark.read_text():
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    try:
        running.communicate(timeout=PATIENCE)  # ends when all that it started has
    except subprocess.TimeoutExpired:
        os.kill(int(mark.read_text()), signal.SIGKILL)
        running.communicate()
        raise
    said = build(tree, environ)
    assert compiled(said) == ["bindings.cpp.o"]
