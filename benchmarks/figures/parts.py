"""The marked parts by name, each a function that makes its text."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figures import engine, host, kernels, overview, wheels

PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        kernels.attention,
        kernels.memory_bound,
        kernels.few_rows,
        kernels.prefill,
        kernels.prefill_few_rows,
        kernels.prefill_mma,
        kernels.all_reduce,
        kernels.sampling,
        engine.cpu_throughput,
        engine.engine_peers,
        engine.ranks,
        engine.ranks_arithmetic,
        engine.bytes_read,
        engine.rank_faults,
        engine.ray_faults,
        engine.first_outputs,
        engine.server_throughput,
        engine.replicas,
        engine.server_fronts,
        engine.server_work,
        engine.structured_outputs,
        engine.schema_validity,
        host.host_instructions,
        wheels.wheel_code,
        overview.measured,
    )
}
