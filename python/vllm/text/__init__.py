"""Tokenizers, detokenization, chat templates, prompts, grammars. Does not import torch."""
