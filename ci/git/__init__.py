"""Reads commits and the working tree from git. All calls of git are in this package.

Only plumbing commands are called, whose output no configuration changes.
"""

from ci.git.commits import (
    Commit,
    Landed,
    ShallowClone,
    clone,
    committed_files,
    export,
    history,
    landed,
    read,
    read_file,
    tags_here,
)
from ci.git.run import GitError, ask, typed
from ci.git.tree import (
    ChangedTree,
    DirtyTree,
    Head,
    NoCheckout,
    blob_id,
    read_head,
    require_unchanged,
    working_files,
)

__all__ = [
    "ChangedTree",
    "Commit",
    "DirtyTree",
    "GitError",
    "Head",
    "Landed",
    "NoCheckout",
    "ShallowClone",
    "ask",
    "blob_id",
    "clone",
    "committed_files",
    "export",
    "history",
    "landed",
    "read",
    "read_file",
    "read_head",
    "require_unchanged",
    "tags_here",
    "typed",
    "working_files",
]
