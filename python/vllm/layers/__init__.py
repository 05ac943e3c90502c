"""The layers of models: torch for most matrix products, `vllm.ops` for the rest."""
