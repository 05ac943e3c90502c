"""Runs the model for the engine: executors, the model runner, and the KV cache."""
