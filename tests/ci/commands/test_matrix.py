"""``python -m ci matrix``."""

from __future__ import annotations

import json
import re

import pytest

from ci import matrix
from ci.__main__ import main
from ci.matrix import Matrix
from ci.publish import plan


def table(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed on a terminal of that many columns."""
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["matrix"]) == 0
    return capsys.readouterr().out


def test_the_table_has_every_variant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, the_matrix: Matrix
) -> None:
    shown = table(300, monkeypatch, capsys)
    for cuda in the_matrix.cudas:
        assert f"CUDA {cuda.version}" in shown
        assert cuda.variant in shown
    compilers = re.findall(r"^│ code by (\d+\.\d) +│", shown, re.MULTILINE)
    assert compilers == sorted(the_matrix.toolkits, key=matrix.numbers)
    assert "…" not in table(80, monkeypatch, capsys)  # nothing is cut off


def test_json_names_every_wheel_of_a_release(
    capsys: pytest.CaptureFixture[str], the_matrix: Matrix
) -> None:
    assert main(["matrix", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    wheels = {name for cuda in printed["cudas"] for name in cuda["wheels"]}
    assert wheels == set(plan.release_wheels(the_matrix))
    pins = printed["toolkits"]["12.9"]["pins"]
    assert pins[0]["sha256"] == the_matrix.toolkits["12.9"].pins[0].sha256


def test_a_job_for_each_variant(capsys: pytest.CaptureFixture[str], the_matrix: Matrix) -> None:
    """One line, as GITHUB_OUTPUT takes it."""

    def jobs(*arguments: str) -> list[str]:
        assert main(["matrix", "--github", *arguments]) == 0
        printed = capsys.readouterr().out
        assert printed.count("\n") == 1
        return [job["variant"] for job in json.loads(printed)["include"]]

    assert jobs("release") == [cuda.variant for cuda in the_matrix.cudas]
    assert jobs("commit") == ["cu118", "cu121"]
    assert jobs("commit", "--also", "cu129") == ["cu118", "cu121", "cu129"]
    assert main(["matrix", "--github", "commit", "--also", "cu999"]) == 1
    assert "unknown variant 'cu999'" in capsys.readouterr().err
