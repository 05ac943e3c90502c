"""The command line: ``vllm`` and ``python -m vllm``."""
