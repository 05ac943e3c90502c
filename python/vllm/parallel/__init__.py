"""Tensor parallelism: the processes of a model, the part that each holds, and their collectives."""
