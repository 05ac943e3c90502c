"""Announces the stages of a run, and measures how long each takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Stages:
    """The times of a run's stages; a stage entered twice adds up."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage announced by a rule across the terminal."""
        self.console.rule(f"[bold]{name}", align="left")
        with self.timed(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A stage that is not announced."""
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def summary(self) -> str:
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())

    def table(self) -> Table:
        """One row per stage, in the order of their start."""
        table = Table("stage", "seconds")
        table.columns[1].justify = "right"
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.2f}")
        table.add_row("all", f"{sum(self.seconds.values()):.2f}")
        return table
