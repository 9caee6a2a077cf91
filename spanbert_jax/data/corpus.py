"""Corpora as documents of sentences, whatever they come in, with names that stay the same wherever they lie."""

import dataclasses
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from spanbert_jax.data import tfds_text
from spanbert_jax.data.builtin_docs import builtin_documents
from spanbert_jax.data.files import bare_name, find_files, read_lines
from spanbert_jax.data.formats import FORMATS, GUESSED_FROM, guess_format, read_documents
from spanbert_jax.data.sentences import split_text
from spanbert_jax.errors import UserError, did_you_mean

BUILTIN = "builtin:docs"
_TFDS_CHUNK = 10_000  # examples


class Document(NamedTuple):
    """Sentences that belong together; `identity` is "<path relative to the source>#<ordinal>"."""

    identity: str
    sentences: list[str]


@dataclasses.dataclass(frozen=True)
class Source:
    """A part of a corpus that is read on its own, so that several processes can share a corpus."""

    kind: Literal["file", "tfds", "builtin"]
    location: str  # path of the file, or what follows "tfds:"
    name: str  # opens the identities of its documents
    format: str
    text_field: str = "text"
    start: int = 0  # examples of a TFDS split
    stop: int = 0


@dataclasses.dataclass
class Corpus:
    """Documents of all sources, in order; `counts` is what the latest iteration read, left out and repaired.

    `formats` says for each spec what its files were taken for, since that may have been guessed.
    """

    specs: list[str]
    format: str
    text_field: str
    sources: list[Source]
    formats: dict[str, str]
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    def __iter__(self) -> Iterator[Document]:
        """Raises UserError at the end when there was no text at all, and for text that cannot be read."""
        self.counts.clear()
        for source in self.sources:
            yield from read_source(source, self.counts)
        if not self.counts["documents"]:
            raise self.empty_error()

    def empty_error(self) -> UserError:
        """What to raise when all sources together held no document."""
        return UserError(f"--input={','.join(self.specs)}: the corpus holds no text in {len(self.sources)} source(s)")

    def describe(self) -> dict[str, Any]:
        """What went in, for metadata: nothing of it depends on the machine but what the user typed."""
        return {
            "input": self.specs,
            "format": self.format,
            "formats": self.formats,
            "text_field": self.text_field,
            "sources": len(self.sources),
        }


def open_corpus(input: str, *, format: str = "auto", text_field: str = "text") -> Corpus:
    """Finds what `input` names: comma-separated paths, folders, globs, gs:// addresses, tfds:NAME:SPLIT, builtin:docs.

    Reads no more than the first lines of a file or two. Raises UserError for an input that is missing, given twice or
    in no known format.
    """
    if format not in FORMATS:
        raise UserError(f"--format={format}: expected one of {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}")
    specs = [spec.strip() for spec in input.split(",")]
    if not all(specs):
        raise UserError(f"--input={input!r}: expected paths, globs, tfds:NAME:SPLIT or {BUILTIN}, separated by commas")
    found = [_sources(spec, format, text_field) for spec in specs]
    sources = list(itertools.chain(*_with_distinct_names(found)))
    locations = Counter(
        (s.kind, os.path.realpath(s.location) if s.kind == "file" and "://" not in s.location else s.location, s.start)
        for s in sources
    )
    (_, location, _), times = locations.most_common(1)[0]
    if times > 1:
        raise UserError(f"--input={input}: {location} is named {times} times; name each text once")
    formats = {spec: "+".join(sorted({s.format for s in part})) for spec, part in zip(specs, found, strict=True)}
    return Corpus(specs, format, text_field, sources, formats)


def _sources(spec: str, format: str, text_field: str) -> list[Source]:
    if spec == BUILTIN:
        return [Source("builtin", "docs", "", "docs")]
    if spec.startswith("builtin:"):
        raise UserError(f"--input={spec}: expected {BUILTIN}{did_you_mean(spec, [BUILTIN])}")
    if spec.startswith("tfds:"):
        location = spec.removeprefix("tfds:")
        name, split, _ = tfds_text.parse_spec(location)
        tfds_text.check_text(location, text_field)
        size = len(tfds_text.open_split(location))
        return [
            Source("tfds", location, f"{name}:{split}", "tfds", text_field, i, min(i + _TFDS_CHUNK, size))
            for i in range(0, size, _TFDS_CHUNK)
        ]
    files = find_files(spec)
    guesses: dict[str, str] = {}
    if format == "auto":
        guesses = _guess_formats(files)
    return [Source("file", path, name, guesses.get(_suffix(name), format), text_field) for path, name in files]


def _suffix(name: str) -> str:
    return os.path.splitext(bare_name(name))[1]


def _guess_formats(files: list[tuple[str, str]]) -> dict[str, str]:
    """A format for each suffix, from the first file of that suffix that is not empty: alike files are read alike."""
    guesses: dict[str, str] = {}
    for path, name in files:
        suffix = _suffix(name)
        if suffix not in guesses:
            lines = list(itertools.islice(read_lines(path), GUESSED_FROM))
            if any(map(str.strip, lines)):
                guesses[suffix] = guess_format(name, lines)
    for _, name in files:
        guesses.setdefault(_suffix(name), "sentences")
    return guesses


def _with_distinct_names(found: list[list[Source]]) -> Iterator[list[Source]]:
    """Opens a name that several specs share with the spec's place in --input."""
    shared = Counter(itertools.chain(*({s.name for s in part} for part in found)))
    for place, part in enumerate(found):
        yield [dataclasses.replace(s, name=f"{place}:{s.name}") if shared[s.name] > 1 else s for s in part]


def read_source(source: Source, counts: Counter[str] | None = None) -> Iterator[Document]:
    """Documents of one source, lazily, empty ones left out.

    Adds to `counts`: "documents", "empty_documents", and what `formats.read_documents` repaired. Raises UserError that
    names the file and line of what cannot be read.
    """
    counts = Counter() if counts is None else counts
    for identity, sentences in _identified(source, counts):
        if sentences:
            counts["documents"] += 1
            yield Document(identity, sentences)
        else:
            counts["empty_documents"] += 1


def _identified(source: Source, counts: Counter[str]) -> Iterator[tuple[str, list[str]]]:
    match source.kind:
        case "builtin":
            for name, unchanging in builtin_documents():
                yield f"{source.name}{name}#0", list(unchanging)
        case "tfds":
            texts = tfds_text.read_texts(source.location, source.text_field, source.start, source.stop)
            for index, text in enumerate(texts, source.start):
                yield f"{source.name}#{index}", split_text(text)
        case "file":
            documents = read_documents(
                read_lines(source.location),
                source.format,
                path=source.location,
                text_field=source.text_field,
                counts=counts,
            )
            for ordinal, sentences in enumerate(documents):
                yield f"{source.name}#{ordinal}", sentences


def is_heldout(identity: str, fraction: float) -> bool:
    """Whether a document belongs to the held-out split: by its name alone, so for good, on any machine.

    What is held out at a small fraction is held out at every larger one.
    """
    digest = hashlib.blake2b(identity.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64
