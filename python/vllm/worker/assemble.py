"""From arguments to what an engine is made of: reads the model, sizes and allocates the cache."""

from __future__ import annotations

import logging

import torch

from vllm.config import GenerationDefaults, ModelConfig, read_architecture
from vllm.engine.llm_engine import EngineParts
from vllm.engine_args import EngineArgs
from vllm.models.hub import find_folder
from vllm.models.loader import load_model
from vllm.models.registry import find_architecture
from vllm.text.tokenizer import Tokenizer
from vllm.worker import kv_cache
from vllm.worker.local import LocalExecutor
from vllm.worker.model_runner import ModelRunner

logger = logging.getLogger(__name__)


def assemble(args: EngineArgs) -> EngineParts:
    """The parts of an engine whose model runs in this process.

    Raises `vllm.config.ModelError` for a model that cannot be run, ValueError for arguments that
    contradict each other or the machine.
    """
    folder = find_folder(args.model, args.revision)
    # First, for families that are not supported have other fields than those that are.
    find_architecture(read_architecture(folder))
    config = ModelConfig.read(folder)
    defaults = GenerationDefaults.read(folder)
    device = _device(args.device)
    dtype: torch.dtype = getattr(torch, config.dtype if args.dtype == "auto" else args.dtype)
    tokenizer = None
    if not args.skip_tokenizer_init:
        # The revision is the model's; another repository knows nothing of it.
        tokenizer = Tokenizer(find_folder(args.tokenizer) if args.tokenizer else folder)
    wanted_len = args.max_model_len or config.max_model_len
    if wanted_len > config.max_model_len:
        raise ValueError(
            f"max_model_len ({wanted_len}) is more than the "
            f"{config.max_model_len} tokens that this model was made for"
        )
    args.token_budget(wanted_len)  # refuses before the weights are read
    model = load_model(folder, config, dtype=dtype, device=device, max_model_len=wanted_len)
    num_blocks = kv_cache.choose_num_blocks(args, config, dtype, device, wanted_len)
    max_model_len = kv_cache.fit_max_model_len(args, config, num_blocks)
    caches = kv_cache.allocate(config, num_blocks, args.block_size, dtype, device)
    runner = ModelRunner(
        model,
        caches,
        device=device,
        max_num_seqs=args.max_num_seqs,
        use_graphs=not args.enforce_eager,
    )
    logger.info(
        "%s in %s on %s, cache of %d blocks of %d tokens",
        config.architecture,
        dtype,
        device,
        num_blocks,
        args.block_size,
    )
    executor = LocalExecutor(runner, num_blocks=num_blocks, block_size=args.block_size)
    return EngineParts(executor, config, defaults, tokenizer, max_model_len)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu or cuda[:N], got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda[:N], got {name!r}")
    if device.type == "cuda":
        num_devices = torch.cuda.device_count()
        if not num_devices:
            raise ValueError(f"device is {name!r}, but torch finds no CUDA device")
        if name == "cuda":  # the one that torch has as current, once and for all
            device = torch.device("cuda", torch.cuda.current_device())
        if device.index >= num_devices:
            raise ValueError(f"device is {name!r}, but the last one is cuda:{num_devices - 1}")
    return device
