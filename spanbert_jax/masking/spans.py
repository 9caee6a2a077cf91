"""Span choice: which tokens of a row become targets when spans of whole words are drawn at random.

The definition is a loop: draw a length in words and an anchor token; if the anchor is masked already, draw both again;
else mask from the anchor's word start rightwards for that many words, inside the block; stop when the budget is spent.
Looping that way costs an accelerator dozens of dependent steps on tiny arrays. Here a *round* draws many (length,
anchor) pairs at once and settles with a few wide operations what the loop would have done with them in order; a
further round follows only in the rare case that the pairs did not suffice.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spanbert_jax.masking.config import MaskingConfig, Vocabulary
from spanbert_jax.masking.integers import running_sum, uniform_integers

# Draws in a round: whole multiples of this many, which are unrolled together.
UNROLL = 8
LARGEST_ROUND = 64


class Words(NamedTuple):
    """How the words of one row lie, each field `[L]`.

    `ordinary`: may be masked (not special, not padding). `breaks`: the left neighbour is not an ordinary token of the
    same block, or this one is not ordinary. `starts`: first token of a word. `numbers`: equal within a word, one more
    in the next word of the block, and further apart than any span is long across a break; so "the next n words of the
    block" is a range of numbers.
    """

    ordinary: jax.Array
    breaks: jax.Array
    starts: jax.Array
    numbers: jax.Array


def find_words(tokens: jax.Array, segments: jax.Array, vocabulary: Vocabulary, config: MaskingConfig) -> Words:
    """Finds the words of one row, `tokens` and `segments` `[L]`; the first token of a block starts a word."""
    ordinary = ~vocabulary.is_special[tokens] & (segments > 0)  # [L]
    joined = ordinary[1:] & ordinary[:-1] & (segments[1:] == segments[:-1])
    breaks = jnp.concatenate([jnp.ones(1, bool), ~joined])
    starts = ordinary & (vocabulary.is_word_start[tokens] | breaks)
    numbers = running_sum(starts + config.max_span_words * breaks)
    return Words(ordinary, breaks, starts, numbers)


def length_distribution(config: MaskingConfig) -> np.ndarray:
    """Probabilities `[max_span_words]` of the lengths 1, 2, ... words, float64 (section 3.1: truncated geometric)."""
    lengths = np.arange(1, config.max_span_words + 1)
    weights = np.where(
        lengths >= config.min_span_words,
        (1.0 - config.geometric_p) ** np.maximum(lengths - config.min_span_words, 0),
        0,
    )
    return weights / weights.sum()


def draw_lengths(key: jax.Array, shape: tuple[int, ...], config: MaskingConfig) -> jax.Array:
    """Draws span lengths in words, int32."""
    return _lengths(jax.random.bits(key, shape), config)


def _lengths(bits: jax.Array, config: MaskingConfig) -> jax.Array:
    """Turns uniform bits (uint32) into lengths by inverse CDF, in integers: off by 2**-32 at most."""
    thresholds = np.round(np.cumsum(length_distribution(config))[:-1] * 2**31).astype(np.uint32)
    return 1 + jnp.sum(bits[..., None] >> 1 >= thresholds, axis=-1, dtype=jnp.int32)


def draws_per_round(slots: int, length: int, config: MaskingConfig) -> int:
    """How many spans to draw at once for `slots` targets in rows of `length`; it decides speed, not what is drawn.

    Sized so that a row of one-token words, which needs the most spans, almost never wants a second round.
    """
    words_per_span = length_distribution(config) @ np.arange(1, config.max_span_words + 1)
    # At half the budget, that share of the anchors is rejected and of the words is already masked.
    fresh = 1 - slots / length / 2
    expected = slots / words_per_span / fresh**2
    return min(UNROLL * math.ceil((expected + 4 * math.sqrt(expected)) / UNROLL), LARGEST_ROUND)


def choose_spans(key: jax.Array, words: Words, budget: jax.Array, draws: int, config: MaskingConfig) -> jax.Array:
    """Chooses the targets of one row: `[L]` bool with `budget` tokens set (fewer if words must stay whole).

    `budget` is a scalar, at most the number of ordinary tokens: every round then masks at least one token, so the
    loop ends. `draws` is the static number of spans in a round.
    """

    def spend(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        number, masked = state
        return number + 1, _mask_round(jax.random.fold_in(key, number), words, masked, budget, draws, config)

    def unspent(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.sum(state[1], dtype=jnp.int32) < budget

    _, masked = jax.lax.while_loop(unspent, spend, (jnp.int32(0), jnp.zeros_like(words.ordinary)))
    return masked if config.cut_words else _drop_cut_word(masked, words)


def draw_spans(key: jax.Array, candidates: jax.Array, draws: int, config: MaskingConfig) -> tuple[jax.Array, jax.Array]:
    """Draws `draws` spans: their anchors, uniform over the `candidates [L]` (bool), and their lengths in words."""
    length_bits, anchor_bits = jax.random.bits(key, (2, draws))
    rank = running_sum(candidates)  # [L]
    drawn_ranks = uniform_integers(anchor_bits, rank[-1]).astype(jnp.int32)
    anchors = jnp.searchsorted(rank, drawn_ranks, side="right")
    return anchors, _lengths(length_bits, config)


def _mask_round(
    key: jax.Array, words: Words, masked: jax.Array, budget: jax.Array, draws: int, config: MaskingConfig
) -> jax.Array:
    """Returns `masked [L]` after one round of drawn spans, or after as many of them as the budget pays for.

    Drawing anchors among the tokens still free when the round begins only skips draws that would be rejected.
    """
    free = words.ordinary & ~masked
    candidates = free & words.starts if config.anchor == "word" else free
    anchors, lengths = draw_spans(key, candidates, draws, config)
    first_words = words.numbers[anchors]  # [draws]
    lengths = _reject(first_words, lengths)
    order = jnp.where(free, _first_cover(words.numbers, first_words, lengths), draws)  # [L]
    places = jnp.arange(order.size, dtype=jnp.int32)
    return masked | _smallest(order * order.size + places, order < draws, budget - jnp.sum(masked, dtype=jnp.int32))


def _reject(first_words: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns `lengths` with 0 for each draw whose anchor lies in an earlier draw's span, itself not rejected."""
    places = jnp.arange(lengths.size, dtype=jnp.int32)

    def settle(i: jax.Array, lengths: jax.Array) -> jax.Array:
        inside = _within(first_words, first_words[i], lengths[i]) & (places > i)
        return jnp.where(inside, 0, lengths)

    return jax.lax.fori_loop(0, lengths.size, settle, lengths)


def _first_cover(numbers: jax.Array, first_words: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns for each token `[L]` the first draw whose span covers its word; their count where none does."""

    def cover(i: jax.Array, order: jax.Array) -> jax.Array:
        return jnp.minimum(order, jnp.where(_within(numbers, first_words[i], lengths[i]), i, lengths.size))

    uncovered = jnp.full(numbers.shape, lengths.size, jnp.int32)
    return jax.lax.fori_loop(0, lengths.size, cover, uncovered, unroll=UNROLL)


def _within(numbers: jax.Array, first: jax.Array, length: jax.Array) -> jax.Array:
    # One unsigned comparison: a number below `first` wraps round to a huge one.
    return (numbers - first).astype(jnp.uint32) < length.astype(jnp.uint32)


def _smallest(keys: jax.Array, eligible: jax.Array, count: jax.Array) -> jax.Array:
    """Marks the `count` (>= 1) smallest of the eligible distinct `keys [L]`, or all of those if they are fewer.

    Bisects for the threshold bit by bit: a sort would cost more than all the rest of the masking.
    """
    bits = (keys.size * LARGEST_ROUND - 1).bit_length()
    keys = jnp.where(eligible, keys, 2**bits)

    def halve(i: jax.Array, threshold: jax.Array) -> jax.Array:
        higher = threshold + (2 ** (bits - 1) >> i)
        return jnp.where(jnp.sum(keys < higher, dtype=jnp.int32) < count, higher, threshold)

    return keys <= jax.lax.fori_loop(0, bits, halve, jnp.int32(0))


def _drop_cut_word(masked: jax.Array, words: Words) -> jax.Array:
    """Unmasks the one word, if any, that the budget cut: there a masked token is followed by a free one of its word."""
    cut = masked[:-1] & ~masked[1:] & (words.numbers[:-1] == words.numbers[1:])
    cut_number = jnp.max(jnp.where(cut, words.numbers[:-1], -1))
    return masked & (words.numbers != cut_number)
