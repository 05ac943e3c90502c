"""How long each stage of a run takes, announced and summed up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Stages:
    """Times the stages of a run; one that is entered twice adds up."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One that is announced by a rule across the terminal."""
        self.console.rule(f"[bold]{name}", align="left")
        with self.timed(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """One that says nothing of itself."""
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def summary(self) -> str:
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())

    def table(self) -> Table:
        """One row per stage, in the order in which they began."""
        table = Table("stage", "seconds")
        table.columns[1].justify = "right"
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.2f}")
        table.add_row("all", f"{sum(self.seconds.values()):.2f}")
        return table
