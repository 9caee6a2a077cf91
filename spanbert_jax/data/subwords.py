"""The two families of subword vocabularies, WordPiece and SentencePiece, behind one small interface.

Each tokenizer is made from the serialised form that it also writes, so it pickles as that form and a worker process
gets the very tokenizer of its parent.
"""

import abc
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sentencepiece
import tokenizers
from etils import epath
from tokenizers import decoders, models, normalizers, pre_tokenizers

from spanbert_jax.errors import UserError

# `prepare` and the data loader bring their own processes; threads inside each of them would fight for the same cores.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# How other makers spell them.
SPELLINGS = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
PADDED_TO = 128
WORD_MARK = "▁"  # SentencePiece's sign for the space before a word
CONTINUATION = "##"


class Tokenizer(abc.ABC):
    """Text to ids and back, and what span masking must know of every id.

    Attributes:
        vocab_size: number of pieces.
        padded_vocab_size: V, the next multiple of 128; the ids beyond `vocab_size` stand for nothing.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special pieces.
        is_word_start: [V] bool; whether the piece opens a word.
        is_special: [V] bool; [PAD], [CLS], [SEP], [MASK] and whatever text can never become. [UNK] is ordinary.
    """

    def __init__(self, pieces: Sequence[str], is_word_start: Iterable[bool], never_text: Iterable[int], origin: str):
        """Takes the vocabulary in order of ids; `never_text` are ids outside text beyond the four special ones."""
        self._pieces = list(pieces)
        self.vocab_size = len(self._pieces)
        self.padded_vocab_size = -(-self.vocab_size // PADDED_TO) * PADDED_TO
        self._special_ids = _find_special(self._pieces, origin)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._special_ids[name] for name in SPECIAL_PIECES
        )
        self.is_word_start = np.zeros(self.padded_vocab_size, bool)
        self.is_word_start[: self.vocab_size] = list(is_word_start)
        self.is_special = np.zeros(self.padded_vocab_size, bool)
        self.is_special[self.vocab_size :] = True
        self.is_special[[self.pad_id, self.cls_id, self.sep_id, self.mask_id, *never_text]] = True
        self._never_from_text = frozenset(np.flatnonzero(self.is_special).tolist())
        self._framing = frozenset({self.pad_id, self.cls_id, self.sep_id})
        spelled = {**self._special_ids, **{self._pieces[i]: i for i in self._special_ids.values()}}
        self._spelled = spelled
        self._spelled_pattern = re.compile("(" + "|".join(map(re.escape, spelled)) + ")")

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Returns the ids of `text`, without [CLS] and [SEP].

        Text that spells a special piece is ordinary text, unless `allow_special` is set: then "[MASK]" is the id.
        """
        if not allow_special:
            return self.encode_batch([text])[0]
        parts = self._spelled_pattern.split(text)  # every second part is a special piece
        encoded = self.encode_batch(parts[::2])
        for number, piece in enumerate(parts[1::2]):
            encoded[number].append(self._spelled[piece])
        return [token for part in encoded for token in part]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, as `encode` does; one call for many texts is the fast way."""
        try:
            batch = self._encode_texts(texts)
        except (TypeError, RuntimeError):  # both libraries refuse a surrogate without its pair
            batch = self._encode_texts([mend_surrogates(text) for text in texts])
        # A vocabulary file may declare special pieces in ways that match in raw text.
        return [ids if self._never_from_text.isdisjoint(ids) else self._as_unknown(ids) for ids in batch]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text, in which [MASK] shows and [PAD], [CLS] and [SEP] do not."""
        shown = [int(token) for token in ids if int(token) not in self._framing]
        for token in shown:
            self.token(token)
        return self._decode_ids(shown)

    def token(self, token_id: int) -> str:
        """Returns the vocabulary piece; IndexError for an id that is no piece."""
        if not 0 <= token_id < self.vocab_size:
            raise IndexError(f"token id {token_id} is outside the vocabulary of {self.vocab_size} pieces")
        return self._pieces[token_id]

    def fingerprint(self) -> str:
        """Returns the SHA-256 over all that decides ids, so that two tokenizers that differ are told apart."""
        return hashlib.sha256(self._identity()).hexdigest()

    @abc.abstractmethod
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the tokenizer's own files into `folder`, which is made if need be."""

    @abc.abstractmethod
    def _encode_texts(self, texts: Sequence[str]) -> list[list[int]]: ...

    @abc.abstractmethod
    def _decode_ids(self, ids: list[int]) -> str: ...

    @abc.abstractmethod
    def _identity(self) -> bytes: ...

    def _as_unknown(self, ids: list[int]) -> list[int]:
        return [self.unk_id if token in self._never_from_text else token for token in ids]


class WordPieceTokenizer(Tokenizer):
    """BERT's WordPiece: words and punctuation apart, then the longest pieces first, `##` before those inside a word."""

    def __init__(self, serialized: str, origin: str = "tokenizer.json"):
        """Takes the text of a `tokenizer.json`; UserError, naming `origin`, if it is no usable WordPiece."""
        self._backend = _parse_backend(serialized, origin)
        pieces = _pieces_in_order(self._backend, origin)
        prefix = self._backend.model.continuing_subword_prefix
        if not prefix:
            raise UserError(
                f"{origin}: nothing marks its pieces inside words; export it with a continuing_subword_prefix"
            )
        super().__init__(pieces, (not piece.startswith(prefix) for piece in pieces), (), origin)
        unknown = self._backend.model.unk_token
        if unknown != pieces[self.unk_id] or self._backend.model.token_to_id(unknown) is None:
            raise UserError(
                f"{origin}: its model gives unknown words {unknown!r} but its vocabulary has {pieces[self.unk_id]!r}; "
                "make the two agree"
            )

        self._splits_at_spaces = _splits_at_spaces(self._backend)

    @classmethod
    def from_vocabulary(
        cls,
        pieces: Sequence[str],
        origin: str,
        *,
        lowercase: bool = False,
        strip_accents: bool = False,
        handle_chinese_chars: bool = True,
    ) -> "WordPieceTokenizer":
        """Makes BERT's tokenizer from its pieces in order of ids; cased unless told otherwise."""
        unknown = pieces[_find_special(pieces, origin)["[UNK]"]]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
        set_bert_pipeline(backend, lowercase, strip_accents, handle_chinese_chars)
        backend.add_special_tokens([pieces[i] for i in _find_special(pieces, origin).values()])
        return cls(backend.to_str(), origin)

    def __reduce__(self) -> tuple[Any, ...]:
        return WordPieceTokenizer, (self._backend.to_str(),)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `tokenizer.json`, which decides everything, and `vocab.txt`, for tools that want it."""
        epath.Path(folder).mkdir(parents=True, exist_ok=True)
        epath.Path(folder, "tokenizer.json").write_bytes(self._backend.to_str(pretty=True).encode())
        epath.Path(folder, "vocab.txt").write_bytes("".join(f"{piece}\n" for piece in self._pieces).encode())

    def _encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        if not self._splits_at_spaces:
            return self._encode_whole(texts)
        # Words repeat: to give each one of a batch to the library once takes about half the time.
        rows = [text.split(" ") for text in texts]
        words = list(set[str]().union(*rows))
        ids = dict(zip(words, self._encode_whole(words), strict=True))
        return [list(itertools.chain.from_iterable(map(ids.__getitem__, row))) for row in rows]

    def _encode_whole(self, texts: Sequence[str]) -> list[list[int]]:
        return [row.ids for row in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _decode_ids(self, ids: list[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=False)

    def _identity(self) -> bytes:
        parts = json.loads(self._backend.to_str())
        deciding = {key: parts[key] for key in ("added_tokens", "model", "normalizer", "pre_tokenizer")}
        return json.dumps(deciding, sort_keys=True).encode()


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece, unigram or BPE: pieces of running text in which `▁` stands for the space before a word."""

    def __init__(self, proto: bytes, origin: str = "tokenizer.model"):
        """Takes the bytes of a `.model` file; UserError, naming `origin`, if it is no usable one."""
        self._proto = proto
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(proto)
            numbers = range(self._processor.get_piece_size())
            pieces = [self._processor.id_to_piece(number) for number in numbers]
        except (RuntimeError, UnicodeDecodeError):  # the second where damage hit the middle of a piece
            raise UserError(
                f"{origin}: not a SentencePiece model, or a damaged one ({len(proto)} bytes); "
                "copy it again or train one"
            ) from None
        starts = [piece.startswith(WORD_MARK) for piece in pieces]
        longer = [piece for piece in pieces if piece.strip(WORD_MARK)]
        if any(p.endswith(WORD_MARK) for p in longer) and not any(p.startswith(WORD_MARK) for p in longer):
            raise UserError(
                f"{origin}: it marks the end of words (treat_whitespace_as_suffix); span masking needs a model that "
                "marks their start: train it without that option"
            )
        never_text = [number for number in numbers if self._processor.is_control(number)]
        super().__init__(pieces, starts, never_text, origin)

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceTokenizer, (self._proto,)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `tokenizer.model`."""
        epath.Path(folder).mkdir(parents=True, exist_ok=True)
        epath.Path(folder, "tokenizer.model").write_bytes(self._proto)

    def _encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode(list(texts), num_threads=1)

    def _decode_ids(self, ids: list[int]) -> str:
        text, run = "", list[int]()
        for token in [*ids, None]:  # the library shows neither [MASK] nor [UNK]
            if token not in (None, self.mask_id, self.unk_id):
                run.append(token)
                continue
            if run:
                text += (" " if text and self.is_word_start[run[0]] else "") + self._processor.decode(run)
                run = []
            if token is not None:
                apart = token == self.mask_id and text and not text.endswith(" ")
                text += (" " if apart else "") + self._pieces[token]
        return text

    def _identity(self) -> bytes:
        return self._proto


def set_bert_pipeline(
    backend: tokenizers.Tokenizer,
    lowercase: bool = False,
    strip_accents: bool = False,
    handle_chinese_chars: bool = True,
) -> None:
    """Gives `backend` BERT's steps around its model: cleaning, splitting at spaces and punctuation, and joining."""
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=handle_chinese_chars, strip_accents=strip_accents, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION)


def _splits_at_spaces(backend: tokenizers.Tokenizer) -> bool:
    """Says whether a text has the ids of the parts between its spaces, as it has in BERT's own pipeline."""
    return (
        isinstance(backend.normalizer, normalizers.BertNormalizer)
        and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and all(added.special for added in backend.get_added_tokens_decoder().values())
    )


def mend_surrogates(text: str) -> str:
    """Returns `text` as valid Unicode: surrogate pairs joined, lone ones (as JSON can hold) replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _find_special(pieces: Sequence[str], origin: str) -> dict[str, int]:
    ids = {piece: number for number, piece in enumerate(pieces)}
    found = {name: ids[piece] for name in SPECIAL_PIECES for piece in (SPELLINGS[name], name) if piece in ids}
    missing = [name for name in SPECIAL_PIECES if name not in found]
    if missing:
        raise UserError(
            f"{origin}: the vocabulary lacks {', '.join(missing)}; add what is missing or let prepare train a tokenizer"
        )
    return found


def _parse_backend(serialized: str, origin: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(serialized)
    except Exception as error:  # the library raises nothing more particular
        reason = " ".join(str(error).split())
        raise UserError(f"{origin}: not a readable tokenizer.json ({reason}); export or copy it again") from None
    if not isinstance(backend.model, models.WordPiece):
        raise UserError(
            f"{origin}: holds a {type(backend.model).__name__} model; a tokenizer.json must hold WordPiece here "
            "(for SentencePiece give the .model file)"
        )
    # Files often carry the maximum length of their model: text would be cut without a word.
    backend.no_truncation()
    backend.no_padding()
    # Not part of the serialised form, so it is set on every load.
    backend.encode_special_tokens = True
    if backend.decoder is None:
        backend.decoder = decoders.WordPiece(prefix=backend.model.continuing_subword_prefix)
    return backend


def _pieces_in_order(backend: tokenizers.Tokenizer, origin: str) -> list[str]:
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    for expected, piece in enumerate(pieces):
        if vocabulary[piece] != expected:
            raise UserError(
                f"{origin}: {piece!r} has id {vocabulary[piece]} where {expected} was expected; "
                "number the pieces 0, 1, 2, ... without holes or repeats"
            )
    return pieces
