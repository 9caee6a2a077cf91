"""Text to prepared folders: what the rows hold, and that nothing but corpus and settings decides their bytes."""

import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from spanbert_jax.data import building, preparation, spills
from spanbert_jax.data.blocks import row_to_arrays
from spanbert_jax.data.preparation import prepare
from spanbert_jax.data.prepare_settings import PrepareSettings
from spanbert_jax.data.summary import describe
from spanbert_jax.errors import UserError

WORDS = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CLS, SEP = 2, 3
LENGTH = 16


def random_documents(seed, count):
    """Documents of sentences of words, some sentences longer than a row."""
    rng = random.Random(seed)
    return [
        [" ".join(rng.choices(WORDS, k=rng.choice([2, 3, 5, 8, 13, 30]))) for _ in range(rng.randint(1, 8))]
        for _ in range(count)
    ]


def write_documents(path, documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join("\n".join(sentences) for sentences in documents), encoding="utf-8")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Settings over three files and a given vocabulary, ready to be run into another output_dir."""
    root = tmp_path_factory.mktemp("base")
    for seed, name in enumerate(["a.txt", "b.txt", "c/d.txt"]):
        write_documents(root / "corpus" / name, random_documents(seed, 60))
    (root / "vocab.txt").write_text("\n".join(VOCABULARY))
    return PrepareSettings(
        input=str(root / "corpus"),
        tokenizer=str(root / "vocab.txt"),
        output_dir=str(root / "out"),
        max_length=LENGTH,
        format="sentences",
        heldout_fraction=0.2,
        shards=4,
        workers=1,
    )


@pytest.fixture(scope="module")
def finished(base):
    return prepare(base)


def read_rows(prepared, split):
    for shard in prepared.split(split):
        reader = ArrayRecordReader(str(prepared.path / shard.file))
        yield from (row_to_arrays(record, LENGTH) for record in reader.read_all())
        reader.close()


def read_blocks(prepared, split):
    for tokens, segments, _, _ in read_rows(prepared, split):
        for segment in range(1, segments.max() + 1):
            yield tuple(tokens[segments == segment].tolist())


def expected_blocks(documents):
    """The blocks of the definition, from text whose every word is one piece."""
    for sentences in documents:
        block = []
        for sentence in sentences:
            ids = [VOCABULARY.index(word) for word in sentence.split()]
            for piece in (ids[i : i + LENGTH - 2] for i in range(0, len(ids), LENGTH - 2)):
                if len(block) + len(piece) > LENGTH - 2:
                    yield (CLS, *block, SEP)
                    block = []
                block = block + piece
        yield (CLS, *block, SEP)


def all_documents():
    return list(itertools.chain.from_iterable(random_documents(seed, 60) for seed in range(3)))


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def test_rows_hold_the_blocks_of_every_document(finished):
    found = Counter(itertools.chain(read_blocks(finished, "train"), read_blocks(finished, "heldout")))
    assert found == Counter(expected_blocks(all_documents()))


def test_counts_are_those_of_the_text(finished):
    documents = all_documents()
    sentences = [len(sentence.split()) for sentences in documents for sentence in sentences]
    splits = finished.metadata["splits"]
    total = {name: splits["train"][name] + splits["heldout"][name] for name in splits["train"]}
    assert total["documents"] == len(documents)
    assert total["sentences"] == len(sentences)
    assert total["split_sentences"] == sum(length > LENGTH - 2 for length in sentences)
    assert total["tokens"] == sum(sentences) + 2 * total["blocks"]
    assert total["rows"] == sum(shard.rows for shard in finished.shards)
    for name, split in splits.items():
        filled = [(segments > 0).mean() for _, segments, _, _ in read_rows(finished, name)]
        assert split["fill"] == pytest.approx(np.mean(filled))
    assert 0.05 < splits["heldout"]["documents"] / len(documents) < 0.4


def test_the_histogram_counts_the_training_text_without_its_frame(finished):
    expected = Counter(token for block in read_blocks(finished, "train") for token in block[1:-1])
    assert {token: count for token, count in enumerate(finished.histogram) if count} == expected
    assert len(finished.histogram) == finished.padded_vocab_size == 256


def test_packed_rows_are_fuller_than_one_block_a_row(base, finished, tmp_path):
    single = prepare(replace(base, output_dir=str(tmp_path / "single"), nopack=True))
    counts = single.metadata["splits"]["train"]
    assert counts["rows"] == counts["blocks"]
    assert all(segments.max() == 1 for _, segments, _, _ in read_rows(single, "train"))
    assert Counter(read_blocks(single, "train")) == Counter(read_blocks(finished, "train"))
    assert counts["fill"] < finished.metadata["splits"]["train"]["fill"]


def test_any_number_of_workers_gives_the_same_bytes(base, finished, tmp_path):
    prepare(replace(base, output_dir=str(tmp_path / "out"), workers=3))
    assert files(tmp_path / "out") == files(base.output_dir)


def test_the_place_of_the_corpus_decides_nothing(base, finished, tmp_path):
    shutil.copytree(base.input, tmp_path / "elsewhere" / "corpus")
    prepare(replace(base, input=str(tmp_path / "elsewhere" / "corpus"), output_dir=str(tmp_path / "out")))
    assert files(tmp_path / "out") == files(base.output_dir)


def test_the_seed_decides_the_order_of_rows_and_nothing_else(base, finished, tmp_path):
    other = prepare(replace(base, output_dir=str(tmp_path / "out"), seed=1))
    for split in ("train", "heldout"):
        rows, others = ([row[0].tolist() for row in read_rows(p, split)] for p in (finished, other))
        assert rows != others
        assert sorted(rows) == sorted(others)


def test_a_finished_folder_is_left_as_it_is(base, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in Path(base.output_dir).iterdir()}
    assert prepare(base).shards == finished.shards
    assert "is already prepared with these settings" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in Path(base.output_dir).iterdir()} == before


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"max_length": 32}, "--max_length was 16, now it is 32"),
        ({"seed": 5}, "--seed was 0, now it is 5"),
        ({"nopack": True}, "--nopack was False, now it is True"),
        ({"tokenizer": "wordpiece"}, "--tokenizer was"),
    ],
)
def test_a_folder_of_other_settings_is_refused(base, finished, change, flag):
    with pytest.raises(UserError, match=f"{flag}.*; use another --output_dir or delete this one"):
        prepare(replace(base, **change))


def command(settings):
    given = {name: value for name, value in vars(settings).items() if name != "nopack"}
    return [sys.executable, "-m", "spanbert_jax.prepare", *(f"--{name}={value}" for name, value in given.items())]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(base, tmp_path):
    many = replace(base, shards=96)
    prepare(replace(many, output_dir=str(tmp_path / "whole")))
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(replace(many, output_dir=str(killed))), stderr=subprocess.DEVNULL)
    while process.poll() is None and not (killed / "tmp/notes/train-00003-of-00096.array_record.json").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "metadata.json").exists()
    kept = {path.name: path.stat().st_ino for path in sorted(killed.glob("train-*.array_record"))[:4]}
    assert len(kept) == 4
    (killed / "train-00090-of-00096.array_record.123.partial").write_bytes(b"half a shard")
    with pytest.raises(UserError, match="--seed was 0, now it is 1"):
        prepare(replace(many, output_dir=str(killed), seed=1))
    prepare(replace(many, output_dir=str(killed)))
    assert files(killed) == files(tmp_path / "whole")
    assert {name: (killed / name).stat().st_ino for name in kept} == kept
    assert not (killed / "tmp").exists()


def interrupt_after(monkeypatch, module, name, calls):
    """Lets a function of a module run `calls` times, then interrupts as Ctrl-C would."""
    real, left = getattr(module, name), [calls]

    def interrupted(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, name, interrupted)


def test_tokenised_chunks_are_kept(base, finished, tmp_path, monkeypatch):
    settings = replace(base, output_dir=str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, spills, "write_spill", 2)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings)
    assert len(list((tmp_path / "out/tmp/spills").glob("*.spill"))) == 2
    encoded = []
    real = spills._document_bytes
    monkeypatch.setattr(spills, "_document_bytes", lambda *args: encoded.append(args[0]) or real(*args))
    prepare(settings)
    assert 0 < len(encoded) < 100
    assert files(tmp_path / "out") == files(base.output_dir)


def test_a_corpus_that_changed_since_the_kill_is_read_anew(base, tmp_path, monkeypatch):
    shutil.copytree(base.input, tmp_path / "corpus")
    settings = replace(base, input=str(tmp_path / "corpus"), output_dir=str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, building, "_histogram", 3)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings)
    write_documents(tmp_path / "corpus" / "b.txt", random_documents(9, 60))
    prepare(settings)
    prepare(replace(settings, output_dir=str(tmp_path / "fresh")))
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


def test_a_shard_damaged_since_the_kill_is_built_anew(base, finished, tmp_path, monkeypatch):
    settings = replace(base, output_dir=str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, building, "_histogram", 3)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings)
    (tmp_path / "out/train-00000-of-00004.array_record").write_bytes(b"damaged")
    (tmp_path / "out/tmp/notes/train-00001-of-00004.array_record.json").write_text("{")
    prepare(settings)
    assert files(tmp_path / "out") == files(base.output_dir)


def settings_with_training(tmp_path):
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 7))) for _ in range(2500)]
    documents = [[" ".join(rng.choices(words, k=8)) for _ in range(4)] for _ in range(400)]
    write_documents(tmp_path / "corpus.txt", documents)
    return PrepareSettings(
        input=str(tmp_path / "corpus.txt"),
        tokenizer="wordpiece",
        output_dir=str(tmp_path / "out"),
        max_length=LENGTH,
        vocab_size=2048,
        shards=2,
        workers=1,
    )


def test_a_trained_tokenizer_is_part_of_the_folder(tmp_path):
    settings = settings_with_training(tmp_path)
    prepared = prepare(settings)
    assert prepared.vocab_size == prepared.padded_vocab_size == 2048
    assert (tmp_path / "out/tokenizer.json").exists()
    # A folder that holds a tokenizer is a tokenizer, and gives the same rows.
    again = prepare(replace(settings, tokenizer=str(tmp_path / "out"), output_dir=str(tmp_path / "again")))
    assert [shard.sha256 for shard in again.shards] == [shard.sha256 for shard in prepared.shards]
    with pytest.raises(UserError, match="--vocab_size was 2048, now it is 3000"):
        prepare(replace(settings, vocab_size=3000))


def test_a_tokenizer_learns_from_the_training_split_alone(tmp_path, monkeypatch):
    settings = replace(settings_with_training(tmp_path), heldout_fraction=0.3)
    learned = []
    real = preparation.train_tokenizer

    def train(kind, texts, vocab_size):
        learned.extend(texts)
        return real(kind, learned, vocab_size)

    monkeypatch.setattr(preparation, "train_tokenizer", train)
    prepared = prepare(settings)
    assert len(learned) == prepared.metadata["splits"]["train"]["sentences"] < 1300


def test_a_tokenizer_of_text_that_changed_since_the_kill_is_refused(tmp_path, monkeypatch):
    settings = settings_with_training(tmp_path)
    with monkeypatch.context() as patch:
        interrupt_after(patch, building, "_histogram", 1)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings)
    with (tmp_path / "corpus.txt").open("a") as file:
        file.write("\n\nOne more.")
    with pytest.raises(UserError, match="the corpus has changed since its tokenizer was trained"):
        prepare(settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "/no/such/file.txt"}, "/no/such/file.txt"),
        ({"tokenizer": "/no/such/vocab.txt"}, "/no/such/vocab.txt"),
        ({"max_length": 2}, "--max_length=2: no sentence fits"),
        ({"heldout_fraction": 1.0}, "--heldout_fraction=1.0"),
        ({"tokenizer": "wordpeice"}, r"--tokenizer=wordpeice: .*did you mean wordpiece\?"),
        ({"shards": 0}, "--shards=0"),
        ({"workers": -1}, "--workers=-1"),
        ({"tokenizer": "bpe", "vocab_size": 100}, "--vocab_size=100: expected at least 2048"),
        ({"output_dir": "gs://bucket/out"}, "--output_dir=gs://bucket/out: .* local"),
        ({"heldout_fraction": 0.999999}, "all 180 documents fell to the held-out split"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(base, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        prepare(replace(base, **{"output_dir": str(tmp_path / "out")} | change))


@pytest.mark.parametrize("tokenizer", [None, "wordpiece"])
def test_an_empty_corpus_is_refused(base, tmp_path, tokenizer):
    (tmp_path / "empty.txt").write_text("\n\n  \n")
    settings = replace(base, input=str(tmp_path / "empty.txt"), output_dir=str(tmp_path / "out"))
    with pytest.raises(UserError, match="holds no text"):
        prepare(replace(settings, tokenizer=tokenizer) if tokenizer else settings)


def test_a_corpus_without_a_token_is_refused(base, tmp_path):
    (tmp_path / "marks.txt").write_text("\u200b\u200b\n\u200d\n")
    with pytest.raises(UserError, match="holds a token"):
        prepare(replace(base, input=str(tmp_path / "marks.txt"), output_dir=str(tmp_path / "out")))


def test_a_vocabulary_without_mask_is_refused(base, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(piece for piece in VOCABULARY if piece != "[MASK]"))
    with pytest.raises(UserError, match=r"\[MASK\]"):
        prepare(replace(base, tokenizer=str(tmp_path / "vocab.txt"), output_dir=str(tmp_path / "out")))


def test_a_folder_with_foreign_shards_is_refused(base, tmp_path):
    (tmp_path / "train-00000-of-00001.array_record").write_bytes(b"")
    with pytest.raises(UserError, match="holds shards of unknown settings"):
        prepare(replace(base, output_dir=str(tmp_path)))


def test_an_output_dir_that_is_a_file_is_refused(base, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/file: cannot be used"):
        prepare(replace(base, output_dir=str(tmp_path / "file")))


def test_two_preparations_do_not_meet_in_a_folder(base, tmp_path, monkeypatch):
    settings = replace(base, output_dir=str(tmp_path / "out"))

    def meanwhile(task):
        with pytest.raises(UserError, match="another prepare is at work in it"):
            prepare(settings)
        raise UserError("seen")

    monkeypatch.setattr(preparation, "build_or_keep", meanwhile)
    with pytest.raises(UserError, match="seen"):
        prepare(settings)


def test_a_full_disk_keeps_finished_shards(base, finished, tmp_path, monkeypatch):
    settings = replace(base, output_dir=str(tmp_path / "out"))

    def full(path, records):
        if "00002" in path.name:
            raise UserError("disk full")
        return real(path, records)

    real = building.write_records
    with monkeypatch.context() as patch:
        patch.setattr(building, "write_records", full)
        with pytest.raises(UserError, match="disk full"):
            prepare(settings)
    kept = (tmp_path / "out/train-00000-of-00004.array_record").stat().st_ino
    prepare(settings)
    assert (tmp_path / "out/train-00000-of-00004.array_record").stat().st_ino == kept
    assert files(tmp_path / "out") == files(base.output_dir)


def test_nothing_but_the_corpus_and_the_settings_is_in_the_metadata(base, finished):
    text = json.dumps(finished.metadata)
    assert str(Path(base.output_dir).parent) not in text


def test_the_summary_names_what_a_user_asks_for(finished):
    lines = {line.split("  ")[0].strip(): line for line in describe(finished).splitlines()}
    train = finished.metadata["splits"]["train"]
    assert f"{train['rows']:,}" in lines["rows"]
    assert f"{train['fill']:.2%}" in lines["share of slots filled"]
    assert "sentences split, being longer than a row" in lines


def test_other_text_under_the_same_name_is_not_what_was_prepared(tmp_path, vocabulary_file):
    text = tmp_path / "text.txt"
    text.write_text("the cat sees the house .\n\nthe dog likes the river .\n")
    settings = PrepareSettings(
        input=str(text), tokenizer=str(vocabulary_file), output_dir=str(tmp_path / "rows"), max_length=16, workers=1
    )
    prepare(settings)
    prepare(settings)
    text.write_text("the cat sees the house .\n\nthe dog likes my river .\n")
    with pytest.raises(UserError, match="was prepared from other text: the files of --input have changed"):
        prepare(settings)


def test_a_mistake_leaves_the_folder_free_for_another_try(tmp_path, vocabulary_file):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "text.txt").write_text("the cat sees the house .\n\nthe dog likes the river .\n")
    for name, fails in (("empty.txt", True), ("text.txt", False)):
        settings = PrepareSettings(
            input=str(tmp_path / name),
            tokenizer=str(vocabulary_file),
            output_dir=str(tmp_path / "rows"),
            max_length=16,
            workers=1,
        )
        with pytest.raises(UserError, match="no text") if fails else contextlib.nullcontext():
            prepare(settings)
