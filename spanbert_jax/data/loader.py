"""Rows of prepared folders to training batches, in an order that depends on the seed and nothing else.

Row g of the stream always sits at place g mod B of its batch, whatever the number of hosts: each *group* of processes
that hold the same rows takes every `groups`-th run of B / groups rows.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np

from spanbert_jax.data.blocks import Batch, row_to_arrays
from spanbert_jax.data.shards import PreparedFolder, Shard, count_records, read_prepared
from spanbert_jax.errors import UserError

_PREFETCHED_BATCHES = 4
_STREAM_ROWS = 2**52


class Rows:
    """The rows of shards by number, as one `Batch` of [L] arrays each; a damaged record is named in a `UserError`."""

    def __init__(self, folder: Path, shards: Sequence[Shard], length: int):
        self._paths = [str(folder / shard.file) for shard in shards]
        self._ends = np.cumsum([shard.rows for shard in shards])
        self._length = length
        for path, shard in zip(self._paths, shards, strict=True):
            if (found := count_records(Path(path))) != shard.rows:
                raise UserError(
                    f"data.sources: shard {path} holds {found} rows, expected {shard.rows}: it is truncated or "
                    "damaged; prepare the folder again"
                )
        self._records = grain.sources.ArrayRecordDataSource(self._paths)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, index: int) -> tuple[str, int]:
        """The shard file and the record that hold a row."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return self._paths[shard], index - (int(self._ends[shard - 1]) if shard else 0)

    def __getitem__(self, index: int) -> Batch:
        try:
            return Batch(*row_to_arrays(self._records[index], self._length))
        except (RuntimeError, ValueError, OSError) as error:
            path, record = self.place(int(index))
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"data.sources: shard {path}, record {record} cannot be read ({reason}); prepare the folder again"
            ) from None


class Places:
    """Stands in for `Rows` where only the origin of a row is wanted; reads nothing."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str:
        path, record = self._rows.place(int(index))
        return f"{path} record {record}"


class Loader:
    """An endless iterator over training batches [B / groups, L] of one group of processes.

    Several folders are mixed by `weights`; without weights all their rows form one epoch. Every epoch has a new order.
    `workers` reads in that many processes (absl flags must be parsed), 0 in two threads; the batches are the same.
    """

    def __init__(
        self,
        folders: Sequence[PreparedFolder | str | os.PathLike],
        *,
        weights: Sequence[float] = (),
        length: int,
        batch_size: int,
        group: int = 0,
        groups: int = 1,
        seed: int,
        workers: int = 0,
        split: str = "train",
    ):
        if batch_size < 1 or batch_size % groups:
            raise UserError(
                f"data.batch_size={batch_size}: cannot be shared by {groups} groups of processes; "
                f"give a multiple of {groups}"
            )
        if not 0 <= group < groups:
            raise ValueError(f"group {group} of {groups}")
        _check_weights(weights, folders)
        sources = [rows for rows in open_rows(folders, length, split) if rows is not None]
        if len(sources) < len(folders):
            raise UserError(f"data.sources: a folder has no rows in its {split} split; prepare one with more text")
        self._batch_size = batch_size
        self._group, self._groups, self._workers = group, groups, workers
        self._batches = _stream(sources, weights, seed).batch(batch_size // groups)
        self._places = _stream([Places(rows) for rows in sources], weights, seed)
        self._next_batch = 0
        self._iterator: Any = None

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = self._start(self._next_batch)
        batch = next(self._iterator)
        self._next_batch += 1
        return Batch(*(np.asarray(array) for array in batch))

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: the number of batches taken, the same for every group and any number of groups."""
        return {"next_batch": self._next_batch}

    def restore(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken, here or under another number of groups or workers."""
        self.close()
        self._next_batch = int(state["next_batch"])

    def locate(self, batch_index: int) -> list[str]:
        """Where each of the B rows of a global batch comes from (shard and record), for reports of errors."""
        start = batch_index * self._batch_size
        return [self._places[start + place] for place in range(self._batch_size)]

    def close(self) -> None:
        """Stops threads and worker processes; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _start(self, next_batch: int) -> Any:
        # Sliced afresh, since the state of Grain's own iterator differs with the number of its workers.
        batches = self._batches.slice(slice(next_batch * self._groups + self._group, None, self._groups))
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=_PREFETCHED_BATCHES)
        stream = batches.to_iter_dataset(options)
        if self._workers:
            stream = stream.mp_prefetch(
                grain.multiprocessing.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            )
        return iter(stream)


def heldout_batches(
    folders: Sequence[PreparedFolder | str | os.PathLike],
    length: int,
    batch_size: int,
    max_rows: int = 0,
    *,
    group: int = 0,
    groups: int = 1,
) -> Iterator[Batch]:
    """Yields the held-out rows, the same ones in the same order at every call; several folders take turns.

    At most `max_rows` of them (0: all). The last batch is filled up with rows of zeros, which hold no block. Each group
    gets its B / groups rows of every batch.
    """
    sources = [rows for rows in open_rows(folders, length, "heldout") if rows is not None]
    turns = itertools.zip_longest(*(range(len(rows)) for rows in sources))
    order = [(rows, i) for turn in turns for rows, i in zip(sources, turn, strict=True) if i is not None]
    if max_rows:
        order = order[:max_rows]
    empty = Batch(*np.zeros((4, length), np.int32))
    share = batch_size // groups
    for start in range(0, len(order), batch_size):
        mine = order[start : start + batch_size][group * share : (group + 1) * share]
        batch = [rows[i] for rows, i in mine] + [empty] * (share - len(mine))
        yield Batch(*(np.stack(arrays) for arrays in zip(*batch, strict=True)))


def open_rows(folders: Sequence[PreparedFolder | str | os.PathLike], length: int, split: str) -> list[Rows | None]:
    """The rows of each folder's split, None where it has none; the folders must agree on length and tokenizer."""
    if not folders:
        raise UserError("data.sources: empty; name at least one prepared folder")
    prepared = [
        folder if isinstance(folder, PreparedFolder) else read_prepared(folder, expected_length=length)
        for folder in folders
    ]
    for folder in prepared:
        if folder.max_length != length:
            raise UserError(f"data.length={length}, but the rows of {folder.path} have {folder.max_length} slots")
        if folder.tokenizer_fingerprint != prepared[0].tokenizer_fingerprint:
            raise UserError(
                f"data.sources: {folder.path} and {prepared[0].path} were prepared with different tokenizers; "
                "prepare both with the same --tokenizer"
            )
    return [Rows(f.path, f.split(split), length) if f.rows(split) else None for f in prepared]


def _check_weights(weights: Sequence[float], folders: Sequence[Any]) -> None:
    if weights and (len(weights) != len(folders) or not all(0 < weight < float("inf") for weight in weights)):
        raise UserError(
            f"data.sources: weights {tuple(weights)} for {len(folders)} folders; "
            "give one number above 0 for each folder"
        )


def _stream(sources: Sequence[Any], weights: Sequence[float], seed: int) -> Any:
    """The endless stream of rows: shuffled anew in every epoch, folders mixed by weight."""
    datasets = [grain.MapDataset.source(source) for source in sources]
    if not weights:
        datasets = [grain.MapDataset.concatenate(datasets)]
    shuffled = [
        # Not endless in Grain's sense, whose length then overflows when it is batched or sliced.
        dataset.shuffle(_shuffle_seed(seed, i)).repeat(_STREAM_ROWS // len(dataset))
        for i, dataset in enumerate(datasets)
    ]
    return grain.MapDataset.mix(shuffled, weights) if weights else shuffled[0]


def _shuffle_seed(seed: int, folder: int) -> int:
    # Hashed, since Grain adds the epoch to it: neighbouring seeds would share their orders, one epoch apart.
    return int.from_bytes(hashlib.blake2b(f"{seed}/{folder}".encode(), digest_size=4).digest(), "little")
