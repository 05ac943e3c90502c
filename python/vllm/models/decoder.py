"""The decoder-only transformer that Llama and similar architectures share.

Each layer adds attention, then a gated MLP, to a residual stream; both take the norm of the stream.
An architecture derives from `DecoderLM` and implements `make_layer`, with the modules here or its
own.

Modules and parameters have the names that checkpoints use, so that loading needs no table; merged
linear layers know the names of their parts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import torch
from torch import nn

from vllm.config import ModelConfig
from vllm.layers.attention import Attention, AttentionMetadata, KVCache
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear, RowParallelLinear
from vllm.layers.norm import Normed, RMSNorm
from vllm.layers.rotary import RotaryEmbedding
from vllm.layers.weights import WeightFormat
from vllm.parallel.group import Group
from vllm.parallel.shard import Shard, require_size, split, split_or_copy


@dataclass(frozen=True)
class ModelContext:
    """What all modules of a model share.

    weights: the storage format of the linear layers' weights.
    group: the ranks that the model is divided among.
    """

    config: ModelConfig
    rotary: RotaryEmbedding
    weights: WeightFormat
    group: Group


class SelfAttention(nn.Module):
    """Projections, rotary embedding and attention of this rank's heads.

    sliding_window: see `Attention`.
    qkv_bias, output_bias: whether the projections before and after attention have biases.
    qk_norm: whether each head of query and key is normalised before the rotary embedding.
    """

    def __init__(
        self,
        context: ModelContext,
        *,
        sliding_window: int = 0,
        qkv_bias: bool = False,
        output_bias: bool = False,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        config, group, weights = context.config, context.group, context.weights
        head_size = config.head_dim
        heads = split(config.num_attention_heads, group)
        kv_heads = split_or_copy(config.num_key_value_heads, group)
        query, kv = heads.times(head_size), kv_heads.times(head_size)
        hidden = Shard.all(config.hidden_size)
        self.qkv_proj = Linear(
            hidden, {"q_proj": query, "k_proj": kv, "v_proj": kv}, bias=qkv_bias, weights=weights
        )
        self.o_proj = RowParallelLinear(query, hidden, group, bias=output_bias, weights=weights)
        self.q_norm = RMSNorm(head_size, config.rms_norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(head_size, config.rms_norm_eps) if qk_norm else None
        norms = (self.q_norm, self.k_norm) if self.q_norm and self.k_norm else None
        self.attention = Attention(
            heads.size, kv_heads.size, head_size, context.rotary, norms, sliding_window
        )

    def heads(self, hidden: Normed) -> torch.Tensor:
        """The heads of query, key and value of the norm of the residual stream, one after another:
        [tokens, heads, head_size]."""
        return self.qkv_proj.of(hidden).view(len(hidden.residual), -1, self.attention.head_size)


class MLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, context: ModelContext, *, bias: bool = False) -> None:
        super().__init__()
        config, weights = context.config, context.weights
        hidden = Shard.all(config.hidden_size)
        width = split(config.intermediate_size, context.group)
        self.gate_up_proj = Linear(
            hidden, {"gate_proj": width, "up_proj": width}, bias=bias, weights=weights
        )
        self.down_proj = RowParallelLinear(width, hidden, context.group, bias=bias, weights=weights)

    def forward(self, hidden: Normed) -> Optional[torch.Tensor]:
        """Adds to the residual stream and returns None, or returns what the caller must add."""
        return self.down_proj.add_to(hidden.residual, self.gate_up_proj.gated_of(hidden))


class DecoderLayer(nn.Module):
    """Attention and MLP, each of a norm of the residual stream.

    mlp: a module that adds to the residual stream as `MLP` does.
    """

    def __init__(self, context: ModelContext, attention: SelfAttention, mlp: nn.Module) -> None:
        super().__init__()
        config, group = context.config, context.group
        self.self_attn = attention
        self.mlp = mlp
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, group)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, group)

    def forward(
        self,
        residual: torch.Tensor,
        delta: Optional[torch.Tensor],
        positions: torch.Tensor,
        cache: KVCache,
        metadata: AttentionMetadata,
        rows: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """Adds the previous layer's delta to residual; returns residual and this layer's delta.

        A delta is this rank's addend of what is added to the residual stream; the sum over all
        ranks is added. The addition is delayed to the next norm, so that both are one pass over the
        stream. None means that a matrix product has already added it.

        rows: int64, the tokens that are returned, if those are not all: of the others, only keys
            and values are computed.
        """
        hidden = Normed(self.input_layernorm, residual, delta)
        heads = self.self_attn.heads(hidden)
        if rows is not None and not len(rows):
            self.self_attn.attention.store(positions, heads, cache, metadata)
            return residual[:0], None
        attended = self.self_attn.attention(positions, heads, cache, metadata)
        if rows is not None:
            residual, attended = residual[rows], attended[rows]
        delta = self.self_attn.o_proj.add_to(residual, attended)
        out: Optional[torch.Tensor] = self.mlp(
            Normed(self.post_attention_layernorm, residual, delta)
        )
        return residual, out


class Decoder(nn.Module):
    """Embedding, layers and the last norm: everything but the logits."""

    def __init__(self, context: ModelContext, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        config, group = context.config, context.group
        vocabulary = split(config.vocab_size, group)
        self.embed_tokens = Embedding(vocabulary, config.hidden_size, group)
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, group)

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        caches: Sequence[KVCache],
        metadata: AttentionMetadata,
        rows: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        residual = self.embed_tokens(token_ids)
        delta: Optional[torch.Tensor] = None
        last = len(self.layers) - 1
        for index, (layer, cache) in enumerate(zip(self.layers, caches)):
            wanted = rows if index == last else None
            residual, delta = layer(residual, delta, positions, cache, metadata, wanted)
        return self.norm.add(residual, delta) if len(residual) else residual


class DecoderLM(nn.Module):
    """A decoder with a language-model head, with this rank's part of the weights.

    max_model_len: positions that the rotary table covers.
    sliding_windows: one per layer, 0 for full attention.

    Raises ModelError for a model that cannot be divided among the ranks.
    """

    def __init__(
        self, config: ModelConfig, max_model_len: int, weights: WeightFormat, group: Group
    ) -> None:
        super().__init__()
        require_size(config, group.size)
        self.config = config
        self.group = group
        rotary = RotaryEmbedding(config.head_dim, max_model_len, config.rope)
        context = ModelContext(config, rotary, weights, group)
        layers = [self.make_layer(context, index) for index in range(config.num_hidden_layers)]
        self.sliding_windows = [layer.self_attn.attention.sliding_window for layer in layers]
        self.model = Decoder(context, layers)
        self.tied = config.tie_word_embeddings
        # A tied head shares the embedding's weight and allocates none.
        with torch.device("meta") if self.tied else contextlib.nullcontext():
            self.lm_head = Linear(
                Shard.all(config.hidden_size), split(config.vocab_size, group), weights=weights
            )
        if self.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    @staticmethod
    def make_layer(context: ModelContext, index: int) -> DecoderLayer:
        """Creates the decoder layer with an index, from 0. Each architecture implements it."""
        raise NotImplementedError

    def forward(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        caches: Sequence[KVCache],
        metadata: AttentionMetadata,
        rows: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """int64 [tokens] ids and positions -> hidden states [tokens, hidden_size].

        rows: int64, the tokens whose hidden states are returned; None returns all. The last layer
            computes nothing else but their keys and values.
        """
        hidden: torch.Tensor = self.model(token_ids, positions, caches, metadata, rows)
        return hidden

    def logits(self, hidden: torch.Tensor) -> Optional[torch.Tensor]:
        """[rows, hidden_size] -> [rows, vocab_size] in rank 0, None in the others."""
        return self.group.gather(self.lm_head(hidden))

    def logits_into(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """Writes `logits` to out, [rows, vocab_size]. In rank 0 only; the others call `logits`."""
        if self.group.size == 1:
            self.lm_head.into(hidden, out)
        else:
            logits = self.logits(hidden)
            assert logits is not None
            out.copy_(logits)

    def untie(self) -> None:
        """Gives the head a separate weight, uninitialised, instead of the embedding's."""
        weight = torch.empty_like(self.model.embed_tokens.weight)
        self.lm_head.weight = nn.Parameter(weight, requires_grad=False)
        self.tied = False

    def finish(self) -> None:
        """Call it once after loading; see `WeightFormat.finish`."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.finish()
