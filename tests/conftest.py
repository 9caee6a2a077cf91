"""What tests share: one compilation cache, and a tiny corpus prepared once."""

import os
import tempfile

# Set before JAX starts, and inherited by the processes that tests start: many of them compile the same tiny programs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="spanbert_jax_test_cache_"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import fsspec
import numpy as np
import pytest
from absl import flags
from fsspec.implementations.memory import MemoryFileSystem

from spanbert_jax.data.preparation import PrepareSettings, prepare

SUBJECTS = ("the cat", "a small dog", "my old friend", "the child", "every teacher", "no bird")
VERBS = ("sees", "likes", "follows", "remembers", "asks")
OBJECTS = ("the red house", "a long story", "some green apples", "the river", "an open door", "its own name")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "##s", "##ing")


def pytest_configure():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def vocabulary_file(tmp_path_factory):
    """A WordPiece vocabulary of the words of the tiny corpus."""
    words = sorted({word for phrase in (*SUBJECTS, *VERBS, *OBJECTS) for word in phrase.split()})
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join((*PIECES, *words)) + "\n")
    return path


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    """200 documents of a few sentences that a tiny grammar makes."""
    generator = np.random.default_rng(0)
    documents = [
        "\n".join(
            f"{generator.choice(SUBJECTS)} {generator.choice(VERBS)} {generator.choice(OBJECTS)} ."
            for _ in range(generator.integers(3, 9))
        )
        for _ in range(200)
    ]
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n\n".join(documents) + "\n")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, corpus_file, vocabulary_file):
    """The tiny corpus in rows of 32."""
    folder = tmp_path_factory.mktemp("prepared")
    settings = PrepareSettings(
        input=str(corpus_file),
        tokenizer=str(vocabulary_file),
        output_dir=str(folder / "rows"),
        max_length=32,
        format="sentences",
        heldout_fraction=0.1,
        shards=2,
        workers=1,
    )
    prepare(settings)
    return folder / "rows"


class FakeObjectStore(MemoryFileSystem):
    """An object store in memory: objects are written whole, appending to one is an error."""

    protocol = ("gs", "gcs")
    store: dict = {}  # noqa: RUF012 (fsspec's own name and form)
    pseudo_dirs: list = [""]  # noqa: RUF012

    def _open(self, path, mode="rb", **kwargs):
        if "a" in mode:
            raise NotImplementedError("objects cannot be appended to")
        return super()._open(path, mode, **kwargs)


@pytest.fixture
def object_store(monkeypatch):
    FakeObjectStore.store.clear()
    for protocol in ("gs", "gcs"):
        fsspec.register_implementation(protocol, FakeObjectStore, clobber=True)
    return "gs://bucket/run"
