"""Synthetic vocabularies and rows for the tests of masking, and the compiled function they share."""

import functools
import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from spanbert_jax.masking import MaskedBatch, MaskingConfig, Vocabulary, mask_batch
from tests.masking.oracle import OracleVocabulary

PAD, CLS, SEP, MASK = 0, 1, 2, 3
FIRST_ORDINARY = 4

# Compiling takes longer than all the masking of these tests: they share shapes, so as to share programs.
BATCH_SIZE, LENGTH = 24, 128
NUMBERS = np.arange(BATCH_SIZE)
DEFAULT = MaskingConfig()
# What the tests of distributions must tell from the default.
OTHER_SPANS = MaskingConfig(geometric_p=0.25, replacement_unit="token", endpoints="internal", max_span_targets=3)
OTHER_DRAWS = MaskingConfig(anchor="word", random_tokens="uniform", mask_share=0.7, random_share=0.2)


@functools.cache
def masker(config: MaskingConfig) -> Callable[..., MaskedBatch]:
    """The compiled `mask_batch(key, tokens, segments, vocabulary, **keywords)` of a config."""
    return jax.jit(
        lambda key, tokens, segments, vocabulary, **keywords: mask_batch(
            key, tokens, segments, as_arrays(vocabulary), config, **keywords
        )
    )


def make_vocabulary(size: int = 512, unused: int = 12, start_share: float = 0.6) -> OracleVocabulary:
    """A vocabulary with Zipf's unigram whose first ids are special and whose last `unused` ids only pad.

    With `start_share` 0.6 words have several pieces, as in a small WordPiece; a SentencePiece has more word starts.
    Frequent pieces start words more often than rare ones.
    """
    generator = np.random.default_rng(size)
    is_special = np.zeros(size, bool)
    is_special[:FIRST_ORDINARY] = True
    is_special[size - unused :] = True
    unigram = np.where(is_special, 0.0, 1.0 / (np.arange(size) + 10.0))
    starts = generator.random(size) < start_share * np.linspace(1.4, 0.6, size)
    return OracleVocabulary(starts, is_special, unigram / unigram.sum(), MASK)


def as_arrays(vocabulary: OracleVocabulary) -> Vocabulary:
    return Vocabulary(
        jnp.asarray(vocabulary.is_word_start),
        jnp.asarray(vocabulary.is_special),
        jnp.log(jnp.asarray(vocabulary.unigram, jnp.float32)),
        vocabulary.mask_id,
    )


def make_rows(
    blocks: Sequence[Sequence[int]], length: int, vocabulary: OracleVocabulary, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of random ordinary tokens: `blocks[i]` are the block sizes of row i, without [CLS] and [SEP]."""
    generator = np.random.default_rng(seed)
    ordinary = np.flatnonzero(~vocabulary.is_special)
    tokens = np.full((len(blocks), length), PAD, np.int32)
    segments = np.zeros((len(blocks), length), np.int32)
    for row, sizes in enumerate(blocks):
        place = 0
        for number, size in enumerate(sizes, start=1):
            body = generator.choice(ordinary, size)
            tokens[row, place : place + size + 2] = [CLS, *body, SEP]
            segments[row, place : place + size + 2] = number
            place += size + 2
    return tokens, segments


def random_blocks(count: int, length: int, seed: int = 0) -> list[list[int]]:
    """Block sizes of `count` packed rows that fill all, most or little of their slots."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        room, sizes = int(length * generator.choice([0.3, 0.9, 1.0, 1.0])), []
        while room >= 3 and len(sizes) < 5:
            size = int(generator.integers(1, room - 1))
            sizes.append(size if generator.random() < 0.5 else room - 2)
            room -= sizes[-1] + 2
        rows.append(sizes)
    return rows


def masked_places(masked: MaskedBatch, row: int) -> list[int]:
    return np.asarray(masked.positions[row])[np.asarray(masked.weights[row]) > 0].tolist()


def digest(masked: MaskedBatch) -> str:
    return hashlib.sha256(b"".join(np.asarray(field).tobytes() for field in masked)).hexdigest()
