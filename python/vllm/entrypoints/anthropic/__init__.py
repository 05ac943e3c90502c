"""Anthropic's Messages API, beside OpenAI's in the same server and by the same engine."""
