"""The architectures that this library runs, and how their weights are found and read."""
