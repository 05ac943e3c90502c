"""How xdist hands out the files of tests: the long ones first, lest one of them ends alone."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

# Each takes 40 seconds of processor time or more. A folder is handed out whole: its files share
# what takes minutes to build.
LONG = (
    "tests/ci/builder/",
    "tests/docs/test_installation.py",
    "tests/test_pythons.py",
    "tests/entrypoints/test_serve.py",
    "tests/cpu/test_variants.py",
    "tests/worker/ranks/test_ranks_parity.py",
    "tests/ci/clients/test_clients.py",
    "tests/worker/ranks/test_rank_faults.py",
)


class LongestFirst(LoadFileScheduling):
    """Of the other files, those with most tests come first, as xdist does it.

    A test in which a worker ends, as one that hangs does, has failed; xdist would run it again on
    the next worker, and on up to eight more.
    """

    def remove_node(self, node):
        units = self.assigned_work[node].values()
        pending = [(unit, test) for unit in units for test, is_done in unit.items() if not is_done]
        if not pending:
            return super().remove_node(node)
        unit, running = pending[0]
        unit[running] = True
        super().remove_node(node)  # hands out the others
        return running

    def _reschedule(self, node):
        """Later, for a new worker that has not said which tests there are: xdist fails with it."""
        if node in self.registered_collections:
            super()._reschedule(node)

    def _split_scope(self, nodeid):
        return next(
            (part for part in LONG if nodeid.startswith(part)), super()._split_scope(nodeid)
        )

    def _assign_work_unit(self, node):
        longest = next((part for part in LONG if part in self.workqueue), None)
        if longest is not None:
            self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)
