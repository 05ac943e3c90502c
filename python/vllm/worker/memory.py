"""How much memory this process may still take.

A container or a batch system limits memory through control groups, of which /proc/meminfo knows
nothing. Version 1 and version 2 of them say it in different files, and every group around the one
that this process is in may limit it further.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, Optional


def free_memory(root: Path = Path("/")) -> Optional[int]:
    """Bytes that can be had without swapping, here and in every control group; None if unknown.

    root: where /proc and /sys are looked for.
    """
    free = [_free_in_group(folder) for folder in _memory_groups(root)]
    free.append(_available(root / "proc/meminfo"))
    known = [each for each in free if each is not None]
    return max(0, min(known)) if known else None


def _available(meminfo: Path) -> Optional[int]:
    kilobytes = _field(meminfo, r"MemAvailable: +(\d+) kB")
    return None if kilobytes is None else kilobytes * 1024


def _free_in_group(folder: Path) -> Optional[int]:
    """None where the group has no limit, or is another kind's."""
    limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    # Pages of files count as used, and are given up when somebody needs the room.
    # Version 1 has those of the groups inside only in the total.
    files = _field(folder / "memory.stat", r"total_inactive_file (\d+)")
    if files is None:
        files = _field(folder / "memory.stat", r"inactive_file (\d+)") or 0
    return limit - used + files


def _memory_groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit memory, with those around."""
    paths: Dict[str, str] = {}  # controller ("" for version 2) → the group of this process
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        mounted, mount_point = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            controller = ""
        elif kind == "cgroup" and "memory" in options.split(","):
            controller = "memory"
        else:
            continue
        top = root / mount_point.lstrip("/")
        yield top
        # A container may see its own group mounted as the top, under the name it has outside.
        inside = _relative(paths.get(controller, mounted), mounted)
        for depth in range(1, len(inside) + 1):
            yield top.joinpath(*inside[:depth])


def _relative(path: str, mounted: str) -> List[str]:
    """The parts of the path of a group below the one that is mounted; none if it is not below."""
    group, top = PurePosixPath(path).parts, PurePosixPath(mounted).parts
    return list(group[len(top) :]) if group[: len(top)] == top else []


def _number(*paths: Path) -> Optional[int]:
    """What the first of these files says that is there; None for "max", or without any."""
    for path in paths:
        for line in _lines(path):
            return int(line) if line.strip().isdigit() else None
    return None


def _field(path: Path, pattern: str) -> Optional[int]:
    for line in _lines(path):
        found = re.match(pattern + "$", line)
        if found:
            return int(found.group(1))
    return None


def _lines(path: Path) -> List[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, no such controller, or not ours to read
        return []
