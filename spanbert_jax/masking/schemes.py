"""Masking schemes: how many tokens of a row become targets, and which; one branch per scheme."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from spanbert_jax.masking import spans
from spanbert_jax.masking.config import MaskingConfig, exact_rate

# Float32 puts 0.15 * 100 just above 15; no product that matters lies this close above a whole number.
ROUNDING = 1e-4


def target_slots(length: int, config: MaskingConfig) -> int:
    """K, the static number of targets a row of `length` slots has room for: the budget of one full block."""
    return math.ceil(exact_rate(config.largest_mask_rate) * (length - 2))


def budget_of(ordinary_count: jax.Array, length: int, config: MaskingConfig, rate: jax.Array | None) -> jax.Array:
    """How many of a row's `ordinary_count` tokens to mask: ceil(rate * count), at most K and at most all of them.

    A fixed rate goes through a table made here, in exact arithmetic; a traced `rate` is rounded in float32.
    """
    slots = target_slots(length, config)
    if rate is None:
        exact = exact_rate(config.mask_rate)
        table = np.array([min(math.ceil(exact * count), slots) for count in range(length + 1)], np.int32)
        return jnp.asarray(table)[ordinary_count]
    asked = jnp.ceil(rate * ordinary_count.astype(jnp.float32) - ROUNDING).astype(jnp.int32)
    return jnp.clip(asked, 0, jnp.minimum(slots, ordinary_count))


def choose_targets(
    key: jax.Array, words: spans.Words, config: MaskingConfig, *, rate: jax.Array | None = None
) -> jax.Array:
    """Chooses the tokens of one row to predict, `[L]` bool, by `config.scheme`."""
    length = words.ordinary.size
    budget = budget_of(jnp.sum(words.ordinary, dtype=jnp.int32), length, config, rate)
    if config.scheme == "span_geometric":
        draws = spans.draws_per_round(target_slots(length, config), length, config)
        return spans.choose_spans(key, words, budget, draws, config)
    raise ValueError(f"scheme {config.scheme!r} is named in CHOICES but not built")
