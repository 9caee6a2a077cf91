import gzip
from pathlib import Path

import fsspec
import pytest
import zstandard
from etils.epath import backend as epath_backend
from fsspec.implementations.dirfs import DirFileSystem

from spanbert_jax.data.files import find_files, read_lines
from spanbert_jax.errors import UserError

TEXT = "One line.\r\n\nA naïve third.\nNo end"
LINES = ["One line.", "", "A naïve third.", "No end"]


def write(path: Path, data: bytes | str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.txt.gz", "deep/er/c.txt", ".hidden", "deep/.git/d.txt"):
        write(tmp_path / "corpus" / name, "x")
    return tmp_path / "corpus"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that answers to gs://bucket/..., as gcsfs would."""

    class Bucket(DirFileSystem):
        protocol = ("gs", "gcs")

        def _join(self, path):
            return super()._join(self._strip_protocol(path))

    store = Bucket(path=str(tmp_path / "store"), fs=fsspec.filesystem("file"))
    monkeypatch.setattr(epath_backend.fsspec_backend, "_get_filesystem", lambda name: store)
    write(tmp_path / "store" / "bucket" / "part" / "x.txt", "One.")
    write(tmp_path / "store" / "bucket" / "part" / "deep" / "y.txt.gz", gzip.compress(b"Two.\n"))
    return "gs://bucket"


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("", ["a.txt.gz", "b.txt", "deep/er/c.txt"]),
        ("/b.txt", ["b.txt"]),
        ("/deep/er/c.txt", ["c.txt"]),
        ("/*.txt*", ["a.txt.gz", "b.txt"]),
        ("/d*", ["deep/er/c.txt"]),
        ("/d*/er/?.txt", ["deep/er/c.txt"]),
        ("/**/*.txt", ["b.txt", "deep/er/c.txt"]),
    ],
)
def test_names_are_relative_to_what_was_given(folder, spec, names):
    found = find_files(f"{folder}{spec}")
    assert [name for _, name in found] == names
    assert all(Path(path).is_file() for path, _ in found)


def test_relative_patterns_start_here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_files("*.txt") == [("b.txt", "b.txt")]
    assert find_files("deep/*/c.txt") == [("deep/er/c.txt", "er/c.txt")]


@pytest.mark.parametrize("spec", ["/none.txt", "/*.none", "/empty", "/[", "/none/*"])
def test_nothing_found_is_told(folder, spec):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="--input=.*no such file"):
        find_files(f"{folder}{spec}")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.zip", "x.tgz", "x.bz2"])
def test_archives_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} is an archive; unpack it"):
        find_files(write(tmp_path / name, "x"))


def test_other_addresses_are_refused():
    with pytest.raises(UserError, match="--input=https://a/b: only local paths and gs://"):
        find_files("https://a/b")


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".zst", zstandard.compress),
        # Compressors that work in parallel, and cat, write several frames.
        (".gz", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
        (".zst", lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:])),
    ],
)
def test_lines_are_the_same_however_compressed(tmp_path, suffix, compress):
    path = write(tmp_path / f"x.txt{suffix}", compress(TEXT.encode("utf-8")))
    assert list(read_lines(path)) == LINES


def test_only_newlines_end_lines_and_a_byte_order_mark_is_dropped(tmp_path):
    path = write(tmp_path / "x.txt", "\ufeffOne\u2028two\x0cthree\x85four\nfive\n")
    assert list(read_lines(path)) == ["One\u2028two\x0cthree\x85four", "five"]


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
@pytest.mark.parametrize("damage", ["cut", "flipped", "not compressed"])
def test_damaged_compression_is_told(tmp_path, suffix, compress, damage):
    data = compress("".join(f"Line {i} of the text.\n" for i in range(5000)).encode())
    data = {"cut": data[:-20], "flipped": b"\0" + data[1:], "not compressed": b"plain text\n"}[damage]
    path = write(tmp_path / f"x{suffix}", data)
    with pytest.raises(UserError, match=rf"x\{suffix} is truncated or damaged"):
        list(read_lines(path))


def test_empty_files_hold_no_line(tmp_path):
    assert list(read_lines(write(tmp_path / "x.txt", ""))) == []
    assert list(read_lines(write(tmp_path / "x.gz", gzip.compress(b"")))) == []
    assert list(read_lines(write(tmp_path / "x.zst", zstandard.compress(b"")))) == []


def test_bytes_that_are_not_utf8_are_told(tmp_path):
    path = write(tmp_path / "x.txt", "fine\nna\u00efve\n".encode("latin1"))
    with pytest.raises(UserError, match=r"x\.txt, line 2: byte 0xef at column 3 is not UTF-8"):
        list(read_lines(path))


def test_binary_files_are_told(tmp_path):
    path = write(tmp_path / "x.bin", b"text\n\0\1\n")
    with pytest.raises(UserError, match=r"x\.bin, line 2: holds a zero byte"):
        list(read_lines(path))


def test_folders_are_no_files(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        list(read_lines(str(tmp_path)))


def test_object_stores_are_read_like_folders(bucket):
    assert find_files(bucket) == [
        ("gs://bucket/part/deep/y.txt.gz", "part/deep/y.txt.gz"),
        ("gs://bucket/part/x.txt", "part/x.txt"),
    ]
    assert find_files("gs://bucket/part/*.txt") == [("gs://bucket/part/x.txt", "x.txt")]
    assert find_files("gs://bucket/part/x.txt") == [("gs://bucket/part/x.txt", "x.txt")]
    assert list(read_lines("gs://bucket/part/x.txt")) == ["One."]
    assert list(read_lines("gs://bucket/part/deep/y.txt.gz")) == ["Two."]


@pytest.mark.parametrize(
    ("spec", "message"),
    [("gs://bucket/none", "no such file"), ("gs://bucket/**/x.txt", r"\*\* is not searched in an object store")],
)
def test_what_an_object_store_lacks_is_told(bucket, spec, message):
    with pytest.raises(UserError, match=message):
        find_files(spec)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("no gcsfs"), r"pip install 'spanbert_jax\[gcs\]'"),
        (RuntimeError("forbidden\nlong story"), "cannot read gs://b/x.txt: RuntimeError: forbidden$"),
    ],
)
def test_an_object_store_out_of_reach_is_told(monkeypatch, error, message):
    def refuse(name):
        raise error

    monkeypatch.setattr(epath_backend.fsspec_backend, "_get_filesystem", refuse)
    with pytest.raises(UserError, match=message):
        find_files("gs://b/x.txt")
