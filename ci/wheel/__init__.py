"""Wheels as files: written to the same bits everywhere, read with distrust, packed anew."""
