"""Dynamic masking: pure functions of (key, row), run inside the jitted step; no mask is ever stored."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from spanbert_jax.errors import UserError
from spanbert_jax.masking import boundaries, corrupt, schemes, spans
from spanbert_jax.masking.config import MaskingConfig, Vocabulary
from spanbert_jax.masking.integers import running_sum

__all__ = ["MaskedBatch", "MaskingConfig", "Vocabulary", "mask_batch"]


class MaskedBatch(NamedTuple):
    """What the encoder reads and what the two objectives ask; K = ceil(max_mask_rate * (L - 2)) slots a row.

    inputs       [B, L]  corrupted tokens
    positions    [B, K]  places of the targets in the row, ascending (0 where unused)
    targets      [B, K]  original tokens (0 where unused)
    weights      [B, K]  1.0 for a target, 0.0 for an unused slot
    left, right  [B, K]  places of the boundary tokens of the target's span
    offset       [B, K]  1-based place of the target in its span
    sbo_weights  [B, K]  1.0 where the span-boundary objective applies; left, right and offset are 0 elsewhere

    The weights are float32, all else int32. A span is a maximal run of masked tokens inside one block.
    """

    inputs: jax.Array
    positions: jax.Array
    targets: jax.Array
    weights: jax.Array
    left: jax.Array
    right: jax.Array
    offset: jax.Array
    sbo_weights: jax.Array


def mask_batch(
    key: jax.Array,
    tokens: jax.Array,
    segments: jax.Array,
    vocabulary: Vocabulary,
    config: MaskingConfig,
    *,
    rows: jax.Array | None = None,
    units: jax.Array | None = None,
    rate: jax.Array | float | None = None,
) -> MaskedBatch:
    """Chooses targets, corrupts them and finds their boundaries, anew for every key (sections 3.1 and 3.2).

    `tokens` and `segments` are `[B, L]` int32 (segment 0 is padding). `key` is one scalar threefry key; row i draws
    from `fold_in(key, rows[i])`, `rows [B]` being 0..B-1 by default, and depends on nothing but its key and its own
    tokens: not on its place in the batch, its neighbours or the mesh. `rate`, a traced scalar, replaces
    `config.mask_rate` and is cut at `config.max_mask_rate`. `units [B, L]` numbers annotated phrases, for schemes that
    mask those; span masking has no use for it. Raises `UserError` for rows that leave no room for a target.
    """
    del units
    batch_size, length = tokens.shape
    if length < 3:
        raise UserError(
            f"data.length: got rows of {length}, expected at least 3 ([CLS], a token, [SEP]); lengthen them"
        )
    if rows is None:
        rows = jnp.arange(batch_size, dtype=jnp.int32)
    vocabulary = jax.tree.map(jnp.asarray, vocabulary)
    table = corrupt.random_token_table(vocabulary, config)  # [V]
    traced_rate = None if rate is None else jnp.asarray(rate, jnp.float32)

    def mask_row(row: jax.Array, tokens: jax.Array, segments: jax.Array) -> MaskedBatch:
        span_key, corruption_key = jax.random.split(jax.random.fold_in(key, row))
        words = spans.find_words(tokens, segments, vocabulary, config)
        masked = schemes.choose_targets(span_key, words, config, rate=traced_rate)  # [L]
        rank = running_sum(masked)
        runs = boundaries.find_runs(rank, words.breaks, schemes.target_slots(length, config))
        targets = jnp.where(runs.used, tokens[runs.positions], 0)  # [K]
        shown = corrupt.corrupt_targets(corruption_key, targets, runs, table, vocabulary.mask_id, config)
        # Gathered by rank rather than scattered to positions: scatters run one by one on some devices.
        inputs = jnp.where(masked, shown[jnp.maximum(rank - 1, 0)], tokens)
        weights = runs.used.astype(jnp.float32)
        found = boundaries.find_boundaries(runs, words.breaks, config)
        return MaskedBatch(inputs, runs.positions, targets, weights, *found)

    return jax.vmap(mask_row)(rows, tokens, segments)
