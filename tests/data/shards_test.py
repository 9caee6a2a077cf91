"""Prepared folders: what is refused, and the unigram."""

import errno
import json

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from spanbert_jax.data import shards
from spanbert_jax.data.shards import read_prepared
from spanbert_jax.errors import UserError
from tests.data.prepared_folder import LENGTH, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "prepared")


def test_reads_what_was_written(folder):
    prepared = read_prepared(folder, expected_length=LENGTH, expected_vocab_size=100)
    assert (prepared.max_length, prepared.vocab_size, prepared.padded_vocab_size) == (LENGTH, 100, 128)
    assert (prepared.tokenizer_kind, prepared.tokenizer_fingerprint) == ("wordpiece", "tiny")
    assert (prepared.rows("train"), prepared.rows("heldout")) == (9, 3)
    assert [shard.file for shard in prepared.split("train")] == [
        "train-00000-of-00002.array_record",
        "train-00001-of-00002.array_record",
    ]


def test_the_padded_size_of_the_vocabulary_is_not_its_size(folder):
    read_prepared(folder, expected_vocab_size=100)
    with pytest.raises(UserError, match=r"model\.vocab_size=128, but .* a vocabulary of 100 pieces"):
        read_prepared(folder, expected_vocab_size=128)


def test_unknown_keys_of_the_metadata_are_left_alone(tmp_path):
    assert read_prepared(write_folder(tmp_path / "a", colour="green")).metadata["colour"] == "green"


def test_a_disagreeing_length_names_both_flags(folder):
    with pytest.raises(UserError, match=r"data\.length=16, but the rows of .* have 8 slots; .* --max_length=16"):
        read_prepared(folder, expected_length=16)


def test_a_disagreeing_vocabulary_names_the_key(folder):
    with pytest.raises(UserError, match=r"model\.vocab_size=30522, but .* 100 pieces"):
        read_prepared(folder, expected_vocab_size=30522)


def test_a_truncated_shard_is_named(folder):
    path = folder / "train-00001-of-00002.array_record"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"shard {path} has .* bytes, expected"):
        read_prepared(folder)


@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_flipped_bit_is_found_at_start(folder, place):
    path = folder / "heldout-00000-of-00001.array_record"
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=f"shard {path} does not match its checksum"):
        read_prepared(folder)


def test_large_folders_are_hashed_only_when_asked(folder, monkeypatch):
    monkeypatch.setattr(shards, "_VERIFY_BYTES", 0)
    path = folder / "train-00000-of-00002.array_record"
    path.write_bytes(path.read_bytes()[::-1])
    read_prepared(folder)
    with pytest.raises(UserError, match="checksum"):
        read_prepared(folder, verify=True)


def test_a_missing_shard_is_named(folder):
    (folder / "train-00000-of-00002.array_record").unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00002.array_record is missing"):
        read_prepared(folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, r"data\.sources: .* is not there; run prepare"),
        (lambda path: path.mkdir(), "did not finish"),
        (lambda path: write_folder(path, format_version=99), "format version 99, expected 1"),
        (lambda path: write_folder(path, max_length="8"), "no valid 'max_length'"),
        (lambda path: write_folder(path, shards=[{"file": "x"}]), "is damaged"),
        (lambda path: write_folder(path, token_histogram=[1, 2]), "counts 2 tokens"),
        (lambda path: (write_folder(path) / "metadata.json").write_text("{"), "cannot be read"),
        (lambda path: (write_folder(path) / "metadata.json").write_text("[]"), "not a JSON object"),
    ],
)
def test_a_folder_that_is_not_prepared_is_refused(tmp_path, make, message):
    make(tmp_path / "a")
    with pytest.raises(UserError, match=message):
        read_prepared(tmp_path / "a")


def test_remote_folders_are_refused():
    with pytest.raises(UserError, match="gs://bucket/a is not a local folder"):
        read_prepared("gs://bucket/a")


def test_the_unigram_is_add_one_smoothed(tmp_path):
    histogram = [0] * 128
    histogram[10:13] = [7, 2, 1]
    prepared = read_prepared(write_folder(tmp_path / "a", token_histogram=histogram))
    p = np.exp(prepared.log_unigram)
    np.testing.assert_allclose(p[[10, 11, 12, 1, 127]], np.array([8, 3, 2, 1, 1]) / (10 + 128))
    np.testing.assert_allclose(p.sum(), 1)


def test_unigram_entropy_of_a_fair_die():
    assert np.isclose(shards.unigram_entropy(np.log(np.full(6, 1 / 6)), np.array([3, 3, 3, 3, 3, 3])), np.log(6))


def test_records_are_written_whole_or_not_at_all(tmp_path):
    def records():
        yield b"one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_records(tmp_path / "a", records())
    assert list(tmp_path.iterdir()) == []
    assert shards.write_records(tmp_path / "a", [b"one", b"two"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    reader = ArrayRecordReader(str(tmp_path / "a"))
    assert reader.read_all() == [b"one", b"two"]
    reader.close()


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ArrayRecordWriter", lambda path, options: _writer_on_a_full_disk(options))
    with pytest.raises(UserError, match="disk full while writing train-0; finished shards are kept"):
        shards.write_records(tmp_path / "train-0", [b"x" * 4096] * 100)


_real_writer = shards.ArrayRecordWriter


def _writer_on_a_full_disk(options):
    return _real_writer("/dev/full", options)


def test_a_full_disk_is_told_for_small_files_too(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.os, "replace", full)
    with pytest.raises(UserError, match=r"disk full while writing metadata\.json"):
        shards.write_json(tmp_path / "metadata.json", {})


def test_json_is_the_same_bytes_for_the_same_value(tmp_path):
    for name in ("a", "b"):
        shards.write_json(tmp_path / name, {"é": [1, 2.5], "x": None})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"é": [1, 2.5], "x": None}
