"""Corruption: what the encoder sees in place of each target ([MASK], a random token, or the token itself)."""

import jax
import jax.numpy as jnp

from spanbert_jax.masking.boundaries import Runs
from spanbert_jax.masking.config import MaskingConfig, Vocabulary
from spanbert_jax.masking.integers import uniform_integers


def random_token_table(vocabulary: Vocabulary, config: MaskingConfig) -> jax.Array:
    """Cumulative weights `[V]` (uint32, total about 2**31) of the tokens that may stand in for a target.

    Whole numbers, because a cumulative sum of floats, added up in whatever order a device likes, need not be flat over
    ids of probability zero: now and then a special token would be drawn.
    """
    if config.random_tokens == "unigram":
        log_weights = jnp.where(vocabulary.is_special, -jnp.inf, vocabulary.log_unigram)
    else:
        log_weights = jnp.where(vocabulary.is_special, -jnp.inf, 0.0)
    shares = jax.nn.softmax(log_weights.astype(jnp.float32))
    return jnp.cumsum((shares * 2.0**31).astype(jnp.uint32))


def draw_tokens(bits: jax.Array, table: jax.Array) -> jax.Array:
    """Turns uniform `bits` (uint32) into token ids by inverse CDF over `table [V]`, without an array of theirs by V."""
    drawn = uniform_integers(bits, table[-1])
    return jnp.searchsorted(table, drawn, side="right").astype(jnp.int32)


def corrupt_targets(
    key: jax.Array, targets: jax.Array, runs: Runs, table: jax.Array, mask_id: int | jax.Array, config: MaskingConfig
) -> jax.Array:
    """Returns what stands in the row at each target, `[K]`, for `targets [K]`, the original tokens.

    [MASK], random or unchanged is drawn once per run, so that a span is hidden or shown as a whole (section 3.1), or
    per token by config; a random token is always drawn anew for each token.
    """
    kind_bits, token_bits = jax.random.bits(key, (2, *targets.shape))
    kind = (kind_bits >> 8).astype(jnp.float32) * 2.0**-24  # [K], in [0, 1)
    if config.replacement_unit == "run":
        kind = kind[runs.first]
    drawn = draw_tokens(token_bits, table)
    shown = jnp.where(kind < 1.0 - config.keep_share, drawn, targets)
    return jnp.where(kind < config.mask_share, mask_id, shown)
