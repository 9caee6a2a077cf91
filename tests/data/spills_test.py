"""Tokenised chunks on disk."""

import numpy as np
import pytest

from spanbert_jax.data import spills
from spanbert_jax.data.corpus import Document
from spanbert_jax.data.spills import BlockedDocument, Sharding, chunk_documents, read_spill, spill_name, write_spill
from spanbert_jax.errors import UserError

SHARDING = Sharding(max_length=8, train_shards=3, heldout_fraction=0.25)
DTYPE = np.dtype("<u2")


class LetterTokenizer:
    """Gives every letter its alphabet number; only what a spill needs of a tokenizer."""

    padded_vocab_size = 128
    cls_id, sep_id = 100, 101
    is_word_start = np.ones(128, bool)

    def encode_batch(self, texts):
        return [[ord(letter) - 96 for letter in text] for text in texts]


DOCUMENTS = [Document(f"a/b#{i}", ["ab" * (i % 3), "c" * (i % 9), ""]) for i in range(40)]


@pytest.fixture
def spill(tmp_path):
    return tmp_path / write_spill(tmp_path, DOCUMENTS, LetterTokenizer(), SHARDING)


def sections(path):
    return [list(read_spill(path, shard, DTYPE)) for shard in range(4)]


def test_every_document_is_in_the_section_of_its_shard(spill):
    found = {d.identity: shard for shard, section in enumerate(sections(spill)) for d in section}
    assert found == {d.identity: SHARDING.shard_of(d.identity) for d in DOCUMENTS}
    assert set(found.values()) == {0, 1, 2, 3}


def test_a_document_reads_back_as_its_blocks_and_counts(spill):
    found = {d.identity: d for section in sections(spill) for d in section}
    document = found["a/b#7"]  # "abab"[:2], seven letters c, nothing: the second must be split at six
    assert document.tokens.tolist() == [100, 1, 2, 101, 100, *[3] * 6, 101, 100, 3, 101]
    assert document.block_lengths.tolist() == [4, 8, 3]
    assert (document.sentences, document.split_sentences, document.empty_sentences) == (2, 1, 1)
    assert len(found["a/b#0"].tokens) == 0


def test_where_a_document_goes_never_changes():
    identities = [f"corpus/file.txt#{i}" for i in range(8)]
    assert [Sharding(8, 16, 0.0).shard_of(identity) for identity in identities] == [12, 9, 11, 0, 7, 7, 9, 5]


def test_a_finished_chunk_is_not_tokenised_again(tmp_path, spill):
    assert write_spill(tmp_path, DOCUMENTS, None, SHARDING) == spill.name


def test_the_name_tells_texts_and_identities_apart():
    a, b = Document("x#0", ["ab", "c"]), Document("x#0", ["a", "bc"])
    names = {spill_name(chunk) for chunk in ([a], [b], [a, b], [b, a], [a._replace(identity="x#1")], [])}
    assert len(names) == 6
    assert spill_name([a]) == spill_name([Document("x#0", ["ab", "c"])])


def test_chunks_keep_the_order_and_stop_at_their_size():
    documents = [Document(f"x#{i}", ["a" * length]) for i, length in enumerate([3, 3, 9, 1, 1, 1])]
    chunks = list(chunk_documents(documents, characters=5))
    assert [[d.identity for d in chunk] for chunk in chunks] == [["x#0", "x#1"], ["x#2"], ["x#3", "x#4", "x#5"]]


def test_documents_sort_by_path_then_number():
    def key(identity, tokens=(1,)):
        return BlockedDocument(identity, np.zeros(0), np.array(tokens, "<u2"), 0, 0, 0).sort_key()

    identities = ["a#2", "a#10", "a.b#1", "b#0", "b#c#1"]
    assert sorted(set(identities), key=key) == identities
    assert key("a#1", (1,)) != key("a#1", (2,))


@pytest.mark.parametrize("place", [5, -1])
def test_a_damaged_spill_is_named(spill, place):
    data = bytearray(spill.read_bytes())
    data[place] ^= 0x40
    spill.write_bytes(bytes(data))
    with pytest.raises(UserError, match=f"{spill}: damaged on disk; delete it"):
        sections(spill)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spills.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_spill(tmp_path, DOCUMENTS, LetterTokenizer(), SHARDING)
    assert list(tmp_path.iterdir()) == []
