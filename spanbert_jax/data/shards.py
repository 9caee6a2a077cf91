"""The files of a prepared folder: how each is written whole or not at all, and how a finished folder is checked."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from spanbert_jax.errors import UserError, is_disk_full

FORMAT_VERSION = 1
METADATA = "metadata.json"
_VERIFY_BYTES = 2**28  # below this, reading a folder once at start costs less than a second
_FIELDS: dict[str, type] = {
    "format_version": int,
    "max_length": int,
    "packed": bool,
    "seed": int,
    "vocab_size": int,
    "padded_vocab_size": int,
    "tokenizer": dict,
    "splits": dict,
    "shards": list,
    "token_histogram": list,
}


@dataclass(frozen=True)
class Shard:
    """One ArrayRecord file of a prepared folder."""

    file: str
    split: str  # "train" or "heldout"
    rows: int
    bytes: int
    sha256: str


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike) -> Iterator[None]:
    """Tells a full disk in one line; ArrayRecord reports it as a RuntimeError that quotes the system's message."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if is_disk_full(error):
            raise UserError(
                f"--output_dir: disk full while writing {os.path.basename(path)}; finished shards are kept: "
                "free some space and run the same command again"
            ) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all, the same bytes for the same value."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_records(path: Path, records: Iterable[bytes]) -> int:
    """Writes an ArrayRecord file whole or not at all and returns its number of records.

    One record a group: rows are read at random. Raises `UserError` where the disk is full.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with disk_errors(path):
            writer = ArrayRecordWriter(str(partial), "group_size:1")
            try:
                for record in records:
                    writer.write(record)
                    count += 1
            finally:
                writer.close()
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


@dataclass(frozen=True)
class PreparedFolder:
    """What `prepare` left in a folder: the fields of its `metadata.json` that training needs."""

    path: Path
    max_length: int
    packed: bool
    seed: int
    vocab_size: int
    padded_vocab_size: int
    tokenizer_kind: str
    tokenizer_fingerprint: str
    shards: tuple[Shard, ...]
    histogram: np.ndarray  # [V] tokens of the training shards, framing tokens left out
    metadata: dict[str, Any]

    def split(self, name: str) -> list[Shard]:
        """The shards of a split ("train" or "heldout") that hold rows."""
        return [shard for shard in self.shards if shard.split == name and shard.rows]

    def rows(self, split: str = "train") -> int:
        """How many rows a split has."""
        return sum(shard.rows for shard in self.split(split))

    @functools.cached_property
    def log_unigram(self) -> np.ndarray:
        """Log-probability of every id, float64 [V]: the histogram smoothed by adding one, so finite everywhere."""
        smoothed = self.histogram + 1.0
        return np.log(smoothed / smoothed.sum())


def unigram_entropy(log_unigram: np.ndarray, histogram: np.ndarray) -> float:
    """Mean of -log p over the tokens of a histogram, in nats: the loss of a model that knows only frequencies."""
    seen = histogram > 0
    return float(-(histogram[seen] * log_unigram[seen]).sum() / max(1, histogram[seen].sum()))


def read_prepared(
    folder: str | os.PathLike,
    *,
    expected_length: int | None = None,
    expected_vocab_size: int | None = None,
    verify: bool = False,
) -> PreparedFolder:
    """Opens a prepared folder and checks it against itself and against a config's length and vocabulary.

    Every shard's size is checked; its SHA-256 too where the folder is small or `verify` is set. Raises `UserError`.
    """
    if "://" in str(folder):
        raise UserError(f"data.sources: {folder} is not a local folder; copy it to a local disk and name that")
    path = Path(folder)
    prepared = _parse_metadata(path, _load_metadata(path))
    if expected_length is not None and prepared.max_length != expected_length:
        raise UserError(
            f"data.length={expected_length}, but the rows of {path} have {prepared.max_length} slots; set "
            f"data.length={prepared.max_length} or prepare a folder with --max_length={expected_length}"
        )
    if expected_vocab_size is not None and expected_vocab_size != prepared.vocab_size:
        raise UserError(
            f"model.vocab_size={expected_vocab_size}, but {path} was prepared with a vocabulary of "
            f"{prepared.vocab_size} pieces; set model.vocab_size={prepared.vocab_size} or name another data.sources"
        )
    _check_files(prepared, verify or sum(shard.bytes for shard in prepared.shards) < _VERIFY_BYTES)
    return prepared


def _load_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads((path / METADATA).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if path.is_file():
            raise UserError(
                f"data.sources: {path} is a file, expected a prepared folder; run prepare with --input={path} and "
                "name its --output_dir here"
            ) from None
        what = "has no metadata.json: its preparation did not finish" if path.is_dir() else "is not there"
        raise UserError(f"data.sources: {path} {what}; run prepare with --output_dir={path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"data.sources: {path / METADATA} cannot be read ({error}); prepare the folder again") from None
    if not isinstance(metadata, dict):
        raise UserError(f"data.sources: {path / METADATA} is not a JSON object; prepare the folder again")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"data.sources: {path} has format version {metadata.get('format_version')}, expected {FORMAT_VERSION}; "
            "prepare it again with this version"
        )
    for name, kind in _FIELDS.items():
        if not isinstance(metadata.get(name), kind):
            raise UserError(f"data.sources: {path / METADATA} has no valid {name!r}; prepare the folder again")
    return metadata


def _parse_metadata(path: Path, metadata: dict[str, Any]) -> PreparedFolder:
    try:
        shards = tuple(Shard(**{name: s[name] for name in Shard.__annotations__}) for s in metadata["shards"])
        histogram = np.array(metadata["token_histogram"], np.int64)
        tokenizer = metadata["tokenizer"]
        kind, fingerprint = str(tokenizer["kind"]), str(tokenizer["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"data.sources: {path / METADATA} is damaged ({error!r}); prepare the folder again") from None
    if histogram.shape != (metadata["padded_vocab_size"],):
        raise UserError(
            f"data.sources: {path / METADATA} counts {histogram.size} tokens for a vocabulary of "
            f"{metadata['padded_vocab_size']}; prepare the folder again"
        )
    plain = {name: metadata[name] for name in ("max_length", "packed", "seed", "vocab_size", "padded_vocab_size")}
    return PreparedFolder(
        path=path,
        tokenizer_kind=kind,
        tokenizer_fingerprint=fingerprint,
        shards=shards,
        histogram=histogram,
        metadata=metadata,
        **plain,
    )


def _check_files(prepared: PreparedFolder, verify: bool) -> None:
    for shard in prepared.shards:
        path = prepared.path / shard.file
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise UserError(f"data.sources: shard {path} is missing; prepare the folder again")
        if size != shard.bytes:
            raise UserError(
                f"data.sources: shard {path} has {size} bytes, expected {shard.bytes}: it is truncated or was "
                "replaced; prepare the folder again"
            )
        if verify and file_sha256(path) != shard.sha256:
            raise UserError(
                f"data.sources: shard {path} does not match its checksum (SHA-256): it was damaged or replaced; "
                "prepare the folder again"
            )


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of a shard, in the form data sets use everywhere."""
    return f"{split}-{index:05d}-of-{count:05d}.array_record"


def count_records(path: Path) -> int:
    """How many records an ArrayRecord file holds; 0 where its index, at the end of the file, is damaged."""
    reader = ArrayRecordReader(str(path))
    records = reader.num_records()
    try:
        reader.close()
    except RuntimeError:
        return 0
    return records
