"""From the spilled documents of one shard to its ArrayRecord file; runs in worker processes."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spanbert_jax.data.blocks import encode_row, pack_best_fit
from spanbert_jax.data.shards import Shard, file_sha256, write_json, write_records
from spanbert_jax.data.spills import BlockedDocument, read_spill

_HISTOGRAM_SLICE = 2**20


class ShardTask(NamedTuple):
    """All that decides the bytes of a shard, and where it goes."""

    path: Path
    split: str
    number: int
    notes: Path
    spill_folder: Path
    spills: tuple[str, ...]
    max_length: int
    packed: bool
    seed: int
    padded_vocab_size: int
    dtype: np.dtype
    framing_ids: tuple[int, int]


class BuiltShard(NamedTuple):
    """A written shard, the counts of what went into it, and its token histogram without framing tokens."""

    shard: Shard
    counts: dict[str, int]
    histogram: np.ndarray  # [V]


def build_or_keep(task: ShardTask) -> BuiltShard:
    """Builds a shard unless an earlier run finished it from the same spills and its bytes are still those."""
    note = task.notes / f"{task.path.name}.json"
    spilled = hashlib.sha256("\n".join(task.spills).encode()).hexdigest()
    kept = _read_note(note, task.path, spilled)
    if kept:
        return kept
    documents = (
        document for name in task.spills for document in read_spill(task.spill_folder / name, task.number, task.dtype)
    )
    built = build_shard(task, documents)
    write_json(
        note,
        {
            "spilled": spilled,
            "shard": asdict(built.shard),
            "counts": built.counts,
            "histogram": built.histogram.tolist(),
        },
    )
    return built


def _read_note(note: Path, shard_path: Path, spilled: str) -> BuiltShard | None:
    try:
        value = json.loads(note.read_text(encoding="utf-8"))
        if value["spilled"] != spilled:
            return None
        shard = Shard(**value["shard"])
        if shard.sha256 != file_sha256(shard_path):
            return None
        return BuiltShard(shard, value["counts"], np.array(value["histogram"], np.int64))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build_shard(task: ShardTask, documents: Iterable[BlockedDocument]) -> BuiltShard:
    """Sorts documents by identity, packs their blocks into rows, shuffles the rows by seed and writes them."""
    ordered = sorted(documents, key=BlockedDocument.sort_key)
    counts: Counter[str] = Counter(documents=len(ordered))
    for document in ordered:
        counts["documents_without_tokens"] += not len(document.tokens)
        counts["sentences"] += document.sentences
        counts["split_sentences"] += document.split_sentences
        counts["sentences_without_tokens"] += document.empty_sentences
    tokens = np.concatenate([np.zeros(0, task.dtype), *(document.tokens for document in ordered)])
    lengths = np.concatenate([np.zeros(0, np.int64), *(document.block_lengths for document in ordered)])
    ends = np.cumsum(lengths)
    rows = pack_best_fit(lengths, task.max_length) if task.packed else [[block] for block in range(len(lengths))]
    order = shuffled(len(rows), f"{task.seed}/{task.path.name}")
    written = write_records(
        task.path,
        (encode_row([tokens[ends[b] - lengths[b] : ends[b]] for b in rows[i]], task.dtype) for i in order),
    )
    counts.update(blocks=len(lengths), rows=written, tokens=len(tokens))
    shard = Shard(task.path.name, task.split, written, task.path.stat().st_size, file_sha256(task.path))
    return BuiltShard(shard, dict(counts), _histogram(tokens, len(lengths), task))


def _histogram(tokens: np.ndarray, blocks: int, task: ShardTask) -> np.ndarray:
    histogram = np.zeros(task.padded_vocab_size, np.int64)
    # In slices, as bincount widens what it counts to 8 bytes a token.
    for start in range(0, len(tokens), _HISTOGRAM_SLICE):
        histogram += np.bincount(tokens[start : start + _HISTOGRAM_SLICE], minlength=task.padded_vocab_size)
    for framing_id in task.framing_ids:
        histogram[framing_id] -= blocks
    return histogram


def shuffled(count: int, seed: str) -> list[int]:
    """A permutation of range(count) that depends on nothing but its arguments, in any version of any library."""
    key = hashlib.blake2b(seed.encode(), digest_size=32).digest()
    return sorted(range(count), key=lambda i: hashlib.blake2b(i.to_bytes(8, "little"), key=key, digest_size=8).digest())
