"""The two pre-training heads, and the model that puts them on the encoder."""

import jax
import jax.numpy as jnp
from flax import nnx

from spanbert_jax.masking import MaskedBatch
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.model.encoder import Encoder
from spanbert_jax.model.layers import dense, gelu, layer_norm


class Transform(nnx.Module):
    """Linear, GELU, LayerNorm: what both heads are made of (paper, section 3.2)."""

    def __init__(self, config: ModelConfig, inputs: int, *, rngs: nnx.Rngs):
        self.dense = dense(config, inputs, config.hidden_size, rngs=rngs)
        self.norm = layer_norm(config, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(gelu(self.dense(x)))


class MaskedLanguageHead(nnx.Module):
    """Represents a masked position from its own hidden state."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.transform = Transform(config, config.hidden_size, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(config.padded_vocab_size))

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Maps hidden states [B, K, D] of masked positions to [B, K, D]."""
        return self.transform(hidden)


class SpanBoundaryHead(nnx.Module):
    """Represents a masked token from its span's two boundary states and its place in the span (paper, section 3.2)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.position = nnx.Embed(
            config.num_span_positions,
            config.span_position_size,
            dtype=config.dtype,
            embedding_init=nnx.initializers.normal(config.initializer_range),
            rngs=rngs,
        )
        self.first = Transform(config, 2 * config.hidden_size + config.span_position_size, rngs=rngs)
        self.second = Transform(config, config.hidden_size, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(config.padded_vocab_size))

    def __call__(self, left: jax.Array, right: jax.Array, offset: jax.Array) -> jax.Array:
        """Maps boundary states [B, K, D] and 1-based offsets [B, K] (0 where unused) to [B, K, D]."""
        place = self.position(jnp.maximum(offset - 1, 0))
        return self.second(self.first(jnp.concatenate([left, right, place], axis=-1)))


class SpanBert(nnx.Module):
    """The encoder with both heads, whose output layer is the word embedding and a bias of each head's own."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.encoder = Encoder(config, rngs=rngs)
        self.mlm = MaskedLanguageHead(config, rngs=rngs)
        self.sbo = SpanBoundaryHead(config, rngs=rngs)

    def mlm_logits(self, hidden: jax.Array, positions: jax.Array) -> jax.Array:
        """Logits [B, K, V] for `positions` [B, K] of `hidden` [B, L, D], each from its own hidden state."""
        return self._vocabulary_logits(self.mlm(gather(hidden, positions)), self.mlm.bias)

    def sbo_logits(self, hidden: jax.Array, left: jax.Array, right: jax.Array, offset: jax.Array) -> jax.Array:
        """Logits [B, K, V] for targets at `offset` [B, K] in the spans bounded by `left` and `right` [B, K]."""
        return self._vocabulary_logits(self.sbo(gather(hidden, left), gather(hidden, right), offset), self.sbo.bias)

    def __call__(
        self,
        masked: MaskedBatch,
        segments: jax.Array,
        positions: jax.Array,
        types: jax.Array,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Logits of both objectives for the K targets of each row; nothing of shape [B, L, V] is ever made.

        Args:
          masked: corrupted tokens [B, L] and their targets' places [B, K].
          segments: [B, L] block numbers.
          positions: [B, L] places within the block.
          types: [B, L] token types.
          key: dropout randomness; None for inference.

        Returns:
          MLM and SBO logits, each float32 [B, K, V], -inf at ids that only pad the vocabulary.
        """
        hidden = self.encoder(masked.inputs, segments, positions, types, key=key)
        return (
            self.mlm_logits(hidden, masked.positions),
            self.sbo_logits(hidden, masked.left, masked.right, masked.offset),
        )

    def _vocabulary_logits(self, x: jax.Array, bias: nnx.Param) -> jax.Array:
        embedding = self.encoder.embeddings.word.embedding[...].astype(x.dtype)  # [V, D]
        is_piece = jnp.arange(self.config.padded_vocab_size) < self.config.vocab_size
        # -inf in the bias rather than over the logits: one pass less over [B, K, V].
        piece_bias = jnp.where(is_piece, bias[...], -jnp.inf)
        return jnp.einsum("bkd,vd->bkv", x, embedding, preferred_element_type=jnp.float32) + piece_bias


def gather(hidden: jax.Array, positions: jax.Array) -> jax.Array:
    """Picks `positions` [B, K] from `hidden` [B, L, D] as [B, K, D]."""
    return jnp.take_along_axis(hidden, positions[..., None], axis=1)
