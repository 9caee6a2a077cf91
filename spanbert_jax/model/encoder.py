"""The BERT encoder: embeddings and a scanned stack of transformer layers."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from spanbert_jax.model.attention import attention
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.model.layers import constrain_batch, dense, dropout, gelu, layer_norm


class Embeddings(nnx.Module):
    """Sum of word, position and type embeddings; LayerNorm follows it in post-LN models."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        normal = nnx.initializers.normal(config.initializer_range)
        table = functools.partial(nnx.Embed, features=config.hidden_size, dtype=config.dtype, rngs=rngs)

        def normal_with_zero_padding(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            is_piece = jnp.arange(shape[0]) < config.vocab_size
            return jnp.where(is_piece[:, None], normal(key, shape, dtype), 0.0)

        self.word = table(config.padded_vocab_size, embedding_init=normal_with_zero_padding)
        self.position = table(config.max_positions, embedding_init=normal)
        self.type = table(config.num_types, embedding_init=normal)
        if config.normalization == "post":
            self.norm = layer_norm(config, rngs=rngs)

    def __call__(
        self, tokens: jax.Array, positions: jax.Array, types: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Embeds [B, L] integers as [B, L, D]."""
        x = self.word(tokens) + self.position(positions) + self.type(types)  # [B, L, D]
        if self.config.normalization == "post":
            x = self.norm(x)
        return dropout(x, self.config.dropout, key)


class Layer(nnx.Module):
    """One transformer layer: self-attention and feed-forward, each in a residual branch."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        head_shape = (config.num_heads, config.head_size)
        self.qkv = dense(config, config.hidden_size, (3, *head_shape), rngs=rngs)
        self.attention_output = dense(config, head_shape, config.hidden_size, axis=(-2, -1), rngs=rngs)
        self.attention_norm = layer_norm(config, rngs=rngs)
        self.feed_forward_inner = dense(config, config.hidden_size, config.intermediate_size, rngs=rngs)
        self.feed_forward_outer = dense(config, config.intermediate_size, config.hidden_size, rngs=rngs)
        self.feed_forward_norm = layer_norm(config, rngs=rngs)

    def __call__(self, x: jax.Array, segments: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Maps [B, L, D] to [B, L, D] within `segments` [B, L]."""
        config = self.config
        probability_key, attention_key, feed_forward_key = (
            (None, None, None) if key is None else jax.random.split(key, 3)
        )

        def attend(x: jax.Array) -> jax.Array:
            query, key, value = jnp.moveaxis(self.qkv(x), 2, 0)  # each [B, L, N, H]
            mixed = attention(
                query, key, value, segments, dropout_rate=config.attention_dropout, dropout_key=probability_key
            )
            return dropout(self.attention_output(mixed), config.dropout, attention_key)

        def feed_forward(x: jax.Array) -> jax.Array:
            inner = gelu(self.feed_forward_inner(x))  # [B, L, F]
            return dropout(self.feed_forward_outer(inner), config.dropout, feed_forward_key)

        if config.normalization == "pre":
            x = x + attend(self.attention_norm(x))
            return x + feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + attend(x))
        return self.feed_forward_norm(x + feed_forward(x))


class Encoder(nnx.Module):
    """Embeddings and `num_layers` layers whose parameters are stacked on a leading axis and scanned over."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = Embeddings(config, rngs=rngs)
        self.layers = nnx.vmap(lambda layer_rngs: Layer(config, rngs=layer_rngs))(rngs.split(config.num_layers))
        if config.normalization == "pre":
            self.final_norm = layer_norm(config, rngs=rngs)

    def __call__(
        self,
        tokens: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        types: jax.Array,
        *,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes a batch.

        Args:
          tokens: [B, L] piece ids.
          segments: [B, L] block numbers, 0 where padded; attention stays within equal numbers.
          positions: [B, L] places within the block.
          types: [B, L] token types.
          key: dropout randomness; None for inference.

        Returns:
          Hidden states [B, L, D] in `model.dtype`.
        """
        num_layers = self.config.num_layers
        embedding_key, layer_keys = None, None
        if key is not None:
            embedding_key, *keys = jax.random.split(key, num_layers + 1)
            layer_keys = jnp.stack(keys)

        def body(x: jax.Array, scanned: tuple[Layer, jax.Array | None]) -> tuple[jax.Array, None]:
            layer, layer_key = scanned
            return constrain_batch(layer(x, segments, key=layer_key)), None

        x = constrain_batch(self.embeddings(tokens, positions, types, key=embedding_key))
        x, _ = jax.lax.scan(_rematerialize(body, self.config.remat), x, (self.layers, layer_keys))
        return self.final_norm(x) if self.config.normalization == "pre" else x


def _rematerialize(body, remat: str):
    if remat == "none":
        return body
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(body, prevent_cse=False, policy=policy)
