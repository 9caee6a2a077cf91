"""Scaled dot-product attention that never crosses a segment."""

import jax
import jax.numpy as jnp

from spanbert_jax.model.layers import dropout


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array,
    *,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Attends within segments, so that a packed row gives each of its blocks the outputs it has alone.

    Args:
      query: [B, L, N, H].
      key: [B, L, N, H].
      value: [B, L, N, H].
      segments: [B, L] integers; positions see each other where theirs are equal.
      dropout_rate: rate on the attention probabilities.
      dropout_key: randomness for it; None turns dropout off.

    Returns:
      [B, L, N, H] in the type of `query`; scores and softmax are float32.
    """
    scores = jnp.einsum("blnh,bmnh->bnlm", query * query.shape[-1] ** -0.5, key, preferred_element_type=jnp.float32)
    same_segment = segments[:, None, :, None] == segments[:, None, None, :]  # [B, 1, L, L]
    probabilities = jax.nn.softmax(jnp.where(same_segment, scores, jnp.finfo(jnp.float32).min), axis=-1)
    probabilities = dropout(probabilities.astype(query.dtype), dropout_rate, dropout_key)  # [B, N, L, L]
    return jnp.einsum("bnlm,bmnh->blnh", probabilities, value)
