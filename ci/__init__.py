"""Builds, audits, publishes and serves the wheels of `vllm`: ``python -m ci --help``."""
