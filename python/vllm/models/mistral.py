"""Mistral: the plain decoder, optionally with a sliding window."""

from __future__ import annotations

from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention


class MistralForCausalLM(DecoderLM):
    """A sliding window in every layer, unless config.json has null, as for 7B v0.3."""

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        attention = SelfAttention(context, sliding_window=context.config.sliding_window or 0)
        return DecoderLayer(context, attention, MLP(context))
