"""The processors and memory that this process may use, and what limits them.

Containers and batch systems limit a process by cgroups, which `os.cpu_count` and /proc/meminfo
ignore. Both versions of cgroups are read, with every ancestor of this process's group, since each
may have a lower limit.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional


@dataclass(frozen=True)
class Limit:
    """An amount, and what limits it."""

    count: int
    where: str  # completes "2 processors …" and "3 GiB free …"


@dataclass(frozen=True)
class Limits:
    """The limits of this process, from /proc."""

    root: Path = Path("/")

    def processors(self) -> Limit:
        """Processors: the minimum of the machine's, the affinity and the cgroups' quotas."""
        found = [Limit(os.cpu_count() or 1, "on this machine")]
        if hasattr(os, "sched_getaffinity"):
            found.append(Limit(len(os.sched_getaffinity(0)), "in the affinity of this process"))
        for folder in self._groups("cpu"):
            quota, period = (
                _words(folder / "cpu.max")
                or (
                    *_words(folder / "cpu.cfs_quota_us"),
                    *_words(folder / "cpu.cfs_period_us"),
                )
                or ("max", "")
            )
            if quota not in ("max", "-1"):
                # With a quota below one processor, one compiler still runs, slowly.
                found.append(Limit(max(1, int(quota) // int(period)), f"in the quota of {folder}"))
        return min(found, key=lambda limit: limit.count)

    def memory(self) -> Limit:
        """Free bytes: the minimum of the machine and its cgroups. Without /proc: all memory."""
        found = []
        for folder in self._groups("memory"):
            limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
            used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
            if limit and used and limit != ("max",):
                # The page cache counts as used, but the kernel reclaims it when needed.
                cached = _field(folder / "memory.stat", r"^(?:total_)?inactive_file (\d+)$") or 0
                free = int(limit[0]) - int(used[0]) + cached
                found.append(Limit(max(0, free), f"in {folder}"))
        available = _field(self.root / "proc/meminfo", r"^MemAvailable: +(\d+) kB$")
        if available is not None:
            found.append(Limit(available * 1024, "on this machine"))
        if not found and sys.platform == "win32":  # nothing is compiled there
            return Limit(sys.maxsize, "as far as is known")
        if not found:
            pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
            return Limit(pages * size, "if nothing else ran")
        return min(found, key=lambda limit: limit.count)

    def _groups(self, controller: str) -> Iterator[Path]:
        """The folders of this process's cgroups, innermost first."""
        paths = {}  # controllers ("" for version 2) → the path of this process's group
        for line in _lines(self.root / "proc/self/cgroup"):
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(controllers.split(","), path))
        for line in _lines(self.root / "proc/self/mountinfo"):
            left, _, right = line.partition(" - ")
            (kind, _, options), (root, at) = right.split(" ")[:3], left.split(" ")[3:5]
            name = "" if kind == "cgroup2" else controller
            if kind != "cgroup2" and (kind != "cgroup" or controller not in options.split(",")):
                continue
            top = self.root / at.lstrip("/")
            # In a container, the mount's top is its own group, which cgroup names by its path
            # outside.
            path = os.path.relpath(paths.get(name, root), root)
            inner = top if path.startswith("..") else top / path
            yield from (folder for folder in (inner, *inner.parents) if _is_within(folder, top))


def _is_within(folder: Path, top: Path) -> bool:
    return folder == top or top in folder.parents


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux, no such controller, or not readable for this user
        return []


def _words(path: Path) -> tuple[str, ...]:
    """The words of a file of one line; empty if it does not exist."""
    lines = _lines(path)
    return tuple(lines[0].split()) if lines else ()


def _field(path: Path, pattern: str) -> Optional[int]:
    for line in _lines(path):
        found = re.match(pattern, line)
        if found:
            return int(found[1])
    return None


THIS = Limits()
