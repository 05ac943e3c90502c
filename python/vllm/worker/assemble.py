"""Creates the parts of an engine from its arguments."""

from __future__ import annotations

from vllm.config import GenerationDefaults
from vllm.engine.executor import Executor
from vllm.engine.llm_engine import EngineParts
from vllm.engine_args import EngineArgs
from vllm.models.hub import find_folder
from vllm.text.tokenizer import Tokenizer
from vllm.worker import kv_cache
from vllm.worker.load import load, make_plan
from vllm.worker.ranks.executor import start_ranks
from vllm.worker.ranks.meeting import launched_local_rank


def assemble(args: EngineArgs) -> EngineParts:
    """Loads the model, in this process or in several, and returns the parts of an engine.

    Raises `vllm.config.ModelError` for a model that cannot be run, ValueError for arguments that
    contradict each other or the machine, `vllm.errors.RankError` if a rank fails.
    """
    plan = make_plan(args, launched_local_rank())
    defaults = GenerationDefaults.read(plan.folder)
    tokenizer = None
    if not args.skip_tokenizer_init:
        # Without `revision`, which belongs to the model's repository.
        tokenizer = Tokenizer(find_folder(args.tokenizer) if args.tokenizer else plan.folder)
    executor: Executor = (
        load(args, plan) if args.tensor_parallel_size == 1 else start_ranks(args, plan)
    )
    max_model_len = kv_cache.fit_max_model_len(args, plan.config, executor.num_blocks)
    return EngineParts(executor, plan.config, defaults, tokenizer, max_model_len, *plan.advice)
