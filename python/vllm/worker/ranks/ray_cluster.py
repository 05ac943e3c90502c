"""What an engine has of a cluster of Ray's: an actor for each rank, where Ray has placed it.

Ray only starts processes, ends them and says how they have ended: what it carries, and pickles, are
text and numbers of its own cluster. Ranks meet, compare and compute as those of torchrun do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vllm.errors import RankError
from vllm.worker.ranks.rank_process import RankProcess

# Until Ray has found room for all ranks, and has started an actor for each.
_PLACE_SECONDS = 30.0
_START_SECONDS = 60.0


class RankActor:
    """What Ray runs on a rank's node. Its `wait` lasts while other methods run."""

    def __init__(self) -> None:
        self._process: Optional[RankProcess] = None

    def placement(self) -> Tuple[str, List[str]]:
        """The node, and the GPUs that this actor has there, by Ray's names."""
        import ray

        context = ray.get_runtime_context()
        return context.get_node_id(), context.get_accelerator_ids().get("GPU", [])

    def start(self, module: str, what: Mapping[str, Any], variables: Mapping[str, str]) -> int:
        """Starts the rank; returns its process."""
        self._process = RankProcess(module, what, {**os.environ, **variables})
        return self._process.pid

    def wait(self) -> str:
        """How the rank has ended, once it has."""
        assert self._process is not None
        return self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class Placement(NamedTuple):
    """Where a rank is. local_rank: among those of its node; gpus: of all of these, in order."""

    node: str
    local_rank: int
    gpus: Sequence[str]


class Reservation:
    """The actors of `size` ranks, each with its GPU or with `threads` processors.

    Rank 0 is this process, and has an actor only so that what it uses is reserved. The ranks of a
    node are neighbours, beginning with this one's.

    actors, placements: of each rank.
    addresses: of each node, by its name.

    Raises ImportError without Ray, ValueError where the cluster is too small, RankError with what
    Ray says otherwise.
    """

    def __init__(self, size: int, on_gpus: bool, threads: int) -> None:
        connect()
        import ray

        self.here: str = ray.get_runtime_context().get_node_id()
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        self.addresses = {name: str(node["NodeManagerAddress"]) for name, node in nodes.items()}
        kind, each = ("GPU", 1) if on_gpus else ("CPU", threads)
        wanted = f"tensor_parallel_size {size} takes {size * each} {kind}s of Ray's, {each} a rank"
        has = int(ray.cluster_resources().get(kind, 0))
        if has < size * each:
            raise ValueError(f"{wanted}, and its cluster of {len(nodes)} nodes has {has}")
        on_this_node = {f"node:{self.addresses[self.here]}": 0.001}
        bundles = [{kind: each, **(on_this_node if rank == 0 else {})} for rank in range(size)]
        self._group = ray.util.placement_group(bundles, strategy="PACK")
        try:
            if not self._group.wait(_PLACE_SECONDS):
                free = int(ray.available_resources().get(kind, 0))
                raise ValueError(
                    f"{wanted}, and {free} of {has} are free: after {_PLACE_SECONDS:g} s not all "
                    f"ranks have a place; that of the first has to be on this node"
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
        """Ends the actors, and gives back what they had."""
        import ray

        ray.util.remove_placement_group(self._group)


def placements(found: Sequence[Tuple[str, Sequence[str]]]) -> List[Placement]:
    """Of ranks whose nodes and GPUs these are."""
    gpus: Dict[str, List[str]] = {}
    counts: Dict[str, int] = {}
    made = []
    for node, own in found:
        gpus.setdefault(node, []).extend(own)
        made.append(Placement(node, counts.get(node, 0), gpus[node]))
        counts[node] = counts.get(node, 0) + 1
    return made


def answers(calls: Sequence[Any]) -> List[Any]:
    """What actors return, by rank. Raises RankError for one that cannot."""
    import ray

    made = []
    for rank, call in enumerate(calls):
        try:
            made.append(ray.get(call, timeout=_START_SECONDS))
        except ray.exceptions.RayError as error:
            raise RankError(f"Ray does not start a rank ({rank}): {reason(error)}") from error
    return made


def reason(error: Exception) -> str:
    """The last line of what Ray says, which is what has happened; before it are tracebacks."""
    return str(error).strip().splitlines()[-1].strip()


def connect() -> None:
    """Joins the cluster that there is ($RAY_ADDRESS, or one of this machine), or starts one."""
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
