"""A model divided among processes: how they start, meet, compute each step together, and end."""
