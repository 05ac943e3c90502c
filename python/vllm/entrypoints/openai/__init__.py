"""The OpenAI-compatible server. Nothing here is imported until `vllm serve` runs."""
