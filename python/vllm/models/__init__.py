"""The supported architectures, and how their weights are found and loaded."""
