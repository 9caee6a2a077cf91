"""Turns text into a prepared folder: `python -m spanbert_jax.prepare --input=... --tokenizer=... --output_dir=...`."""

import sys
from collections.abc import Sequence

from absl import app, flags

from spanbert_jax import cli
from spanbert_jax.data.preparation import prepare
from spanbert_jax.data.prepare_settings import PrepareSettings
from spanbert_jax.data.summary import describe

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "builtin:docs, files, folders, globs, gs://..., or tfds:NAME:SPLIT; several with commas.",
    required=True,
)
_TOKENIZER = flags.DEFINE_string(
    "tokenizer",
    None,
    "vocab.txt, tokenizer.json, *.model or a folder that holds one of them; or wordpiece, unigram or bpe: train one.",
    required=True,
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the prepared folder goes (local).", required=True)
_MAX_LENGTH = flags.DEFINE_integer("max_length", PrepareSettings.max_length, "Slots of a row, framing tokens counted.")
_FORMAT = flags.DEFINE_string(
    "format",
    PrepareSettings.format,
    "How the text is laid out: sentences, documents, prose, wiki, jsonl; auto: guess from its beginning.",
)
_TEXT_FIELD = flags.DEFINE_string(
    "text_field", PrepareSettings.text_field, "The field of JSON lines or TFDS that is text."
)
_VOCAB_SIZE = flags.DEFINE_integer(
    "vocab_size", PrepareSettings.vocab_size, "Pieces of a tokenizer trained here, at least 2048."
)
_HELDOUT = flags.DEFINE_float(
    "heldout_fraction", PrepareSettings.heldout_fraction, "Share of the documents kept for evaluation, by their hash."
)
_NOPACK = flags.DEFINE_bool("nopack", PrepareSettings.nopack, "One block a row, as the original has it.")
_SHARDS = flags.DEFINE_integer(
    "shards", PrepareSettings.shards, "Training shards; each is built in memory, so raise it for a very large corpus."
)
_WORKERS = flags.DEFINE_integer("workers", PrepareSettings.workers, "Processes; 0: one on every core. Changes no byte.")
_SEED = flags.DEFINE_integer("seed", PrepareSettings.seed, "Decides the order of rows within a shard.")


def main(argv: Sequence[str]) -> int:
    """Prepares the folder and prints what it holds."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every setting is a --flag")
    settings = PrepareSettings(
        input=_INPUT.value,
        tokenizer=_TOKENIZER.value,
        output_dir=_OUTPUT_DIR.value,
        max_length=_MAX_LENGTH.value,
        format=_FORMAT.value,
        text_field=_TEXT_FIELD.value,
        vocab_size=_VOCAB_SIZE.value,
        heldout_fraction=_HELDOUT.value,
        nopack=_NOPACK.value,
        shards=_SHARDS.value,
        workers=_WORKERS.value,
        seed=_SEED.value,
    )
    try:
        prepared = prepare(settings)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    print(describe(prepared))
    return 0


if __name__ == "__main__":
    cli.run(main)
