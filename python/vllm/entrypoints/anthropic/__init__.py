"""Anthropic's Messages API, served beside OpenAI's by the same server and engine."""
