"""Tensor parallelism: how the processes of a model start, meet, compute each step, and end."""
