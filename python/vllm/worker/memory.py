"""How much memory this process can still allocate.

Containers and batch systems limit memory through control groups (cgroups), which /proc/meminfo does
not reflect. cgroups v1 and v2 use different files, and every parent of this process's group may
have a lower limit.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, Optional


def free_memory(root: Path = Path("/")) -> Optional[int]:
    """Bytes that can be allocated without swapping, within every control group's limit; None if
    unknown.

    root: the folder that contains proc and sys.
    """
    free = [_free_in_group(folder) for folder in _memory_groups(root)]
    free.append(_available(root / "proc/meminfo"))
    known = [each for each in free if each is not None]
    return max(0, min(known)) if known else None


def _available(meminfo: Path) -> Optional[int]:
    kilobytes = _field(meminfo, r"MemAvailable: +(\d+) kB")
    return None if kilobytes is None else kilobytes * 1024


def _free_in_group(folder: Path) -> Optional[int]:
    """Free bytes of a control group; None without a limit or the files of one."""
    limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    # Inactive pages of the file cache count as used, but the kernel reclaims them on demand. In v1
    # only the "total" fields include the child groups.
    files = _field(folder / "memory.stat", r"total_inactive_file (\d+)")
    if files is None:
        files = _field(folder / "memory.stat", r"inactive_file (\d+)") or 0
    return limit - used + files


def _memory_groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit memory, and of their parents."""
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
        # In a container the mount's root may be the container's own group, with its outside name.
        inside = _relative(paths.get(controller, mounted), mounted)
        for depth in range(1, len(inside) + 1):
            yield top.joinpath(*inside[:depth])


def _relative(path: str, mounted: str) -> List[str]:
    """The path of a group relative to the mounted one, in parts; empty if it is not below it."""
    group, top = PurePosixPath(path).parts, PurePosixPath(mounted).parts
    return list(group[len(top) :]) if group[: len(top)] == top else []


def _number(*paths: Path) -> Optional[int]:
    """The number in the first of these files that exists; None for "max" or without a file."""
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
    except OSError:  # not Linux, no such controller, or not readable
        return []
