"""Blocks, packing and row records."""

import numpy as np
import pytest

from spanbert_jax.data import blocks
from spanbert_jax.errors import UserError

CLS, SEP = 90, 91
# Ids 50 and above continue a word.
WORD_START = np.arange(100) < 50


def fill(sentences, max_length):
    return blocks.fill_blocks(sentences, max_length, WORD_START, CLS, SEP)


def test_blocks_hold_as_many_whole_sentences_as_fit():
    filled = fill([[1, 2], [3], [4, 5, 6], [7]], max_length=8)
    assert filled.blocks == [
        [CLS, 1, 2, 3, 4, 5, 6, SEP],
        [CLS, 7, SEP],
    ]
    assert (filled.sentences, filled.split_sentences) == (4, 0)


def test_a_sentence_that_does_not_fit_begins_the_next_block():
    assert fill([[1, 2, 3], [4, 5, 6, 7], [8]], max_length=8).blocks == [
        [CLS, 1, 2, 3, SEP],
        [CLS, 4, 5, 6, 7, 8, SEP],
    ]


def test_an_over_long_sentence_is_split_at_word_starts_and_counted():
    filled = fill([[1], [2, 3, 4, 5, 60, 61, 7, 8], [9]], max_length=7)
    assert filled.blocks == [
        [CLS, 1, 2, 3, 4, SEP],
        [CLS, 5, 60, 61, 7, 8, SEP],
        [CLS, 9, SEP],
    ]
    assert (filled.sentences, filled.split_sentences) == (3, 1)


def test_a_word_longer_than_a_block_is_cut_inside():
    assert fill([[1, 60, 61, 62, 63, 64, 65]], max_length=6).blocks == [
        [CLS, 1, 60, 61, 62, SEP],
        [CLS, 63, 64, 65, SEP],
    ]


def test_the_last_sentence_of_a_document_survives_an_over_long_neighbour():
    filled = fill([[1, 2, 3, 4, 5, 6, 7, 8, 9]], max_length=8)
    assert [t for b in filled.blocks for t in b if t < CLS] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_empty_sentences_are_not_counted_and_make_no_block():
    assert fill([[], []], max_length=8) == ([], 0, 0)
    assert fill([[1], [], [2]], max_length=8).sentences == 2


def test_no_token_is_lost_or_moved():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sentences = [rng.integers(0, 80, rng.integers(0, 30)).tolist() for _ in range(rng.integers(1, 12))]
        filled = fill(sentences, max_length=12)
        assert [t for b in filled.blocks for t in b[1:-1]] == [t for s in sentences for t in s]
        assert all(b[0] == CLS and b[-1] == SEP and 3 <= len(b) <= 12 for b in filled.blocks)
        assert filled.split_sentences == sum(len(s) > 10 for s in sentences)


def naive_best_fit(lengths, row_length):
    """Best fit decreasing by its definition: the open row with the least room that suffices."""
    space, rows = [], []
    for block in sorted(range(len(lengths)), key=lambda b: (-lengths[b], b)):
        fitting = [r for r in range(len(rows)) if space[r] >= lengths[block]]
        if fitting:
            row = min(fitting, key=lambda r: space[r])
        else:
            row = len(rows)
            rows.append([])
            space.append(row_length)
        rows[row].append(block)
        space[row] -= lengths[block]
    return sorted(row_length - s for s in space)


def test_packing_is_best_fit():
    rng = np.random.default_rng(1)
    for _ in range(100):
        lengths = rng.integers(3, 33, rng.integers(1, 60))
        rows = blocks.pack_best_fit(lengths, 32)
        assert sorted(b for row in rows for b in row) == list(range(len(lengths)))
        assert sorted(sum(lengths[b] for b in row) for row in rows) == naive_best_fit(lengths.tolist(), 32)


def test_packing_prefers_the_fullest_row():
    assert blocks.pack_best_fit(np.array([3, 8, 5, 7]), 10) == [[1], [3, 0], [2]]


def test_row_record_reads_back():
    record = blocks.encode_row([np.array([90, 5, 91]), np.array([90, 6, 7, 91])], np.dtype("<u2"))
    tokens, segments, positions, types = blocks.row_to_arrays(record, 9)
    assert tokens.tolist() == [90, 5, 91, 90, 6, 7, 91, 0, 0]
    assert segments.tolist() == [1, 1, 1, 2, 2, 2, 2, 0, 0]
    assert positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 0]
    assert types.tolist() == [0] * 9
    assert {a.dtype for a in (tokens, segments, positions, types)} == {np.dtype("int32")}


def test_ids_beyond_two_bytes_keep_their_value():
    assert blocks.token_dtype(2**16) == np.dtype("<u2")
    assert blocks.token_dtype(2**16 + 128) == np.dtype("<u4")
    record = blocks.encode_row([np.array([1, 70000, 2])], np.dtype("<u4"))
    assert blocks.row_to_arrays(record, 4)[0].tolist() == [1, 70000, 2, 0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda r: b"", "too few"),
        (lambda r: r[:-1], "do not hold"),
        (lambda r: r + b"\0", "do not hold"),
        (lambda r: b"\3" + r[1:], "begin"),
        (lambda r: r[:1] + b"\0\0" + r[3:], "begin"),
        (lambda r: r[:3] + b"\0\0" + r[5:], "do not hold"),
    ],
)
def test_a_damaged_record_is_refused(damage, reason):
    record = blocks.encode_row([np.array([90, 5, 91])], np.dtype("<u2"))
    with pytest.raises(ValueError, match=reason):
        blocks.row_to_arrays(damage(record), 8)


def test_a_row_longer_than_asked_is_refused():
    record = blocks.encode_row([np.arange(9)], np.dtype("<u2"))
    with pytest.raises(ValueError, match="9 tokens, more than a row of 8"):
        blocks.row_to_arrays(record, 8)


@pytest.mark.parametrize("max_length", [-1, 2, 7, 70000])
def test_a_row_in_which_no_sentence_fits_is_refused(max_length):
    with pytest.raises(UserError, match=f"--max_length={max_length}: no sentence fits"):
        blocks.check_row_length(max_length)
