"""An engine's actors in a Ray cluster: one for each rank, on the node where Ray has placed it.

Ray only starts processes, ends them and reports how they ended. It transfers, and pickles, only
text and numbers within its own cluster. Ranks connect, compare and compute as with torchrun.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vllm.errors import RankError
from vllm.worker.ranks.rank_process import RankProcess

# How long Ray may take to find places for all ranks, and to start an actor for each.
_PLACE_SECONDS = 30.0
_START_SECONDS = 60.0


class RankActor:
    """What Ray runs on a rank's node. Other methods can run while `wait` waits."""

    def __init__(self) -> None:
        self._process: Optional[RankProcess] = None

    def placement(self) -> Tuple[str, List[str]]:
        """The node, and the GPUs that are reserved there for this actor, by Ray's names."""
        import ray

        context = ray.get_runtime_context()
        return context.get_node_id(), context.get_accelerator_ids().get("GPU", [])

    def start(self, module: str, what: Mapping[str, Any], variables: Mapping[str, str]) -> int:
        """Starts the rank; returns its process id."""
        self._process = RankProcess(module, what, {**os.environ, **variables})
        return self._process.pid

    def wait(self) -> str:
        """Waits for the end of the rank; returns how it ended."""
        assert self._process is not None
        return self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class Placement(NamedTuple):
    """Where a rank is. local_rank: its index on its node. gpus: of all ranks there, in order."""

    node: str
    local_rank: int
    gpus: Sequence[str]


class Reservation:
    """The actors of `size` ranks, each with its GPU or with `threads` processors.

    Rank 0 is this process, and has an actor only to reserve what it uses. The ranks of a node are
    consecutive, beginning with this node's.

    actors, placements: of each rank.
    addresses: of each node, by its id.

    Raises ImportError without Ray, ValueError if the cluster is too small, otherwise RankError with
    Ray's message.
    """

    def __init__(self, size: int, on_gpus: bool, threads: int) -> None:
        connect()
        import ray

        self.here: str = ray.get_runtime_context().get_node_id()
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        self.addresses = {name: str(node["NodeManagerAddress"]) for name, node in nodes.items()}
        kind, each = ("GPU", 1) if on_gpus else ("CPU", threads)
        wanted = (
            f"tensor_parallel_size {size} needs {size * each} {kind}s of the Ray cluster "
            f"({each} per rank)"
        )
        has = int(ray.cluster_resources().get(kind, 0))
        if has < size * each:
            raise ValueError(
                f"{wanted}, which has {has} on {len(nodes)} nodes: add nodes, or lower "
                f"tensor_parallel_size"
            )
        on_this_node = {f"node:{self.addresses[self.here]}": 0.001}
        bundles = [{kind: each, **(on_this_node if rank == 0 else {})} for rank in range(size)]
        self._group = ray.util.placement_group(bundles, strategy="PACK")
        try:
            if not self._group.wait(_PLACE_SECONDS):
                free = int(ray.available_resources().get(kind, 0))
                raise ValueError(
                    f"{wanted}. Of its {has}, {free} are free, and after {_PLACE_SECONDS:g} s not "
                    f"all ranks have a place (the first must be on this node): wait for other "
                    f"programs of the cluster to end, or lower tensor_parallel_size"
                )
            actors = [_actor(self._group, index, kind, each) for index in range(size)]
            found = answers([actor.placement.remote() for actor in actors])
        except BaseException:
            self.release()
            raise
        order = sorted(range(size), key=lambda at: (found[at][0] != self.here, found[at][0], at))
        self.actors = [actors[at] for at in order]
        self.placements = placements([found[at] for at in order])

    def release(self) -> None:
        """Ends the actors, and releases their resources."""
        import ray

        ray.util.remove_placement_group(self._group)


def placements(found: Sequence[Tuple[str, Sequence[str]]]) -> List[Placement]:
    """The placements of ranks, from the node and the GPUs of each."""
    gpus: Dict[str, List[str]] = {}
    counts: Dict[str, int] = {}
    made = []
    for node, own in found:
        gpus.setdefault(node, []).extend(own)
        made.append(Placement(node, counts.get(node, 0), gpus[node]))
        counts[node] = counts.get(node, 0) + 1
    return made


def answers(calls: Sequence[Any]) -> List[Any]:
    """The results of actors, by rank. Raises RankError if one fails."""
    import ray

    made = []
    for rank, call in enumerate(calls):
        try:
            made.append(ray.get(call, timeout=_START_SECONDS))
        except ray.exceptions.RayError as error:
            raise RankError(f"Ray cannot start rank {rank}: {reason(error)}") from error
    return made


def reason(error: Exception) -> str:
    """The last line of Ray's message, which says what happened; tracebacks come before it."""
    return str(error).strip().splitlines()[-1].strip()


def connect() -> None:
    """Joins the existing cluster ($RAY_ADDRESS, or one on this machine), or starts one."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "distributed_executor_backend is 'ray', which this Python does not have: "
            "pip install 'vllm[ray]'"
        ) from error
    if ray.is_initialized():
        return
    with _own_signal_handler():
        try:
            ray.init(include_dashboard=False)
        except (OSError, RuntimeError, ray.exceptions.RayError) as error:
            raise RankError(
                f"Ray's cluster cannot be joined or started: {type(error).__name__}: {error} "
                f"(all nodes need the same Python and the same Ray as here, {ray.__version__})"
            ) from error


@contextlib.contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Ray would end this process at SIGTERM, which a server takes as a request to finish."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _actor(group: Any, index: int, kind: str, count: int) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    options = {"num_cpus": 0, "num_gpus": 0, "num_" + kind.lower() + "s": count}
    where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    made = ray.remote(RankActor).options(**options, max_concurrency=2, scheduling_strategy=where)
    return made.remote()
