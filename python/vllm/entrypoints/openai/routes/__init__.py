"""One module per endpoint, or per few that belong together."""
