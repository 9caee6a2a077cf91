"""Two-sample tests of what is drawn against the oracle, with the row as the unit.

Targets of one row hang together, so each row gives one number per statistic. Both sides mask the same rows: their
numbers are compared by a paired t-test (the difference of a row's two numbers is symmetric if both sides draw alike)
and by a Kolmogorov-Smirnov test, for differences of shape. Keys are fixed, so a test either always passes or always
fails; the chance that a right program was unlucky is at most `ERROR_RATE` a test, 1 % over all of them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spanbert_jax.masking import MaskingConfig
from tests.masking import oracle, rows

BATCHES = 80
VOCABULARY = rows.make_vocabulary()
LOG_UNIGRAM = np.log(np.where(VOCABULARY.is_special, 1.0, VOCABULARY.unigram))


class Row:
    """One masked row and what the statistics need of it."""

    def __init__(self, tokens: np.ndarray, segments: np.ndarray, inputs: np.ndarray, places: list[int]):
        self.places = np.array(places)
        self.targets = tokens[self.places]
        self.shown = inputs[self.places]
        self.runs = oracle.runs_of(places, segments)
        self.sizes = {word[0]: len(word) for word in oracle.words_of_row(tokens, segments, VOCABULARY)}
        self.random = (self.shown != VOCABULARY.mask_id) & (self.shown != self.targets)


# Statistic of a row, and the config that it must tell from the default.
STATISTICS: dict[str, tuple[Callable[[Row], float], MaskingConfig]] = {
    "number of runs": (lambda row: len(row.runs), rows.OTHER_SPANS),
    "longest run": (lambda row: max(map(len, row.runs)), rows.OTHER_SPANS),
    "mean square of run lengths": (lambda row: np.mean([len(run) ** 2 for run in row.runs]), rows.OTHER_SPANS),
    "pieces in the words where runs start": (
        lambda row: np.mean([row.sizes[run[0]] for run in row.runs]),
        rows.OTHER_DRAWS,
    ),
    "share of [MASK]": (lambda row: (row.shown == VOCABULARY.mask_id).mean(), rows.OTHER_DRAWS),
    "share of random tokens": (lambda row: row.random.mean(), rows.OTHER_DRAWS),
    "nothing but [MASK]": (lambda row: (row.shown == VOCABULARY.mask_id).all(), rows.OTHER_SPANS),
    "log frequency of random tokens": (lambda row: LOG_UNIGRAM[row.shown[row.random]].sum(), rows.OTHER_DRAWS),
    "targets that start a word": (lambda row: VOCABULARY.is_word_start[row.targets].mean(), rows.OTHER_DRAWS),
    "log frequency of targets": (lambda row: LOG_UNIGRAM[row.targets].mean(), rows.OTHER_DRAWS),
}
ERROR_RATE = 0.01 / len(STATISTICS)


@functools.cache
def blocks() -> tuple[np.ndarray, np.ndarray]:
    sizes = [row for row in rows.random_blocks(3 * BATCHES * rows.BATCH_SIZE, rows.LENGTH, seed=1) if sum(row) > 60]
    return rows.make_rows(sizes[: BATCHES * rows.BATCH_SIZE], rows.LENGTH, VOCABULARY, seed=1)


@functools.cache
def our_rows(config: MaskingConfig) -> list[Row]:
    tokens, segments = blocks()
    found = []
    for first in range(0, len(tokens), rows.BATCH_SIZE):
        batch = slice(first, first + rows.BATCH_SIZE)
        numbers = jnp.arange(batch.start, batch.stop)
        masked = rows.masker(config)(jax.random.key(9), tokens[batch], segments[batch], VOCABULARY, rows=numbers)
        inputs = np.asarray(masked.inputs)
        for row in range(rows.BATCH_SIZE):
            places = rows.masked_places(masked, row)
            found.append(Row(tokens[first + row], segments[first + row], inputs[row], places))
    return found


@functools.cache
def oracle_rows() -> list[Row]:
    generator = np.random.default_rng(10)
    found = []
    for tokens, segments in zip(*blocks(), strict=True):
        places = sorted(oracle.choose_targets(generator, tokens, segments, VOCABULARY))
        inputs = oracle.corrupt(generator, tokens, oracle.runs_of(places, segments), VOCABULARY)
        found.append(Row(tokens, segments, inputs, places))
    return found


def p_value(ours: list[Row], statistic: Callable[[Row], float]) -> float:
    """Of the hypothesis that `ours` are drawn as the oracle's are; the smaller of the two tests', corrected for two."""
    found = np.array([statistic(row) for row in ours], float)
    expected = np.array([statistic(row) for row in oracle_rows()], float)
    return 2 * min(stats.ttest_rel(found, expected).pvalue, stats.ks_2samp(found, expected, method="asymp").pvalue)


@pytest.mark.parametrize("name", STATISTICS)
def test_draws_are_those_of_the_definition(name: str):
    statistic, other = STATISTICS[name]
    assert p_value(our_rows(rows.DEFAULT), statistic) > ERROR_RATE
    assert p_value(our_rows(other), statistic) < ERROR_RATE
