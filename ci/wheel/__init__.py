"""Wheels as files: written reproducibly, read defensively, and repacked."""
