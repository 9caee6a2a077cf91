import gzip
import itertools
import json
import os
import pickle
from collections import Counter
from pathlib import Path

import pytest

from spanbert_jax.data import corpus as corpus_room
from spanbert_jax.data import tfds_text
from spanbert_jax.data.corpus import Document, is_heldout, open_corpus, read_source
from spanbert_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    files = {
        "a/x.txt": "One is here.\nTwo is here.\n\nThree is here.",
        "b/x.txt": "Four is here.\n",
        "b/deep/y.jsonl": '{"text": "Five is here. Six is here."}\n{"text": " "}\n{"text": "Seven"}',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_of_files(folder):
    corpus = open_corpus(str(folder))
    assert list(corpus) == [
        Document("a/x.txt#0", ["One is here.", "Two is here."]),
        Document("a/x.txt#1", ["Three is here."]),
        Document("b/deep/y.jsonl#0", ["Five is here.", "Six is here."]),
        Document("b/deep/y.jsonl#2", ["Seven"]),
        Document("b/x.txt#0", ["Four is here."]),
    ]
    assert corpus.counts == {"documents": 5, "empty_documents": 1}
    assert corpus.formats == {str(folder): "jsonl+sentences"}


def test_identities_do_not_depend_on_where_a_corpus_lies(folder, tmp_path, monkeypatch):
    identities = [document.identity for document in open_corpus(f"{folder}/b")]
    monkeypatch.chdir(folder)
    assert [document.identity for document in open_corpus("b")] == identities
    assert [document.identity for document in open_corpus("./b/")] == identities


def test_sources_read_alone_and_pickled_give_the_whole(folder):
    corpus = open_corpus(str(folder))
    counts: Counter[str] = Counter()
    parts = [list(read_source(pickle.loads(pickle.dumps(source)), counts)) for source in corpus.sources]
    assert len(parts) == 3
    assert list(itertools.chain(*parts)) == list(pickle.loads(pickle.dumps(corpus)))
    assert counts == {"documents": 5, "empty_documents": 1}


def test_names_that_collide_are_told_apart(folder):
    corpus = open_corpus(f"{folder}/a,{folder}/b/*.txt,{folder}/b/deep")
    assert [document.identity for document in corpus] == [
        "0:x.txt#0",
        "0:x.txt#1",
        "1:x.txt#0",
        "y.jsonl#0",
        "y.jsonl#2",
    ]


@pytest.mark.parametrize("inputs", ["{0}/a,{0}/a/x.txt", "{0}/a/x.txt,{0}/a/../a/x.txt", "builtin:docs,builtin:docs"])
def test_a_text_named_twice_is_told(folder, inputs):
    with pytest.raises(UserError, match="is named 2 times"):
        open_corpus(inputs.format(folder))


def test_a_given_format_is_not_guessed(folder):
    path = folder / "a" / "x.txt"
    corpus = open_corpus(str(path), format="prose")
    assert [document.sentences for document in corpus] == [["One is here.", "Two is here.", "Three is here."]]


def test_alike_files_are_read_alike(tmp_path):
    # By itself the second file would be taken for one document a line.
    (tmp_path / "1.txt").write_text("One is here.\nTwo is here.\n", encoding="utf-8")
    (tmp_path / "2.txt.gz").write_bytes(gzip.compress(b"One. Two. Three.\nFour. Five. Six.\n"))
    (tmp_path / "0.txt").write_text("\n", encoding="utf-8")
    assert open_corpus(str(tmp_path)).formats == {str(tmp_path): "sentences"}


def test_the_text_field_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"body": "One.", "text": "no"}', encoding="utf-8")
    assert list(open_corpus(str(path), text_field="body")) == [Document("x.jsonl#0", ["One."])]


def test_description_is_json_and_holds_what_was_typed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert json.loads(json.dumps(open_corpus("a, b").describe())) == {
        "input": ["a", "b"],
        "format": "auto",
        "formats": {"a": "sentences", "b": "jsonl+sentences"},
        "text_field": "text",
        "sources": 3,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input": ""}, "--input='': expected paths"),
        ({"input": "a,,b"}, "--input='a,,b': expected paths"),
        ({"input": "/no/such/file"}, "--input=/no/such/file: no such file"),
        ({"input": "builtin:doc"}, r"--input=builtin:doc: expected builtin:docs \(did you mean builtin:docs\?\)"),
        ({"input": "tfds:x"}, "--input=tfds:x: expected tfds:NAME:SPLIT"),
        ({"input": "a", "format": "wikipedia"}, r"--format=wikipedia: expected one of auto.*\(did you mean wiki\?\)"),
    ],
)
def test_inputs_that_cannot_be_opened_are_told(arguments, message):
    with pytest.raises(UserError, match=message):
        open_corpus(**arguments)


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_an_empty_corpus_is_told_when_it_has_been_read(tmp_path, text):
    path = tmp_path / "x.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"--input=.*x\.txt: the corpus holds no text"):
        list(open_corpus(str(path)))


def test_tfds_splits_are_cut_into_sources(monkeypatch):
    class Examples(list):
        """Stands for a TFDS split, which `tfds_text` tests read for real."""

    examples = Examples({"text": f"Document {i} is here.".encode()} for i in range(5))
    monkeypatch.setattr(tfds_text, "open_split", lambda spec: examples)
    monkeypatch.setattr(tfds_text, "check_text", lambda spec, text_field: None)
    monkeypatch.setattr(corpus_room, "_TFDS_CHUNK", 2)
    corpus = open_corpus("tfds:a/b:train@/data")
    assert [(source.start, source.stop) for source in corpus.sources] == [(0, 2), (2, 4), (4, 5)]
    assert list(corpus) == [Document(f"a/b:train#{i}", [f"Document {i} is here."]) for i in range(5)]


def test_the_builtin_corpus_is_a_source(monkeypatch):
    monkeypatch.setattr(corpus_room, "builtin_documents", lambda: (("p/m.py", ("One.", "Two.")),))
    assert list(open_corpus("builtin:docs")) == [Document("p/m.py#0", ["One.", "Two."])]


def test_held_out_documents_stay_held_out():
    identities = [f"x.txt#{i}" for i in range(20_000)]
    held = {f: {i for i in identities if is_heldout(i, f)} for f in (0.0, 0.01, 0.05, 1.0)}
    assert not held[0.0]
    assert len(held[1.0]) == 20_000
    assert held[0.01] < held[0.05]
    # Binomial, 20,000 draws: four standard deviations of 30.8 at 0.05.
    assert abs(len(held[0.05]) - 1_000) < 124
    # The same on any machine and for good.
    assert [i for i in identities[:60] if is_heldout(i, 0.05)] == ["x.txt#3", "x.txt#45", "x.txt#53", "x.txt#57"]


def real_data(name: str) -> str:
    root = Path(os.environ.get("SPANBERT_DATA") or Path(__file__).parents[3] / "shared" / "data")
    path = root / "corpora" / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return str(path)


@pytest.mark.realdata
def test_extracted_wikipedia():
    corpus = open_corpus(real_data("wiki_en_2015/AA.txt.gz"))
    documents = list(itertools.islice(corpus, 50))
    assert list(corpus.formats.values()) == ["wiki"]
    assert documents[0].identity == "AA.txt.gz#0"
    assert documents[0].sentences[0] == "Anarchism"
    assert (
        documents[0].sentences[1].startswith("Anarchism is a political philosophy that advocates stateless societies")
    )
    sentences = [sentence for document in documents for sentence in document.sentences]
    assert len(sentences) > 5_000
    assert 80 < sum(map(len, sentences)) / len(sentences) < 180
    assert sum(s[-1] in '.!?:")' for s in sentences) > 0.95 * len(sentences)


@pytest.mark.realdata
def test_news_in_json_lines():
    corpus = open_corpus(real_data("wikinews_en.jsonl.gz"))
    documents = list(itertools.islice(corpus, 200))
    assert list(corpus.formats.values()) == ["jsonl"]
    sentences = [sentence for document in documents for sentence in document.sentences]
    assert (
        "Some Brazilian ministers were present at the event: (Economy), (), (Agriculture)" in documents[0].sentences[2]
    )
    assert 60 < sum(map(len, sentences)) / len(sentences) < 180
