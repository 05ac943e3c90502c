"""The index as a pure function: renders every page from manifests, ledgers and yanks."""
