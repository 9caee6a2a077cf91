"""Sentences to blocks, blocks to rows, and the rows' form on disk; numpy only, so that worker processes start at once.

A row record is little-endian: `bytes per token` (uint8, 2 or 4), `number of blocks` S (uint16), S block lengths
(uint16), then the blocks' tokens one after another. Framing tokens are part of the block.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from spanbert_jax.errors import UserError

FRAME = 2  # [CLS] and [SEP]
MIN_ROW_LENGTH = 8
MAX_ROW_LENGTH = 2**16 - 1
_HEADER = struct.Struct("<BH")
_LENGTH_DTYPE = np.dtype("<u2")
_TOKEN_DTYPES: dict[int, np.dtype] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


class Batch(NamedTuple):
    """Rows as the training step takes them, int32 [B, L] each: numpy here, `jax.Array` once placed on devices."""

    tokens: Any  # [B, L]
    segments: Any  # [B, L] 0 = padding, 1.. = the block in the row
    positions: Any  # [B, L] restart at 0 in each block
    types: Any  # [B, L] BERT's token types


class Blocks(NamedTuple):
    """The blocks of one document, and what was done to its sentences to make them."""

    blocks: list[list[int]]
    sentences: int  # that held at least one token
    split_sentences: int


def check_row_length(max_length: int) -> None:
    """Refuses a row length that cannot hold text between its framing tokens or cannot be stored."""
    if not MIN_ROW_LENGTH <= max_length <= MAX_ROW_LENGTH:
        raise UserError(
            f"--max_length={max_length}: no sentence fits; a row holds [CLS], [SEP] and text, "
            f"so give {MIN_ROW_LENGTH} to {MAX_ROW_LENGTH}"
        )


def split_sentence(tokens: Sequence[int], limit: int, is_word_start: np.ndarray) -> list[list[int]]:
    """Cuts an over-long sentence into pieces of at most `limit` tokens, at word starts where a piece has one."""
    pieces = []
    start = 0
    while len(tokens) - start > limit:
        end = start + limit
        while end > start and not is_word_start[tokens[end]]:
            end -= 1
        if end == start:  # one word longer than the limit
            end = start + limit
        pieces.append(list(tokens[start:end]))
        start = end
    pieces.append(list(tokens[start:]))
    return pieces


def fill_blocks(
    sentences: Sequence[Sequence[int]], max_length: int, is_word_start: np.ndarray, cls_id: int, sep_id: int
) -> Blocks:
    """Fills blocks greedily with the whole sentences of one document (paper, section 4.2: contiguous text, no NSP).

    A block is [CLS], at most `max_length - 2` tokens, [SEP]. Sentences longer than that are split, never dropped.
    """
    limit = max_length - FRAME
    blocks: list[list[int]] = []
    current = [cls_id]
    kept = split = 0
    for sentence in sentences:
        kept += bool(sentence)
        pieces: Sequence[Sequence[int]] = (sentence,)
        if len(sentence) > limit:
            pieces = split_sentence(sentence, limit, is_word_start)
            split += 1
        for piece in pieces:
            if len(current) + len(piece) > limit + 1:
                blocks.append([*current, sep_id])
                current = [cls_id]
            current.extend(piece)
    if len(current) > 1:
        blocks.append([*current, sep_id])
    return Blocks(blocks, kept, split)


def pack_best_fit(lengths: np.ndarray, row_length: int) -> list[list[int]]:
    """Packs blocks into rows by best fit, longest first, and returns the block indices of each row.

    Each block goes to the open row that it leaves fullest; the result depends on the lengths alone.
    """
    rows: list[list[int]] = []
    rows_with_space: list[list[int]] = [[] for _ in range(row_length + 1)]
    open_spaces = 0  # bit s is set while some row has exactly s slots left
    for block in np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist():
        length = int(lengths[block])
        fitting = open_spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = rows_with_space[space].pop()
            if not rows_with_space[space]:
                open_spaces ^= 1 << space
        else:
            space, row = row_length, len(rows)
            rows.append([])
        rows[row].append(block)
        if left := space - length:
            rows_with_space[left].append(row)
            open_spaces |= 1 << left
    return rows


def token_dtype(padded_vocab_size: int) -> np.dtype:
    """The numpy type of stored tokens: 2 bytes while every id of the vocabulary fits, else 4."""
    return _TOKEN_DTYPES[2 if padded_vocab_size <= 2**16 else 4]


def encode_row(blocks: Sequence[np.ndarray], dtype: np.dtype) -> bytes:
    """One row record (layout: this module's docstring) from its framed blocks."""
    lengths = np.array([len(block) for block in blocks], np.dtype("<u2"))
    return (
        _HEADER.pack(dtype.itemsize, len(blocks)) + lengths.tobytes() + np.concatenate(blocks).astype(dtype).tobytes()
    )


def row_to_arrays(record: bytes, row_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads a row record back: tokens, segments, positions, types, int32 [L] each.

    Raises `ValueError` where the record is not a whole row of at most `row_length` slots; callers name file and record.
    """
    if len(record) < _HEADER.size:
        raise ValueError(f"it has {len(record)} bytes, too few for a row")
    width, block_count = _HEADER.unpack_from(record)
    body = _HEADER.size + 2 * block_count
    if width not in _TOKEN_DTYPES or block_count == 0 or len(record) < body:
        raise ValueError("it does not begin as a row does")
    lengths = np.frombuffer(record, _LENGTH_DTYPE, block_count, _HEADER.size).astype(np.int64)
    total = int(lengths.sum())
    if len(record) != body + width * total or not lengths.all():
        raise ValueError(f"its {block_count} blocks claim {total} tokens, which its {len(record)} bytes do not hold")
    if total > row_length:
        raise ValueError(f"it holds {total} tokens, more than a row of {row_length}")
    tokens, segments, positions, types = np.zeros((4, row_length), np.int32)
    tokens[:total] = np.frombuffer(record, _TOKEN_DTYPES[width], total, body)
    segments[:total] = np.repeat(np.arange(1, block_count + 1), lengths)
    positions[:total] = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return tokens, segments, positions, types
