"""The processes that hold one model together, and which part of it each of them holds."""
