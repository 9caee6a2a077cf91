"""Tokenised text on its way from documents to shards, kept on disk so that a corpus need not fit in memory.

A spill holds the blocks of one chunk of documents, sorted into sections, one per shard, so that the builder of a shard
reads only its own. The file is named by the digest of the chunk, so a restart finds what was done and a changed corpus
finds nothing. Layout: header length (uint32), header JSON {"sections": {shard: [offset, bytes, crc32]}}, sections; a
section is a run of documents: `_DOCUMENT`, identity (UTF-8), block lengths (uint16), tokens.
"""

import functools
import hashlib
import itertools
import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spanbert_jax.data.blocks import fill_blocks, token_dtype
from spanbert_jax.data.corpus import Document, Source, is_heldout, read_source
from spanbert_jax.data.shards import disk_errors
from spanbert_jax.data.tokenizer import Tokenizer, load_tokenizer
from spanbert_jax.errors import UserError

CHUNK_CHARACTERS = 2**20
_HEADER_LENGTH = struct.Struct("<I")
_DOCUMENT = struct.Struct("<6I")  # identity bytes, blocks, tokens, sentences, split sentences, empty sentences


class Sharding(NamedTuple):
    """How documents become blocks and where they go; the held-out shard follows the training shards."""

    max_length: int
    train_shards: int
    heldout_fraction: float

    def shard_of(self, identity: str) -> int:
        """The shard of a document: a stable hash of its identity, whatever else the corpus holds."""
        if is_heldout(identity, self.heldout_fraction):
            return self.train_shards
        digest = hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=8, person=b"shard").digest()
        return int.from_bytes(digest, "little") % self.train_shards


class BlockedDocument(NamedTuple):
    """A document as its shard's builder gets it: the tokens of all its blocks in one array, and its counts."""

    identity: str
    block_lengths: np.ndarray
    tokens: np.ndarray
    sentences: int
    split_sentences: int
    empty_sentences: int

    def sort_key(self) -> tuple[str, int, bytes]:
        """Path, then ordinal as a number; the tokens decide only between documents that share a name."""
        path, _, ordinal = self.identity.rpartition("#")
        if not ordinal.isdecimal():
            path, ordinal = self.identity, "0"
        return path, int(ordinal), hashlib.blake2b(self.tokens.data, digest_size=16).digest()


def chunk_documents(documents: Iterable[Document], characters: int = CHUNK_CHARACTERS) -> Iterator[list[Document]]:
    """Groups the documents of one source in reading order, each group the first to reach `characters`."""
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += sum(map(len, document.sentences))
        if size >= characters:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def spill_name(documents: Sequence[Document]) -> str:
    """The file name of a chunk's spill: a digest of identities and sentences."""
    digest = hashlib.blake2b(digest_size=16)
    for document in documents:
        for text in (document.identity, *document.sentences):
            data = text.encode(errors="surrogatepass")
            digest.update(_HEADER_LENGTH.pack(len(data)) + data)
        digest.update(_HEADER_LENGTH.pack(2**32 - 1))
    return f"{digest.hexdigest()}.spill"


def write_spill(folder: Path, documents: Sequence[Document], tokenizer: Tokenizer, sharding: Sharding) -> str:
    """Tokenises a chunk into `folder` unless an earlier run did, and returns the spill's name."""
    name = spill_name(documents)
    if (folder / name).exists():
        return name
    sections: dict[int, list[bytes]] = {}
    encoded = iter(tokenizer.encode_batch(list(itertools.chain.from_iterable(d.sentences for d in documents))))
    for document in documents:
        sentences = list(itertools.islice(encoded, len(document.sentences)))
        sections.setdefault(sharding.shard_of(document.identity), []).append(
            _document_bytes(document.identity, sentences, tokenizer, sharding)
        )
    offset, table, bodies = 0, {}, []
    for shard, parts in sorted(sections.items()):
        body = b"".join(parts)
        table[str(shard)] = [offset, len(body), zlib.crc32(body)]
        bodies.append(body)
        offset += len(body)
    header = json.dumps({"sections": table}).encode()
    partial = folder / f"{name}.{os.getpid()}.partial"
    try:
        partial.write_bytes(b"".join([_HEADER_LENGTH.pack(len(header)), header, *bodies]))
        os.replace(partial, folder / name)
    finally:
        partial.unlink(missing_ok=True)
    return name


def _document_bytes(identity: str, sentences: list[list[int]], tokenizer: Tokenizer, sharding: Sharding) -> bytes:
    filled = fill_blocks(sentences, sharding.max_length, tokenizer.is_word_start, tokenizer.cls_id, tokenizer.sep_id)
    name = identity.encode(errors="surrogatepass")
    lengths = np.array([len(block) for block in filled.blocks], "<u2")
    tokens = np.fromiter(itertools.chain.from_iterable(filled.blocks), token_dtype(tokenizer.padded_vocab_size))
    head = _DOCUMENT.pack(
        len(name),
        len(lengths),
        len(tokens),
        filled.sentences,
        filled.split_sentences,
        len(sentences) - filled.sentences,
    )
    return head + name + lengths.tobytes() + tokens.tobytes()


def read_spill(path: Path, shard: int, dtype: np.dtype) -> Iterator[BlockedDocument]:
    """The documents that a spill holds for one shard."""
    damaged = UserError(f"{path}: damaged on disk; delete it and run the same command again")
    with path.open("rb") as file:
        try:
            (header_length,) = _HEADER_LENGTH.unpack(file.read(_HEADER_LENGTH.size))
            sections = json.loads(file.read(header_length))["sections"]
        except (struct.error, ValueError, KeyError) as error:
            raise damaged from error
        offset, size, checksum = sections.get(str(shard), (0, 0, 0))
        file.seek(offset, os.SEEK_CUR)
        body = file.read(size)
    if len(body) != size or zlib.crc32(body) != checksum:
        raise damaged
    at = 0
    while at < size:
        name_bytes, blocks, tokens, *counts = _DOCUMENT.unpack_from(body, at)
        at += _DOCUMENT.size
        identity = body[at : at + name_bytes].decode(errors="surrogatepass")
        at += name_bytes
        lengths = np.frombuffer(body, "<u2", blocks, at)
        at += lengths.nbytes
        array = np.frombuffer(body, dtype, tokens, at)
        at += array.nbytes
        yield BlockedDocument(identity, lengths, array, *counts)


class SpillTask(NamedTuple):
    """What a worker needs to tokenise; small, as it travels with every chunk."""

    tokenizer: Path
    fingerprint: str
    spills: Path
    sharding: Sharding


class Spilled(NamedTuple):
    """What a worker reports back."""

    names: list[str]
    documents: int
    counts: Counter[str]  # of what reading left out or repaired, where it was read here


@functools.lru_cache(maxsize=1)
def _kept_tokenizer(folder: Path, fingerprint: str) -> Tokenizer:
    """The preparation's tokenizer, loaded once by each worker; the fingerprint tells folders of one name apart."""
    return load_tokenizer(folder)


def spill_chunk(task: SpillTask, chunk: list[Document]) -> Spilled:
    """Tokenises documents that another process has read."""
    tokenizer = _kept_tokenizer(task.tokenizer, task.fingerprint)
    with disk_errors("spills"):
        return Spilled([write_spill(task.spills, chunk, tokenizer, task.sharding)], len(chunk), Counter())


def spill_source(task: SpillTask, source: Source) -> Spilled:
    """Reads a source and tokenises its documents, in one process."""
    counts: Counter[str] = Counter()
    spilled = [spill_chunk(task, chunk) for chunk in chunk_documents(read_source(source, counts))]
    names = [name for part in spilled for name in part.names]
    return Spilled(names, sum(part.documents for part in spilled), counts)
