"""Runs of masked tokens and the boundary tokens from which the span-boundary objective predicts them (section 3.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from spanbert_jax.masking.config import MaskingConfig


class Runs(NamedTuple):
    """The targets of one row, one slot each in row order, and the maximal runs they form; each field `[K]`.

    `positions`: place in the row. `used`: whether the slot holds a target. `first`, `last`: the slots at which the
    target's run begins and ends. Unused slots hold zeros, except in `first` and `last`, which mean nothing there.
    """

    positions: jax.Array
    used: jax.Array
    first: jax.Array
    last: jax.Array


class Boundaries(NamedTuple):
    """Where the boundary tokens of each target's run lie; each field `[K]`, 0 where the objective does not apply."""

    left: jax.Array
    right: jax.Array
    offset: jax.Array
    sbo_weights: jax.Array


def find_runs(rank: jax.Array, breaks: jax.Array, slots: int) -> Runs:
    """Lists the targets of one row and their runs.

    `rank [L]` is the running count of targets; `breaks [L]` is as in `Words`, for a run never leaves its block.
    """
    index = jnp.arange(slots, dtype=jnp.int32)  # [K]
    used = index < rank[-1]
    positions = jnp.where(used, jnp.searchsorted(rank, index, side="right").astype(jnp.int32), 0)
    begins = (jnp.diff(positions, prepend=-2) != 1) | breaks[positions] | ~used
    ends = jnp.concatenate([begins[1:], jnp.ones(1, bool)])
    first = jax.lax.cummax(jnp.where(begins, index, 0))
    last = jax.lax.cummin(jnp.where(ends, index, slots), reverse=True)
    return Runs(positions, used, first, last)


def find_boundaries(runs: Runs, breaks: jax.Array, config: MaskingConfig) -> Boundaries:
    """Finds the boundaries of each target's run, and which targets the span-boundary objective covers.

    External endpoints are the observed tokens beside the run, so a run at the edge of its block, or beside any other
    special token, has none; internal ones are the run's own first and last.
    """
    index = jnp.arange(runs.positions.size, dtype=jnp.int32)  # [K]
    offset = index - runs.first + 1
    start = runs.positions - offset + 1
    end = runs.positions + runs.last - index
    applies = runs.used & (offset <= config.max_span_targets)
    if config.endpoints == "external":
        # A break at the row's own end stands for the neighbour that the last token lacks.
        edges = jnp.concatenate([breaks, jnp.ones(1, bool)])
        applies &= ~edges[start] & ~edges[end + 1]
        start, end = start - 1, end + 1
    left, right, offset = (jnp.where(applies, field, 0) for field in (start, end, offset))
    return Boundaries(left, right, offset, applies.astype(jnp.float32))
