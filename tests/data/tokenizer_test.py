import io
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece

from spanbert_jax.data.tokenizer import (
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from spanbert_jax.errors import UserError

DATA = pathlib.Path(os.environ.get("SPANBERT_DATA", pathlib.Path(__file__).parents[3] / "shared" / "data"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    *SPECIAL,
    "un",
    "##aff",
    "##able",
    "a",
    "##b",
    "caf",
    "##é",
    "the",
    "The",
    ",",
    "'",
    "t",
    "[",
    "]",
    "MASK",
    "日",
]
SENTENCES = [
    "The cat sat on the mat, and the dog sat on the log.",
    "A dog and a cat can sit; they can't sit on a mat that is not there.",
    "Mats, logs, cats and dogs: there is nothing else in this small world!",
    "The world is small, said the cat to the dog on the mat.",
    "Every morning the old gardener watered the yellow roses behind the kitchen.",
    "Nobody remembered who had painted the quiet harbour in winter.",
    "Rain fell for seven days before the river took the wooden bridge away.",
    "She wrote letters to her brother, who answered with drawings of ships.",
    "Between the hills lies a village whose bells are heard for miles.",
    "Music began, the lamps were lit, and the guests moved into the garden.",
] * 5


@pytest.fixture
def wordpiece() -> Tokenizer:
    return WordPieceTokenizer.from_vocabulary(PIECES, "the test's vocabulary")


@pytest.fixture(scope="module")
def unigram() -> Tokenizer:
    return train_tokenizer("unigram", SENTENCES, 100)


@pytest.fixture(params=["wordpiece", "unigram", "bpe"], scope="module")
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, SENTENCES, 100)


def pieces_of(tokenizer: Tokenizer, text: str, **options: bool) -> list[str]:
    return [tokenizer.token(token) for token in tokenizer.encode(text, **options)]


def sentencepiece_model(**options: object) -> bytes:
    model = io.BytesIO()
    settings = {"model_type": "unigram", "vocab_size": 60, "hard_vocab_limit": False, "minloglevel": 2, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=model, **settings)
    return model.getvalue()


# fmt: off
CUTS = [
    ("unaffable",        ["un", "##aff", "##able"]),
    ("The the",          ["The", "the"]),
    ("THE",              ["[UNK]"]),                        # cased
    ("café",             ["caf", "##é"]),                   # accents kept
    ("a,a",              ["a", ",", "a"]),
    ("a't",              ["a", "'", "t"]),
    ("a日日a",            ["a", "日", "日", "a"]),
    ("ab abb",           ["a", "##b", "a", "##b", "##b"]),
    ("a\ta\u00a0a\u3000a\na\r\na", ["a", "a", "a", "a", "a", "a"]),
    ("a\x00\x1c\u200bb",  ["a", "##b"]),                    # control characters vanish
    ("  a   a ",         ["a", "a"]),
    ("a [MASK]a",        ["a", "[", "MASK", "]", "a"]),     # spelled out, not swallowed
    ("a🙂 a",            ["[UNK]", "a"]),
    ("a" + 99 * "b",     ["a"] + 99 * ["##b"]),
    ("a" + 100 * "b",    ["[UNK]"]),                        # BERT gives up beyond 100 characters
    ("",                 []),
    (" \x00 ",           []),
]
# fmt: on


@pytest.mark.parametrize(("text", "pieces"), CUTS)
def test_wordpiece_cuts_as_bert_does(wordpiece, text, pieces):
    assert pieces_of(wordpiece, text) == pieces


def test_a_batch_gives_each_text_its_own_ids(wordpiece):
    texts = ["the a", "", "a the unaffable", "the a", " a"]
    expected = [[12, 8], [], [8, 12, 5, 6, 7], [12, 8], [8]]
    assert wordpiece.encode_batch(texts) == expected
    assert [wordpiece.encode(text) for text in texts] == expected
    assert wordpiece.encode_batch([]) == []


def test_a_file_of_another_pipeline_is_followed():
    # Its pieces span spaces, so a text is not the sum of its words.
    backend = json.loads(serialized(WordPieceTokenizer.from_vocabulary([*PIECES, "a a"], "v")))
    tokenizer = WordPieceTokenizer(json.dumps({**backend, "pre_tokenizer": None, "normalizer": None}))
    assert pieces_of(tokenizer, "a a") == ["a a"]


def test_an_added_token_may_span_spaces():
    backend = json.loads(serialized(WordPieceTokenizer.from_vocabulary([*PIECES, "a the"], "v")))
    added = {**backend["added_tokens"][0], "id": len(PIECES), "content": "a the", "special": False}
    tokenizer = WordPieceTokenizer(json.dumps({**backend, "added_tokens": [*backend["added_tokens"], added]}))
    assert pieces_of(tokenizer, "a the a") == ["a the", "a"]


def serialized(tokenizer: WordPieceTokenizer) -> str:
    return tokenizer.__reduce__()[1][0]


# fmt: off
WORD_STARTS = [
    ("un", True), ("##aff", False), ("##able", False), ("a", True), (",", True), ("'", True), ("日", True),
    ("[UNK]", True), ("##é", False), ("[", True),
]
# fmt: on


@pytest.mark.parametrize(("piece", "starts"), WORD_STARTS)
def test_wordpiece_word_starts(wordpiece, piece, starts):
    assert wordpiece.is_word_start[PIECES.index(piece)] == starts


def test_sentencepiece_word_starts(unigram):
    pieces = [unigram.token(number) for number in range(unigram.vocab_size)]
    # Every word of the text opens with a piece that starts one, and punctuation belongs to the word before it.
    text = "The cat, xyz dogs!"
    ids = unigram.encode(text)
    assert sum(unigram.is_word_start[ids]) == len(text.split())
    assert not unigram.is_word_start[[pieces.index(","), pieces.index("!"), unigram.unk_id]].any()
    assert unigram.is_word_start[pieces.index("▁")]  # alone before letters that no piece joins with it
    assert unigram.is_word_start.sum() == sum(piece[0] == "▁" for piece in pieces)


def test_byte_pieces_continue_a_word():
    model = sentencepiece_model(
        vocab_size=400, byte_fallback=True, pad_id=3, pad_piece="<pad>", control_symbols=["<mask>"]
    )
    tokenizer = SentencePieceTokenizer(model)
    ids = tokenizer.encode("cat 日")
    pieces = [tokenizer.token(token) for token in ids]
    assert pieces[-3:] == ["<0xE6>", "<0x97>", "<0xA5>"]
    assert not tokenizer.is_word_start[ids[-3:]].any()
    assert not tokenizer.is_special[ids].any()
    assert tokenizer.decode(ids) == "cat 日"


def test_special_ids_and_the_padded_vocabulary(trained):
    assert [trained.token(number) for number in range(5)] == SPECIAL
    assert [trained.pad_id, trained.unk_id, trained.cls_id, trained.sep_id, trained.mask_id] == [0, 1, 2, 3, 4]
    assert (trained.vocab_size, trained.padded_vocab_size) == (100, 128)
    assert np.flatnonzero(trained.is_special).tolist() == [0, 2, 3, 4, *range(100, 128)]
    assert not trained.is_word_start[100:].any()
    assert trained.is_word_start.shape == trained.is_special.shape == (128,)


def test_a_vocabulary_that_fills_its_padding_has_none():
    letters = [chr(0x4E00 + number) for number in range(123)]
    tokenizer = WordPieceTokenizer.from_vocabulary([*SPECIAL, *letters], "v")
    assert (tokenizer.vocab_size, tokenizer.padded_vocab_size) == (128, 128)


def test_other_spellings_of_special_pieces_are_found():
    # fmt: off
    tokenizer = SentencePieceTokenizer(sentencepiece_model(
        unk_id=0, bos_id=1, eos_id=2, pad_id=3, pad_piece="<pad>", control_symbols=["<mask>", "<other>"]
    ))
    # fmt: on
    ids = [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    assert ids == [3, 0, 1, 2, 4]
    assert tokenizer.is_special[:6].tolist() == [False, True, True, True, True, True]
    assert pieces_of(tokenizer, "cat <mask>[MASK]", allow_special=True)[-2:] == ["<mask>", "<mask>"]


# fmt: off
HOSTILE = [
    "", " ", "\x00", "a\x00b\x07\x1b[31m", "\u200b\u2028\ufeff", "\n\n\t", "e\u0301", "\uffff\U0010ffff",
    "\U0001f642\U0001f469\u200d\U0001f469 ok", "日本語 中文 한국어", "x" * 10_000,
    "\ud800 lone \udfff", "\ud83d\ude42", "##able", "▁▁",
    "[MASK]", "[MASK] cat [SEP]", "[CLS][SEP][PAD][MASK]", "<s></s><pad><mask>", "a[MASK]b",
]
# fmt: on


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_a_special_id(trained, text):
    ids = trained.encode(text)
    assert trained.encode_batch([text, "cat", text]) == [ids, trained.encode("cat"), ids]
    assert all(type(token) is int and 0 <= token < trained.vocab_size for token in ids)
    assert not trained.is_special[ids].any()
    trained.decode(ids)


@pytest.mark.parametrize("special", [True, False])
def test_no_text_becomes_a_special_id_through_added_tokens(special):
    backend = json.loads(serialized(WordPieceTokenizer.from_vocabulary(PIECES, "v")))
    backend["added_tokens"] = [{**token, "special": special} for token in backend["added_tokens"]]
    backend["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    tokenizer = WordPieceTokenizer(json.dumps(backend))
    for text in ("the [MASK] a [SEP]", "[MASK][CLS]", "a[PAD]"):
        assert not tokenizer.is_special[tokenizer.encode(text)].any()
    assert pieces_of(tokenizer, "the [MASK]", allow_special=True) == ["the", "[MASK]"]


def test_no_text_becomes_a_special_id_through_user_defined_symbols():
    names = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    tokenizer = SentencePieceTokenizer(sentencepiece_model(pad_id=3, user_defined_symbols=["[MASK]"], **names))
    assert tokenizer.mask_id not in tokenizer.encode("the [MASK] cat")
    assert tokenizer.mask_id in tokenizer.encode("the [MASK] cat", allow_special=True)


def test_special_pieces_become_ids_where_they_are_allowed(trained):
    the, cat = trained.encode("the"), trained.encode("cat")
    assert trained.encode("the [MASK][MASK] cat", allow_special=True) == [*the, 4, 4, *cat]
    assert trained.encode("[CLS]the[SEP]", allow_special=True) == [2, *the, 3]
    assert trained.encode("[UNK]", allow_special=True) == [1]
    assert trained.encode("the cat", allow_special=True) == trained.encode("the cat")


def test_decoded_text_shows_masks_but_no_frame(trained):
    ids = trained.encode("The cat [MASK] on [MASK] [MASK] mat.", allow_special=True)
    assert trained.decode([2, *ids, 3, 0, 0]) == "The cat [MASK] on [MASK] [MASK] mat."
    assert trained.decode(np.array(ids)) == trained.decode(ids)
    assert trained.decode([]) == ""


def test_decoded_sentencepiece_joins_what_continues_a_word(unigram):
    ids = unigram.encode("[MASK] cat日s", allow_special=True)
    assert unigram.decode(ids) == "[MASK] cat[UNK]s"
    assert unigram.decode([4, unigram.encode("cat.")[-1]]) == "[MASK]."


@pytest.mark.parametrize("token", [-1, 100, 127, 128])
def test_ids_that_are_no_pieces_have_no_text(trained, token):
    with pytest.raises(IndexError, match=f"token id {token} is outside"):
        trained.token(token)
    with pytest.raises(IndexError, match=f"token id {token} is outside"):
        trained.decode([token])


def test_saved_and_pickled_tokenizers_are_the_same(trained, tmp_path):
    trained.save(tmp_path / "new" / "folder")
    files = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert files in ({"tokenizer.json", "vocab.txt"}, {"tokenizer.model"})
    text = "The cats can't sit, café 日 [MASK] x"
    for again in (load_tokenizer(tmp_path / "new" / "folder"), pickle.loads(pickle.dumps(trained))):
        assert again.fingerprint() == trained.fingerprint()
        assert again.encode(text) == trained.encode(text)
        assert again.encode(text, allow_special=True) == trained.encode(text, allow_special=True)
        assert (again.is_word_start == trained.is_word_start).all()


def test_saving_gives_the_same_bytes_again(trained, tmp_path):
    trained.save(tmp_path / "a")
    load_tokenizer(tmp_path / "a").save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_fingerprints_tell_tokenizers_apart(wordpiece, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    assert load_tokenizer(tmp_path / "vocab.txt").fingerprint() == wordpiece.fingerprint()
    swapped = [*PIECES[:-2], PIECES[-1], PIECES[-2]]
    others = [
        WordPieceTokenizer.from_vocabulary(swapped, "v"),
        WordPieceTokenizer.from_vocabulary(PIECES, "v", lowercase=True),
        train_tokenizer("unigram", SENTENCES, 100),
        train_tokenizer("bpe", SENTENCES, 100),
    ]
    assert len({wordpiece.fingerprint(), *(other.fingerprint() for other in others)}) == 5


@pytest.mark.parametrize("name", ["vocab.txt", "pieces.txt"])
def test_vocabulary_lines_are_ids(tmp_path, name):
    lines = ["\ufeff[PAD]", "[UNK]", "\u2028", "[CLS]", "\u3000", "[SEP]", "[MASK]", "a", "", ""]
    (tmp_path / name).write_bytes("\r\n".join(lines).encode())
    tokenizer = load_tokenizer(tmp_path / name)
    assert [tokenizer.token(number) for number in range(8)] == [
        "[PAD]", "[UNK]", "\u2028", "[CLS]", "\u3000", "[SEP]", "[MASK]", "a",
    ]  # fmt: skip
    assert tokenizer.vocab_size == 8


@pytest.mark.parametrize(
    ("config", "pieces"),
    [
        (None, ["[UNK]", "a"]),
        ({"do_lower_case": False}, ["[UNK]", "a"]),
        ({"do_lower_case": True}, ["a", "a"]),
        ({"do_lower_case": True, "strip_accents": False}, ["[UNK]", "a"]),
    ],
)
def test_the_config_beside_a_vocabulary_says_how_it_is_cased(tmp_path, config, pieces):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert pieces_of(load_tokenizer(tmp_path), "Á a") == pieces


def test_an_uncased_tokenizer_file_stays_uncased(tmp_path):
    WordPieceTokenizer.from_vocabulary(PIECES, "v", lowercase=True, strip_accents=True).save(tmp_path)
    assert pieces_of(load_tokenizer(tmp_path), "ÁB THE") == ["a", "##b", "the"]


def test_a_stored_length_limit_does_not_cut_text(wordpiece, tmp_path):
    backend = json.loads(serialized(wordpiece))
    backend["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    backend["padding"] = {
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(backend))
    assert load_tokenizer(tmp_path).encode("unaffable") == [5, 6, 7]
    assert load_tokenizer(tmp_path).encode("a") == [8]


def test_a_folder_is_searched_for_its_tokenizer(trained, wordpiece, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    assert load_tokenizer(str(tmp_path)).fingerprint() == wordpiece.fingerprint()
    (tmp_path / "spiece.model").write_bytes(b"not looked at, as vocab.txt is there")
    assert load_tokenizer(tmp_path).vocab_size == len(PIECES)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "spiece.model").write_bytes(sentencepiece_model(pad_id=3, control_symbols=["[MASK]"]))
    assert isinstance(load_tokenizer(tmp_path), SentencePieceTokenizer)


def edited(**changes: object) -> bytes:
    return json.dumps({**json.loads(serialized(WordPieceTokenizer.from_vocabulary(PIECES, "v"))), **changes}).encode()


def model_with(**changes: object) -> dict[str, object]:
    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    return {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": vocabulary, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", b"", "the file is empty; expected one piece a line"),
        ("vocab.txt", b"\n\n", "the file is empty; expected one piece a line"),
        ("vocab.txt", "\n".join(PIECES[:4] + PIECES[5:]).encode(), r"lacks \[MASK\]; add"),
        ("vocab.txt", b"a\nb\n[SEP]\n[UNK]\n[PAD]", r"lacks \[CLS\], \[MASK\]; add"),
        ("vocab.txt", "\n".join([*PIECES, "a"]).encode(), "line 22 repeats 'a' of line 9"),
        ("vocab.txt", "\n".join([*PIECES[:7], "", *PIECES[7:]]).encode(), "line 8 is empty"),
        ("vocab.txt", b"[PAD]\n\xff\xfe", "byte 6 is not UTF-8; save"),
        ("tokenizer.json", b"", "not a readable tokenizer.json"),
        ("tokenizer.json", b'{"model": ', "not a readable tokenizer.json"),
        ("tokenizer.json", b"[1, 2]", "not a readable tokenizer.json"),
        ("tokenizer.json", b'{"model": {"type": "Nothing"}}', "not a readable tokenizer.json"),
        ("tokenizer.json", edited()[:-200], "not a readable tokenizer.json"),
        ("tokenizer.json", edited(model={"type": "BPE", "vocab": {}, "merges": []}), "holds a BPE model; .*WordPiece"),
        ("tokenizer.json", edited(model=model_with(unk_token="a")), "unknown words 'a' but .* '\\[UNK\\]'; make"),
        ("tokenizer.json", edited(model=model_with(continuing_subword_prefix="")), "nothing marks its pieces inside"),
        ("tokenizer.json", edited(model=model_with(vocab=dict(zip(SPECIAL, [0, 1, 2, 3, 9], strict=True)))), "id 9"),
        ("tokenizer.json", edited(model=model_with(vocab=dict.fromkeys(SPECIAL, 0))), "without holes or repeats"),
        ("tokenizer.model", b"", "not a SentencePiece model, or a damaged one"),
        ("tokenizer.model", b"no model at all", "not a SentencePiece model, or a damaged one"),
        ("some.model", sentencepiece_model()[:-50], "not a SentencePiece model, or a damaged one"),
        ("some.model", sentencepiece_model(), r"lacks \[PAD\], \[MASK\]; add"),
        ("some.model", sentencepiece_model(treat_whitespace_as_suffix=True), "marks the end of words"),
        ("tokenizer.bin", b"", "unknown kind of file; expected vocab.txt, tokenizer.json"),
    ],
)  # fmt: skip
def test_each_unusable_file_gets_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_that_cannot_be_read_gets_one_line(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UserError, match="tokenizer_config.json: not a JSON object"):
        load_tokenizer(tmp_path)


def test_missing_tokenizers_get_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder; expected vocab.txt"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no tokenizer in it; expected vocab.txt"):
        load_tokenizer(tmp_path)
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"2 \*.model files in it, name one"):
        load_tokenizer(tmp_path)


def test_damage_anywhere_in_a_model_is_no_traceback():
    model = train_tokenizer("bpe", SENTENCES, 100).__reduce__()[1][0]
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(50):
        damaged = bytearray(model)
        damaged[generator.integers(1500)] ^= 1 << generator.integers(8)
        try:
            SentencePieceTokenizer(bytes(damaged)).encode("the cat")
        except UserError:
            refused += 1
    assert refused > 0


def test_training_learns_words_of_its_corpus(trained):
    assert "[UNK]" not in pieces_of(trained, "the cat sat, on a mat")
    assert len(trained.encode("the")) == 1


def test_training_numbers_pieces_alike_in_every_process():
    # Hash tables, in Python and in the libraries, are ordered anew in each.
    code = (
        "from pydoc_data.topics import topics\n"
        "from spanbert_jax.data.tokenizer import train_tokenizer\n"
        "lines = [line for name in sorted(topics)[:30] for line in topics[name].split('\\n')]\n"
        "for kind in ('wordpiece', 'unigram', 'bpe'):\n"
        "    print(train_tokenizer(kind, lines, 500).fingerprint())\n"
    )
    root = pathlib.Path(__file__).parents[2]
    results = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(results) == 1
    assert len(set(results.pop().split())) == 3


def test_training_is_silent(capfd):
    for kind in ("wordpiece", "unigram", "bpe"):
        train_tokenizer(kind, iter(SENTENCES), 100)
    assert capfd.readouterr() == ("", "")


def test_training_draws_its_sample_from_the_whole_corpus():
    corpus = [f"{word} {word}" for word in ["alpha"] * 500 + ["omega"] * 500]
    tokenizer = train_tokenizer("wordpiece", corpus, 29, sentence_limit=50)
    again = train_tokenizer("wordpiece", corpus, 29, sentence_limit=50)
    assert tokenizer.fingerprint() == again.fingerprint()
    assert len(tokenizer.encode("alpha omega")) == 2


def test_rare_characters_do_not_fill_the_vocabulary():
    rare = "".join(chr(0x4E00 + number) for number in range(100))
    tokenizer = train_tokenizer("wordpiece", SENTENCES * 1000 + [rare], 100)
    assert pieces_of(tokenizer, "cat 一") == [*pieces_of(tokenizer, "cat"), "[UNK]"]


def test_long_sentences_are_learned_from():
    tokenizer = train_tokenizer("bpe", [" ".join(["zebra quagga"] * 1000)], 24)
    assert tokenizer.unk_id not in tokenizer.encode("zebra quagga")


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
@pytest.mark.parametrize(
    ("texts", "vocab_size", "message"),
    [
        ([], 100, "no text to train a .* tokenizer from"),
        (["", " \n"], 100, "no text to train a .* tokenizer from"),
        (SENTENCES, 100_000, r"--vocab_size=100000: the corpus gives (only|at most) \d+ pieces"),
        (SENTENCES, 10, r"--vocab_size=10: the characters of the corpus alone need \d+; ask for more"),
    ],
)
def test_training_that_cannot_be_gets_one_line(kind, texts, vocab_size, message):
    with pytest.raises(UserError, match=message) as error:
        train_tokenizer(kind, texts, vocab_size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
@pytest.mark.parametrize("asked", [100_000, 10])
def test_the_size_that_an_error_offers_can_be_had(kind, asked):
    with pytest.raises(UserError) as error:
        train_tokenizer(kind, SENTENCES, asked)
    offered = next(
        int(word.strip(";")) for word in str(error.value).split(": ")[1].split() if word.strip(";").isdigit()
    )
    assert train_tokenizer(kind, SENTENCES, offered).vocab_size == offered


def test_unknown_kinds_get_one_line():
    with pytest.raises(UserError, match=r"'wordpeice': expected one of .* \(did you mean wordpiece\?\)"):
        train_tokenizer("wordpeice", SENTENCES, 100)


@pytest.mark.realdata
@pytest.mark.skipif(not (DATA / "vocab" / "vocab.txt").exists(), reason="no BERT vocabulary")
def test_berts_cased_vocabulary():
    tokenizer = load_tokenizer(DATA / "vocab" / "vocab.txt")
    assert (tokenizer.vocab_size, tokenizer.padded_vocab_size) == (28_996, 29_056)
    specials = [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    assert specials == [0, 100, 101, 102, 103]
    assert np.flatnonzero(tokenizer.is_special).tolist() == [0, 101, 102, 103, *range(28_996, 29_056)]
    assert pieces_of(tokenizer, "Unaffable people, don't!") == [
        "Una", "##ff", "##able", "people", ",", "don", "'", "t", "!",
    ]  # fmt: skip
