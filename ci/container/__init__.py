"""Builds the wheel with PyPA's cibuildwheel, in a container with another system."""
