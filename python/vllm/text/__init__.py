"""Text in and out of a model: tokenizers, detokenization, chat templates and prompts. No torch."""
