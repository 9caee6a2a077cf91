"""The definition of span masking, written out literally in numpy and plain loops.

It shares nothing with the package: no code, no arithmetic, no way of drawing. One row at a time, one token at a time.
"""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class OracleVocabulary(NamedTuple):
    is_word_start: np.ndarray  # [V] bool
    is_special: np.ndarray  # [V] bool
    unigram: np.ndarray  # [V], sums to 1, zero for special ids
    mask_id: int


class Boundary(NamedTuple):
    left: int
    right: int
    offset: int
    sbo_weight: float


def length_probabilities(p: float = 0.2, longest: int = 10) -> list[float]:
    weights = [p * (1 - p) ** (length - 1) for length in range(1, longest + 1)]
    return [weight / sum(weights) for weight in weights]


def words_of_row(tokens: np.ndarray, segments: np.ndarray, vocabulary: OracleVocabulary) -> list[list[int]]:
    """The positions of every word, in row order; special tokens and padding belong to none."""
    words: list[list[int]] = []
    for place in range(len(tokens)):
        if not is_ordinary(place, tokens, segments, vocabulary):
            continue
        after_break = (
            place == 0
            or not is_ordinary(place - 1, tokens, segments, vocabulary)
            or segments[place - 1] != segments[place]
        )
        if after_break or vocabulary.is_word_start[tokens[place]]:
            words.append([])
        words[-1].append(place)
    return words


def is_ordinary(place: int, tokens: np.ndarray, segments: np.ndarray, vocabulary: OracleVocabulary) -> bool:
    return bool(segments[place] > 0 and not vocabulary.is_special[tokens[place]])


def same_stretch(word: list[int], following: list[int], segments: np.ndarray) -> bool:
    return following[0] == word[-1] + 1 and segments[following[0]] == segments[word[-1]]


def budget_of(count: int, rate: Fraction = Fraction(15, 100)) -> int:
    return math.ceil(rate * count)


def spend(
    draws: Iterable[tuple[int, int]], words: list[list[int]], segments: np.ndarray, masked: set[int], budget: int
) -> set[int]:
    """Masks span after span, for (length in words, anchor position) in `draws`, until `budget` tokens are masked."""
    masked = set(masked)
    for length, anchor in draws:
        if len(masked) == budget:
            break
        if anchor in masked:
            continue
        index = next(i for i, word in enumerate(words) if anchor in word)
        for step in range(length):
            if step > 0:
                if index + 1 == len(words) or not same_stretch(words[index], words[index + 1], segments):
                    break
                index += 1
            for place in words[index]:
                if len(masked) < budget:
                    masked.add(place)
    return masked


def choose_targets(
    generator: np.random.Generator, tokens: np.ndarray, segments: np.ndarray, vocabulary: OracleVocabulary
) -> set[int]:
    """One row's targets under the default numbers."""
    words = words_of_row(tokens, segments, vocabulary)
    ordinary = [place for word in words for place in word]
    probabilities = length_probabilities()

    def draws() -> Iterable[tuple[int, int]]:
        while True:
            length = generator.choice(np.arange(1, 11), p=probabilities)
            yield int(length), ordinary[generator.integers(len(ordinary))]

    budget = budget_of(len(ordinary))
    return spend(draws(), words, segments, set(), budget) if budget else set()


def runs_of(masked: Iterable[int], segments: np.ndarray) -> list[list[int]]:
    """Maximal runs of neighbouring masked positions inside one block."""
    runs: list[list[int]] = []
    for place in sorted(masked):
        if runs and runs[-1][-1] == place - 1 and segments[place] == segments[place - 1]:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def corrupt(
    generator: np.random.Generator, tokens: np.ndarray, runs: list[list[int]], vocabulary: OracleVocabulary
) -> np.ndarray:
    """The row the encoder sees: one 80/10/10 draw per run; random tokens come from the unigram one by one."""
    inputs = tokens.copy()
    for run in runs:
        chance = generator.random()
        for place in run:
            if chance < 0.8:
                inputs[place] = vocabulary.mask_id
            elif chance < 0.9:
                inputs[place] = generator.choice(len(vocabulary.unigram), p=vocabulary.unigram)
    return inputs


def boundaries_of(
    masked: Iterable[int],
    tokens: np.ndarray,
    segments: np.ndarray,
    vocabulary: OracleVocabulary,
    endpoints: str = "external",
    max_span_targets: int = 15,
) -> list[Boundary]:
    """For every target in row order, the boundary tokens of its run and its place in it."""
    found = []
    for run in runs_of(masked, segments):
        outside = (run[0] - 1, run[-1] + 1)
        inside_block = all(
            0 <= place < len(tokens)
            and segments[place] == segments[run[0]]
            and not vocabulary.is_special[tokens[place]]
            for place in outside
        )
        left, right = outside if endpoints == "external" else (run[0], run[-1])
        for offset in range(1, len(run) + 1):
            if offset <= max_span_targets and (inside_block or endpoints == "internal"):
                found.append(Boundary(left, right, offset, 1.0))
            else:
                found.append(Boundary(0, 0, 0, 0.0))
    return found
