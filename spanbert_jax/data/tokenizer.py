"""Finds a tokenizer where a path points, or trains one; the tokenizers themselves are in `subwords`."""

import io
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import sentencepiece
import tokenizers
from absl import logging
from etils import epath
from tokenizers import models, trainers

from spanbert_jax.data.subwords import (
    CONTINUATION,
    SPECIAL_PIECES,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    mend_surrogates,
    set_bert_pipeline,
)
from spanbert_jax.errors import UserError, did_you_mean

__all__ = ["KINDS", "SentencePieceTokenizer", "Tokenizer", "WordPieceTokenizer", "load_tokenizer", "train_tokenizer"]

KINDS = ("wordpiece", "unigram", "bpe")
FILES = ("tokenizer.model", "tokenizer.json", "vocab.txt")  # in a folder the first of these decides
ACCEPTED = "vocab.txt, tokenizer.json, a SentencePiece *.model, or a folder that holds one"
CHARACTER_COVERAGE = 0.9995  # SentencePiece loses only the character itself
WORDPIECE_COVERAGE = 0.9999  # WordPiece loses the whole word around it
ALPHABET_LIMIT = 1000


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Reads the tokenizer at `path`: a `vocab.txt`, a `tokenizer.json`, a `*.model`, or a folder that holds one.

    Cheap enough (0.1 s for 29,000 pieces) to be called in every worker process.

    Raises:
        UserError: nothing there, or a file that cannot be used as it is.
    """
    file = _find_file(epath.Path(path))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer {file}: cannot be read ({error.strerror or error}); expected {ACCEPTED}") from None
    origin = f"tokenizer {file}"
    if file.suffix == ".model":
        return SentencePieceTokenizer(content, origin)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    if file.suffix == ".json":
        return WordPieceTokenizer(text, origin)
    options = _bert_options(file.parent / "tokenizer_config.json")
    return WordPieceTokenizer.from_vocabulary(_vocabulary_lines(text, origin), origin, **options)


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int, *, sentence_limit: int = 1_000_000) -> Tokenizer:
    """Learns a vocabulary of exactly `vocab_size` pieces; the same texts in the same order give the same one.

    Args:
        kind: "wordpiece", "unigram" or "bpe" (the last two through SentencePiece).
        texts: sentences; beyond `sentence_limit` of them an even sample of that many is learned from.
        vocab_size: pieces, the five special ones (ids 0 to 4: [PAD] [UNK] [CLS] [SEP] [MASK]) included.

    Raises:
        UserError: an unknown kind, no text, or a size that the texts cannot give.
    """
    if kind not in KINDS:
        raise UserError(f"tokenizer kind {kind!r}: expected one of {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    sample = _even_sample(texts, sentence_limit)
    if not sample:
        raise UserError(f"no text to train a {kind} tokenizer from; give a corpus that holds sentences")
    return _train_wordpiece(sample, vocab_size) if kind == "wordpiece" else _train_pieces(kind, sample, vocab_size)


def _find_file(path: epath.Path) -> epath.Path:
    if not path.exists():
        raise UserError(f"tokenizer {path}: no such file or folder; expected {ACCEPTED}")
    if not path.is_dir():
        if path.suffix not in (".model", ".json", ".txt"):
            raise UserError(f"tokenizer {path}: unknown kind of file; expected {ACCEPTED}")
        return path
    for name in FILES:
        if (path / name).exists():
            return path / name
    others = sorted(path.glob("*.model"))
    if len(others) != 1:
        found = "no tokenizer in it" if not others else f"{len(others)} *.model files in it, name one"
        raise UserError(f"tokenizer {path}: {found}; expected {ACCEPTED}")
    return others[0]


def _bert_options(config: epath.Path) -> dict[str, bool]:
    """Reads from Hugging Face's file beside a vocabulary how its text is to be cleaned; cased where it says nothing."""
    if not config.exists():
        return {}
    try:
        said = json.loads(config.read_bytes())
        lowercase = bool(said.get("do_lower_case", False))
    except (ValueError, AttributeError):
        raise UserError(f"tokenizer {config}: not a JSON object; mend it or remove it") from None
    strip_accents = said.get("strip_accents")
    return {
        "lowercase": lowercase,
        "strip_accents": lowercase if strip_accents is None else bool(strip_accents),
        "handle_chinese_chars": bool(said.get("tokenize_chinese_chars", True)),
    }


def _vocabulary_lines(text: str, origin: str) -> list[str]:
    # Not splitlines: vocabularies hold pieces such as U+2028.
    pieces = [line.removesuffix("\r") for line in text.split("\n")]
    while pieces and not pieces[-1]:
        pieces.pop()
    if not pieces:
        raise UserError(f"{origin}: the file is empty; expected one piece a line, the first line being id 0")
    lines: dict[str, int] = {}
    for number, piece in enumerate(pieces, 1):
        if not piece:
            raise UserError(f"{origin}: line {number} is empty; every line must hold a piece, as its number is the id")
        if piece in lines:
            raise UserError(
                f"{origin}: line {number} repeats {piece!r} of line {lines[piece]}; every piece must be unique"
            )
        lines[piece] = number
    return pieces


def _even_sample(texts: Iterable[str], limit: int) -> list[str]:
    """Draws `limit` texts, each as likely as any other, in their order, by reservoir sampling from a fixed seed."""
    generator = random.Random(0)
    kept: list[tuple[int, str]] = []
    number = -1
    for number, text in enumerate(text for text in texts if text.strip()):
        if number < limit:
            kept.append((number, text))
        elif (place := generator.randrange(number + 1)) < limit:
            kept[place] = (number, text)
    if number >= limit:
        logging.info("The tokenizer learns from an even sample of %d of %d sentences.", limit, number + 1)
    return [mend_surrogates(text) for _, text in sorted(kept)]


def _train_wordpiece(texts: Sequence[str], vocab_size: int) -> WordPieceTokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    set_bert_pipeline(backend)
    alphabet, continuations = _alphabet(texts, backend)
    # The library numbers `##` characters in the order of a hash table and breaks ties by number, so that every run
    # gives another vocabulary; named as special pieces they are numbered here.
    reserved = [*SPECIAL_PIECES, *continuations]
    least = len(reserved) + len(alphabet)
    if vocab_size < least:
        raise UserError(f"--vocab_size={vocab_size}: the characters of the corpus alone need {least}; ask for more")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=reserved,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    vocabulary = backend.get_vocab()
    if len(vocabulary) < vocab_size:
        raise UserError(
            f"--vocab_size={vocab_size}: the corpus gives only {len(vocabulary)} pieces that occur twice; "
            "give more text, an existing --tokenizer, or ask for at most that many where the minimum allows"
        )
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    return WordPieceTokenizer.from_vocabulary(pieces, "the trained tokenizer")


def _alphabet(texts: Sequence[str], backend: tokenizers.Tokenizer) -> tuple[list[str], list[str]]:
    """Returns the characters to keep, and `##` before those of them that can stand inside a word, both sorted."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    clean = backend.normalizer.normalize_str
    counts = Counter({character: count for character, count in counts.items() if clean(character).strip()})
    kept: list[str] = []
    rest = counts.total()
    uncovered = (1 - WORDPIECE_COVERAGE) * rest
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:ALPHABET_LIMIT]:
        if rest <= uncovered:
            break
        kept.append(character)
        rest -= count
    split = backend.pre_tokenizer.pre_tokenize_str
    inside = [character for character in kept if len(split(clean("a" + character))) == 1]
    return sorted(kept), sorted(CONTINUATION + character for character in inside)


def _train_pieces(kind: str, texts: Sequence[str], vocab_size: int) -> SentencePieceTokenizer:
    pad, unknown, opening, closing, mask = SPECIAL_PIECES
    sentences = [text.replace("\n", " ") for text in texts]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size,
            pad_id=0, pad_piece=pad, unk_id=1, unk_piece=unknown, bos_id=2, bos_piece=opening, eos_id=3,
            eos_piece=closing, control_symbols=[mask],
            character_coverage=CHARACTER_COVERAGE,
            # Longer sentences would be left out without a word.
            max_sentence_length=max(len(sentence.encode()) for sentence in sentences) + 1,
            # The sums of the unigram model depend on how many threads share them.
            num_threads=4,
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise UserError(_training_problem(str(error), vocab_size)) from None
    return SentencePieceTokenizer(model.getvalue(), "the trained tokenizer")


def _training_problem(message: str, vocab_size: int) -> str:
    flag = f"--vocab_size={vocab_size}"
    if most := re.search(r"value <= (\d+)", message):
        return f"{flag}: the corpus gives at most {most[1]} pieces; give more text or an existing --tokenizer"
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return f"{flag}: the characters of the corpus alone need {least[1]}; ask for more"
    reason = " ".join(message.split())
    return f"{flag}: SentencePiece cannot learn from this corpus ({reason}); check its text or change the size"
