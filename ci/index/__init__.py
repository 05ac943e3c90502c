"""The index as a pure function: from manifests, ledgers and yanks to the bytes of every page."""
