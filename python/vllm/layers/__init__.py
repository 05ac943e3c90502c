"""The parts that models are made of: torch for matrix products, `vllm.ops` for the rest."""
