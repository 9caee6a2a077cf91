"""The settings of a preparation: which can be met, and which decide the bytes of the result."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etils import epath

from spanbert_jax.data.blocks import check_row_length
from spanbert_jax.data.corpus import Corpus
from spanbert_jax.data.shards import FORMAT_VERSION
from spanbert_jax.data.tokenizer import KINDS, load_tokenizer
from spanbert_jax.errors import UserError, did_you_mean

MIN_VOCABULARY = 2048
_FINGERPRINT_BYTES = 2**20


@dataclass(frozen=True)
class PrepareSettings:
    """The flags of `prepare`; `workers` and `output_dir` alone do not decide the result."""

    input: str
    tokenizer: str
    output_dir: str
    max_length: int = 512
    format: str = "auto"
    text_field: str = "text"
    vocab_size: int = 8192
    heldout_fraction: float = 0.02
    nopack: bool = False
    shards: int = 16
    workers: int = 0
    seed: int = 0


def check_settings(settings: PrepareSettings) -> None:
    """Raises `UserError` for flags that cannot be met, before anything is read."""
    check_row_length(settings.max_length)
    if "://" in settings.output_dir:
        raise UserError(
            f"--output_dir={settings.output_dir}: shards are written to local disks only; give a local folder and copy "
            "it afterwards"
        )
    if not 0 <= settings.heldout_fraction < 1:
        raise UserError(f"--heldout_fraction={settings.heldout_fraction}: expected at least 0 and less than 1")
    if settings.shards < 1:
        raise UserError(f"--shards={settings.shards}: expected at least 1")
    if settings.workers < 0:
        raise UserError(f"--workers={settings.workers}: expected at least 1, or 0 for one on every core")
    if (
        did_you_mean(settings.tokenizer, KINDS)
        and settings.tokenizer not in KINDS
        and not Path(settings.tokenizer).exists()
    ):
        raise UserError(
            f"--tokenizer={settings.tokenizer}: no such file; to train one give one of {', '.join(KINDS)}"
            f"{did_you_mean(settings.tokenizer, KINDS)}"
        )
    if settings.tokenizer in KINDS and settings.vocab_size < MIN_VOCABULARY:
        raise UserError(f"--vocab_size={settings.vocab_size}: expected at least {MIN_VOCABULARY} pieces")


def decisive_settings(settings: PrepareSettings, corpus: Corpus) -> dict[str, Any]:
    """What decides the bytes of the result, in the form that two runs compare, wherever corpus and folder lie."""
    decisive = {name: value for name, value in asdict(settings).items() if name not in ("output_dir", "workers")}
    decisive["input"] = describe_source(corpus)["input"]
    if settings.tokenizer not in KINDS:
        decisive["tokenizer"] = load_tokenizer(settings.tokenizer).fingerprint()
        del decisive["vocab_size"]
    return json.loads(json.dumps(decisive | {"format_version": FORMAT_VERSION}))


def describe_source(corpus: Corpus) -> dict[str, Any]:
    """The corpus for `metadata.json`; of a path its last part only, since where it lies decides nothing."""
    names = [spec if ":" in spec else os.path.basename(os.path.abspath(spec)) for spec in corpus.specs]
    formats = [corpus.formats[spec] for spec in corpus.specs]
    return corpus.describe() | {"input": names, "formats": formats}


def text_fingerprint(corpus: Corpus) -> str:
    """A digest of the files of a corpus that tells an edited or another one, wherever the files lie.

    Of a long file it reads the size and both ends only, so that it costs little beside reading the corpus.
    """
    digest = hashlib.sha256()
    for source in corpus.sources:
        digest.update(source.name.encode())
        if source.kind != "file":
            continue
        path = epath.Path(source.location)
        size = path.stat().length
        with path.open("rb") as file:
            digest.update(f"{size}".encode() + file.read(_FINGERPRINT_BYTES))
            file.seek(max(size - _FINGERPRINT_BYTES, 0))
            digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()


def check_same(before: Any, decisive: dict[str, Any], folder: Path) -> None:
    """Raises `UserError` where a folder was begun with settings that give other bytes."""
    before = before if isinstance(before, dict) else {}
    for name, value in decisive.items():
        if before.get(name) != value:
            raise UserError(
                f"--output_dir={folder} holds a preparation with other settings: --{name} was {before.get(name)!r}, "
                f"now it is {value!r}; use another --output_dir or delete this one"
            )
