"""Text to a prepared folder: tokenise chunks of documents into spills, then build every shard from its spills.

Both stages run over processes, survive being killed, and depend on nothing but corpus and settings (see `spills`,
`building`); what is unfinished lives in `<output_dir>/tmp`.
"""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spanbert_jax.data.blocks import token_dtype
from spanbert_jax.data.building import BuiltShard, ShardTask, build_or_keep
from spanbert_jax.data.corpus import Corpus, is_heldout, open_corpus, read_source
from spanbert_jax.data.pool import available_cores, map_unordered
from spanbert_jax.data.prepare_settings import (
    PrepareSettings,
    check_same,
    check_settings,
    decisive_settings,
    describe_source,
    text_fingerprint,
)
from spanbert_jax.data.progress import progress
from spanbert_jax.data.shards import (
    FORMAT_VERSION,
    METADATA,
    PreparedFolder,
    disk_errors,
    read_prepared,
    shard_name,
    write_json,
)
from spanbert_jax.data.spills import Sharding, SpillTask, chunk_documents, spill_chunk, spill_name, spill_source
from spanbert_jax.data.tokenizer import KINDS, Tokenizer, WordPieceTokenizer, load_tokenizer, train_tokenizer
from spanbert_jax.errors import UserError

TRAIN, HELDOUT = "train", "heldout"
_TRAINED_ON = "trained_on.json"


def prepare(settings: PrepareSettings) -> PreparedFolder:
    """Makes `settings.output_dir` a prepared folder, going on where an earlier run with the same settings stopped.

    Raises `UserError` for input that cannot be used, and where the folder holds another preparation.
    """
    check_settings(settings)
    folder = Path(settings.output_dir)
    corpus = open_corpus(settings.input, format=settings.format, text_field=settings.text_field)
    decisive = decisive_settings(settings, corpus)
    unfinished = folder / "tmp"
    if (folder / METADATA).exists():
        prepared = read_prepared(folder, verify=True)
        check_same(prepared.metadata.get("settings"), decisive, folder)
        if prepared.metadata.get("text_fingerprint") != text_fingerprint(corpus):
            raise UserError(
                f"--output_dir={folder} was prepared from other text: the files of --input have changed since; use "
                "another --output_dir or delete this one"
            )
        print(f"{folder} is already prepared with these settings", file=sys.stderr)
        shutil.rmtree(unfinished, ignore_errors=True)
        return prepared
    with _begin(folder, unfinished, decisive):
        workers = settings.workers or available_cores()
        tokenizer = _keep_tokenizer(unfinished / "tokenizer", settings, corpus)
        spills, reading = _tokenise(corpus, unfinished, tokenizer, settings, workers)
        _check_trained_on(unfinished, spills, folder)
        built = _build(folder, unfinished, spills, tokenizer, settings, workers)
        metadata = _metadata(built, reading, tokenizer, settings, corpus, decisive)
        for file in (unfinished / "tokenizer").iterdir():
            with disk_errors(file.name):
                shutil.copyfile(file, folder / file.name)
        write_json(folder / METADATA, metadata)
        shutil.rmtree(unfinished, ignore_errors=True)
    return read_prepared(folder)


@contextlib.contextmanager
def _begin(folder: Path, unfinished: Path, decisive: dict[str, Any]) -> Iterator[None]:
    """Takes the folder for this process, if it is free and holds nothing that these settings would not give."""
    note = unfinished / "settings.json"
    try:
        if note.exists():
            check_same(json.loads(note.read_text(encoding="utf-8")), decisive, folder)
        elif any(folder.glob("*.array_record")):
            raise UserError(f"--output_dir={folder} holds shards of unknown settings; give a new or empty folder")
        for part in ("spills", "notes"):
            (unfinished / part).mkdir(parents=True, exist_ok=True)
        lock = (unfinished / "lock").open("w")
    except OSError as error:
        raise UserError(f"--output_dir={folder}: cannot be used ({error.strerror}); give another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--output_dir={folder}: another prepare is at work in it; wait for it to end") from None
        for abandoned in folder.glob("**/*.partial"):
            shutil.rmtree(abandoned) if abandoned.is_dir() else abandoned.unlink()
        write_json(note, decisive)
        try:
            yield
        except UserError:
            if not any((unfinished / "spills").iterdir()):  # a mistake in the flags, not work to go on with
                shutil.rmtree(unfinished)
            raise


def _keep_tokenizer(folder: Path, settings: PrepareSettings, corpus: Corpus) -> Tokenizer:
    """The tokenizer of this preparation, loaded or trained once and kept in `folder` for workers and restarts."""
    if folder.exists():
        return load_tokenizer(folder)
    if settings.tokenizer in KINDS:
        with progress(f"training a {settings.tokenizer} tokenizer", None, "documents read") as advance:
            chunks: list[str] = []
            texts = _training_sentences(corpus, settings.heldout_fraction, chunks, advance)
            tokenizer = train_tokenizer(settings.tokenizer, texts, settings.vocab_size)
        write_json(folder.with_name(_TRAINED_ON), sorted(chunks))
    else:
        tokenizer = load_tokenizer(settings.tokenizer)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    with disk_errors(folder):
        partial.mkdir(exist_ok=True)
        tokenizer.save(partial)
        os.replace(partial, folder)
    return load_tokenizer(folder)


def _training_sentences(
    corpus: Corpus, heldout_fraction: float, chunks: list[str], advance: Callable[[int], None]
) -> Iterator[str]:
    """Sentences of the training split; adds to `chunks` what the chunks of the whole corpus will be named."""
    for source in corpus.sources:
        for chunk in chunk_documents(read_source(source)):
            chunks.append(spill_name(chunk))
            advance(len(chunk))
            for document in chunk:
                if not is_heldout(document.identity, heldout_fraction):
                    yield from document.sentences
    if not chunks:
        raise corpus.empty_error()


def _check_trained_on(unfinished: Path, spills: list[str], folder: Path) -> None:
    """Refuses a tokenizer that an earlier run learned from other text than there is now."""
    note = unfinished / _TRAINED_ON
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != spills:
        raise UserError(
            f"--output_dir={folder}: the corpus has changed since its tokenizer was trained; delete the folder and run "
            "the same command again"
        )


def _tokenise(
    corpus: Corpus, unfinished: Path, tokenizer: Tokenizer, settings: PrepareSettings, workers: int
) -> tuple[list[str], Counter[str]]:
    """Spills the whole corpus; returns the spills' names, sorted, and what reading the corpus cut or mended."""
    sharding = Sharding(settings.max_length, settings.shards, settings.heldout_fraction)
    task = SpillTask(unfinished / "tokenizer", tokenizer.fingerprint(), unfinished / "spills", sharding)
    reading: Counter[str] = Counter()
    if len(corpus.sources) >= 2 * workers:
        # Enough files to keep every worker busy: each is read where it is tokenised.
        results = map_unordered(functools.partial(spill_source, task), corpus.sources, workers)
    else:
        chunks = (chunk for source in corpus.sources for chunk in chunk_documents(read_source(source, reading)))
        results = map_unordered(functools.partial(spill_chunk, task), chunks, workers)
    names: list[str] = []
    with progress("tokenising", None, "documents") as advance:
        for result in results:
            names.extend(result.names)
            reading.update(result.counts)
            advance(result.documents)
    if not names:
        raise corpus.empty_error()
    return sorted(names), reading


def _build(
    folder: Path,
    unfinished: Path,
    spills: list[str],
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    workers: int,
) -> list[BuiltShard]:
    """Builds every shard, the training shards first; those that an earlier run finished are kept."""
    places = [(TRAIN, index, settings.shards) for index in range(settings.shards)]
    if settings.heldout_fraction:
        places.append((HELDOUT, 0, 1))
    tasks = [
        ShardTask(
            path=folder / shard_name(split, index, count),
            split=split,
            number=number,
            notes=unfinished / "notes",
            spill_folder=unfinished / "spills",
            spills=tuple(spills),
            max_length=settings.max_length,
            packed=not settings.nopack,
            seed=settings.seed,
            padded_vocab_size=tokenizer.padded_vocab_size,
            dtype=token_dtype(tokenizer.padded_vocab_size),
            framing_ids=(tokenizer.cls_id, tokenizer.sep_id),
        )
        for number, (split, index, count) in enumerate(places)
    ]
    built = []
    with progress("building shards", len(tasks), "shards") as advance:
        for shard in map_unordered(build_or_keep, tasks, min(workers, len(tasks))):
            built.append(shard)
            advance(1)
    return sorted(built, key=lambda shard: (shard.shard.split == HELDOUT, shard.shard.file))


def _metadata(
    built: list[BuiltShard],
    reading: Counter[str],
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    corpus: Corpus,
    decisive: dict[str, Any],
) -> dict[str, Any]:
    splits = {}
    for split in (TRAIN, HELDOUT):
        counts: Counter[str] = Counter()
        for shard in built:
            if shard.shard.split == split:
                counts.update(shard.counts)
        slots = counts["rows"] * settings.max_length
        splits[split] = {**counts, "fill": counts["tokens"] / slots if slots else 0.0}
    _check_splits(splits, settings)
    histogram = np.sum([shard.histogram for shard in built if shard.shard.split == TRAIN], axis=0)
    return {
        "format_version": FORMAT_VERSION,
        "max_length": settings.max_length,
        "packed": not settings.nopack,
        "seed": settings.seed,
        "vocab_size": tokenizer.vocab_size,
        "padded_vocab_size": tokenizer.padded_vocab_size,
        "tokenizer": {
            "kind": "wordpiece" if isinstance(tokenizer, WordPieceTokenizer) else "sentencepiece",
            "fingerprint": tokenizer.fingerprint(),
        },
        "source": describe_source(corpus),
        "settings": decisive,
        "text_fingerprint": text_fingerprint(corpus),
        "reading": dict(sorted(reading.items())),
        "splits": splits,
        "shards": [asdict(shard.shard) for shard in built],
        "token_histogram": histogram.tolist(),
    }


def _check_splits(splits: dict[str, Any], settings: PrepareSettings) -> None:
    train, heldout = splits[TRAIN], splits[HELDOUT]
    if not train.get("tokens", 0) + heldout.get("tokens", 0):
        raise UserError(
            f"--input={settings.input}: no sentence of it holds a token; give text that the tokenizer knows"
        )
    if not train["rows"]:
        raise UserError(
            f"--heldout_fraction={settings.heldout_fraction}: all {heldout['documents']} documents fell to the "
            "held-out split; give a smaller fraction or 0"
        )
