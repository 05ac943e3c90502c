from __future__ import annotations

import io

from rich.console import Console

from ci.stages import Stages


def test_stages_are_announced_summed_and_in_order() -> None:
    console = Console(file=io.StringIO(), width=40)
    stages = Stages(console)
    with stages.stage("build"):
        pass
    with stages.timed("audit"):
        pass
    with stages.timed("build"):
        pass
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "build" in said
    assert "audit" not in said
    assert list(stages.seconds) == ["build", "audit"]
    stages.seconds = {"build": 2.0, "audit": 0.5}
    assert stages.summary() == "build 2.0 s, audit 0.5 s"
    assert stages.table().row_count == 3
