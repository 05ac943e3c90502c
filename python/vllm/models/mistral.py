"""Mistral: the plain decoder, whose layers may see only a window of the past."""

from __future__ import annotations

from vllm.models.decoder import MLP, DecoderLayer, DecoderLM, ModelContext, SelfAttention


class MistralForCausalLM(DecoderLM):
    """A window on every layer, unless config.json says null, as that of 7B v0.3 does."""

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        attention = SelfAttention(context, sliding_window=context.config.sliding_window or 0)
        return DecoderLayer(context, attention, MLP(context))
