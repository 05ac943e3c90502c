"""The decoder-only transformer that Llama and its descendants share.

Each layer adds two things to a residual stream: attention, then a gated MLP, each of the norm of
the stream. What differs between architectures is in the keyword arguments of `DecoderLM`; one
that differs in structure brings modules of its own.

Modules and parameters bear the names that checkpoints use, so that loading needs no table; merged
linear layers say themselves which parts they are made of.
"""

from __future__ import annotations

from typing import Optional, Sequence

import torch
from torch import nn

from vllm.config import ModelConfig
from vllm.layers.activation import silu_and_mul
from vllm.layers.attention import Attention, AttentionMetadata, KVCache
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear, MergedLinear
from vllm.layers.norm import RMSNorm
from vllm.layers.rotary import RotaryEmbedding


class SelfAttention(nn.Module):
    """Projections, rotary embedding and attention; `qk_norm` normalises each head before."""

    def __init__(
        self,
        config: ModelConfig,
        rotary: RotaryEmbedding,
        *,
        sliding_window: int,
        qkv_bias: bool,
        output_bias: bool,
        qk_norm: bool,
    ) -> None:
        super().__init__()
        head_size = config.head_dim
        query_size = config.num_attention_heads * head_size
        kv_heads = config.num_key_value_heads
        kv_size = kv_heads * head_size
        self.heads = (config.num_attention_heads, kv_heads, kv_heads)
        self.qkv_proj = MergedLinear(
            config.hidden_size,
            {"q_proj": query_size, "k_proj": kv_size, "v_proj": kv_size},
            bias=qkv_bias,
        )
        self.o_proj = Linear(query_size, config.hidden_size, bias=output_bias)
        self.q_norm = RMSNorm(head_size, config.rms_norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(head_size, config.rms_norm_eps) if qk_norm else None
        self.rotary = rotary
        self.attention = Attention(
            config.num_attention_heads, config.num_key_value_heads, head_size, sliding_window
        )

    def forward(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        cache: KVCache,
        metadata: AttentionMetadata,
    ) -> torch.Tensor:
        heads = self.qkv_proj(hidden).view(len(hidden), -1, self.attention.head_size)
        query, key, value = heads.split(self.heads, dim=1)
        norms = (self.q_norm, self.k_norm) if self.q_norm and self.k_norm else None
        self.rotary(positions, query, key, value, cache, metadata.slot_mapping, norms)
        out: torch.Tensor = self.o_proj(self.attention(query, cache, metadata))
        return out


class MLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: ModelConfig, *, bias: bool) -> None:
        super().__init__()
        width = config.intermediate_size
        self.gate_up_proj = MergedLinear(
            config.hidden_size, {"gate_proj": width, "up_proj": width}, bias=bias
        )
        self.down_proj = Linear(width, config.hidden_size, bias=bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(silu_and_mul(self.gate_up_proj(hidden)))
        return out


class DecoderLayer(nn.Module):
    """Attention and MLP, each of a norm of the residual stream."""

    def __init__(self, config: ModelConfig, attention: SelfAttention, *, mlp_bias: bool) -> None:
        super().__init__()
        self.self_attn = attention
        self.mlp = MLP(config, bias=mlp_bias)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        residual: torch.Tensor,
        delta: Optional[torch.Tensor],
        positions: torch.Tensor,
        cache: KVCache,
        metadata: AttentionMetadata,
    ) -> torch.Tensor:
        """Adds delta, which the layer before left, to residual; returns what this one leaves.

        An addition waits for the norm that follows it, so that both are one pass over the stream.
        """
        hidden = self.input_layernorm.add(residual, delta)
        hidden = self.self_attn(hidden, positions, cache, metadata)
        hidden = self.post_attention_layernorm.add(residual, hidden)
        out: torch.Tensor = self.mlp(hidden)
        return out


class Decoder(nn.Module):
    """Embedding, layers and the last norm: everything but the logits."""

    def __init__(self, config: ModelConfig, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        caches: Sequence[KVCache],
        metadata: AttentionMetadata,
    ) -> torch.Tensor:
        residual = self.embed_tokens(token_ids)
        delta: Optional[torch.Tensor] = None
        for layer, cache in zip(self.layers, caches):
            delta = layer(residual, delta, positions, cache, metadata)
        return self.norm.add(residual, delta)


class DecoderLM(nn.Module):
    """A decoder with a language-model head.

    max_model_len: positions that the rotary table covers.
    sliding_windows: one per layer, 0 where a layer attends to everything; default nowhere.
    """

    def __init__(
        self,
        config: ModelConfig,
        max_model_len: int,
        *,
        qkv_bias: bool = False,
        output_bias: bool = False,
        mlp_bias: bool = False,
        qk_norm: bool = False,
        sliding_windows: Optional[Sequence[int]] = None,
    ) -> None:
        super().__init__()
        self.config = config
        rotary = RotaryEmbedding(config.head_dim, max_model_len, config.rope)
        layers = []
        self.sliding_windows = list(sliding_windows or [0] * config.num_hidden_layers)
        for window in self.sliding_windows:
            attention = SelfAttention(
                config,
                rotary,
                sliding_window=window,
                qkv_bias=qkv_bias,
                output_bias=output_bias,
                qk_norm=qk_norm,
            )
            layers.append(DecoderLayer(config, attention, mlp_bias=mlp_bias))
        self.model = Decoder(config, layers)
        self.lm_head = (
            None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        )

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        caches: Sequence[KVCache],
        metadata: AttentionMetadata,
    ) -> torch.Tensor:
        """int64 [tokens] ids and positions -> hidden states [tokens, hidden_size]."""
        hidden: torch.Tensor = self.model(token_ids, positions, caches, metadata)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, hidden_size] -> float32 [rows, vocab_size]."""
        if self.lm_head is None:
            return self.model.embed_tokens.project(hidden).float()
        logits: torch.Tensor = self.lm_head(hidden)
        return logits.float()

    def pack(self) -> None:
        """Lays the weights out for the processor, once they are loaded; see `PackedWeight`."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.pack()
        if self.lm_head is None:
            self.model.embed_tokens.pack_for_project()
