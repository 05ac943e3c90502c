"""What clients send and get, as pydantic models: one file per endpoint."""
