import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spanbert_jax.masking import MaskingConfig
from spanbert_jax.masking.spans import choose_spans, draw_lengths, draw_spans, find_words, length_distribution
from tests.masking import oracle, rows

ERROR_RATE = 1e-3

CONFIG = MaskingConfig()
VOCABULARY = rows.make_vocabulary()
ARRAYS = rows.as_arrays(VOCABULARY)


def test_words_start_at_starts_and_after_every_break():
    start = int(np.flatnonzero(VOCABULARY.is_word_start & ~VOCABULARY.is_special)[0])
    piece = int(np.flatnonzero(~VOCABULARY.is_word_start & ~VOCABULARY.is_special)[0])
    ids = {"C": rows.CLS, "S": rows.SEP, "M": rows.MASK, "_": rows.PAD, "w": start, "p": piece}
    row, segments = "CppwpSCwwMpwS__", "111111222222200"
    found = find_words(
        jnp.asarray([ids[letter] for letter in row]), jnp.asarray([int(digit) for digit in segments]), ARRAYS, CONFIG
    )

    def drawn(flags: jax.Array) -> str:
        return "".join("x" if flag else "." for flag in flags)

    assert drawn(found.ordinary) == ".xxxx..xx.xx..."
    assert drawn(found.starts) == ".x.x...xx.xx..."
    assert drawn(found.breaks) == "xx...xxx.xx.xxx"
    numbers = np.asarray(found.numbers)
    assert np.diff(numbers)[[1, 2, 3, 7, 10]].tolist() == [0, 1, 0, 1, 1]
    assert (np.diff(numbers)[[0, 4, 5, 6, 8, 9]] >= CONFIG.max_span_words).all()
    assert numbers[7] - numbers[4] > CONFIG.max_span_words
    assert numbers[10] - numbers[8] > CONFIG.max_span_words


def test_lengths_are_geometric_cut_at_ten_and_renormalised():
    found = length_distribution(CONFIG)
    np.testing.assert_allclose(found, oracle.length_probabilities(), rtol=1e-12)
    assert found @ np.arange(1, 11) == pytest.approx(3.797, abs=5e-4)


def test_other_length_distributions():
    np.testing.assert_allclose(length_distribution(MaskingConfig(geometric_p=0, max_span_words=4)), [0.25] * 4)
    np.testing.assert_array_equal(length_distribution(MaskingConfig(geometric_p=1, max_span_words=3)), [1, 0, 0])
    shifted = length_distribution(MaskingConfig(geometric_p=0.5, min_span_words=2, max_span_words=4))
    np.testing.assert_allclose(shifted, [0, 4 / 7, 2 / 7, 1 / 7])


def length_p_value(**config: float) -> float:
    lengths = draw_lengths(jax.random.key(3), (100_000,), MaskingConfig(**config))
    counts = np.bincount(lengths, minlength=11)
    assert counts[0] == 0
    assert counts.size == 11
    return float(stats.chisquare(counts[1:], np.array(oracle.length_probabilities()) * 100_000).pvalue)


def test_drawn_lengths_follow_the_distribution():
    assert length_p_value() > ERROR_RATE
    assert length_p_value(geometric_p=0.25) < 1e-12
    assert length_p_value(geometric_p=0.21) < ERROR_RATE


def anchor_p_value(anchor: str) -> float:
    """Draws anchors as a first round does, against the uniform distribution over ordinary tokens."""
    tokens, segments = rows.make_rows([[30, 20]], 64, VOCABULARY)
    words = find_words(jnp.asarray(tokens[0]), jnp.asarray(segments[0]), ARRAYS, CONFIG)
    candidates = words.ordinary if anchor == "token" else words.ordinary & words.starts
    anchors, _ = draw_spans(jax.random.key(4), candidates, 50_000, CONFIG)
    counts = np.bincount(anchors, minlength=64)
    assert counts[~np.asarray(candidates)].sum() == 0
    return float(stats.chisquare(counts[np.asarray(words.ordinary)]).pvalue)


def test_anchors_are_uniform_over_ordinary_tokens():
    assert anchor_p_value("token") > ERROR_RATE
    assert anchor_p_value("word") < 1e-12


def follow_the_loop(
    key: jax.Array, tokens: np.ndarray, segments: np.ndarray, budget: int, draws: int, anchor: str
) -> set[int]:
    """Feeds the very draws of `choose_spans` to the oracle's loop, one after another."""
    config = MaskingConfig(anchor=anchor)
    words = oracle.words_of_row(tokens, segments, VOCABULARY)
    masked: set[int] = set()
    number = 0
    while len(masked) < budget:
        candidates = np.zeros(len(tokens), bool)
        for word in words:
            candidates[word if anchor == "token" else word[:1]] = True
        candidates[list(masked)] = False
        anchors, lengths = draw_spans(jax.random.fold_in(key, number), jnp.asarray(candidates), draws, config)
        pairs = zip(lengths.tolist(), anchors.tolist(), strict=True)
        masked = oracle.spend(pairs, words, segments, masked, budget)
        number += 1
    return masked


@pytest.mark.parametrize(("anchor", "cut_words"), [("token", True), ("word", False)])
def test_rounds_do_what_the_loop_does_with_the_same_draws(anchor: str, cut_words: bool):
    draws = 8
    tokens, segments = rows.make_rows(rows.random_blocks(12, 96, seed=5), 96, VOCABULARY)
    config = MaskingConfig(anchor=anchor, cut_words=cut_words)
    choose = jax.jit(
        lambda key, tokens, segments, budget: choose_spans(
            key, find_words(tokens, segments, ARRAYS, config), budget, draws, config
        )
    )
    shortened = 0
    for row, share in itertools.product(range(len(tokens)), (0.15, 0.6, 1.0)):
        words = oracle.words_of_row(tokens[row], segments[row], VOCABULARY)
        budget = int(np.ceil(share * sum(map(len, words))))
        key = jax.random.fold_in(jax.random.key(6), row)
        found = np.flatnonzero(choose(key, tokens[row], segments[row], budget)).tolist()
        expected = follow_the_loop(key, tokens[row], segments[row], budget, draws, anchor)
        assert len(expected) == budget
        if not cut_words:
            expected = {place for word in words if expected.issuperset(word) for place in word}
            shortened += len(expected) < budget
        assert found == sorted(expected)
    assert cut_words or shortened > 3
