"""Text files wherever they lie: found by path, folder, glob or gs:// address, decompressed and decoded in a stream."""

import contextlib
import glob
import gzip
import io
import os
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import zstandard
from etils import epath

from spanbert_jax.errors import UserError

_COMPRESSIONS = (".gz", ".zst")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip", ".bz2", ".xz", ".7z")
_WILDCARDS = frozenset("*?[")


def bare_name(name: str) -> str:
    """The name without its compression's suffix."""
    return name.removesuffix(".gz").removesuffix(".zst")


def find_files(spec: str) -> list[tuple[str, str]]:
    """Files that a path, folder (recursively, hidden names left out), glob or gs:// address names.

    Returns (path, name relative to the folder given or to the deepest folder without a wildcard), sorted by name.
    Raises UserError when there is none.
    """
    if "://" in spec and not spec.startswith("gs://"):
        raise UserError(f"--input={spec}: only local paths and gs:// addresses are read")
    with _told_in_one_line(spec):
        found = _find(spec if spec.startswith("gs://") else os.path.expanduser(spec))
    if not found:
        raise UserError(f"--input={spec}: no such file, and no folder or pattern with files in it; check the spelling")
    for path, _ in found:
        if path.endswith(_ARCHIVES):
            raise UserError(f"--input: {path} is an archive; unpack it, or compress each text file by gzip or zstd")
    return sorted(found, key=lambda item: item[1])


def _find(spec: str) -> list[tuple[str, str]]:
    path = epath.Path(spec)
    if path.is_dir():
        return list(_walk(path, ""))
    if path.exists():
        return [(spec, path.name)]
    if _WILDCARDS.isdisjoint(spec):
        return []
    parts = spec.split("/")
    first = next(i for i, part in enumerate(parts) if not _WILDCARDS.isdisjoint(part))
    root = "/".join(parts[:first]) or ("/" if spec.startswith("/") else "")
    found: dict[str, str] = {}
    for match in _glob(spec):
        name = posixpath.relpath(match, root or ".")
        found.update(_walk(epath.Path(match), f"{name}/") if epath.Path(match).is_dir() else [(match, name)])
    return list(found.items())


def _glob(pattern: str) -> list[str]:
    if not pattern.startswith("gs://"):
        return sorted(glob.glob(pattern, recursive=True))
    if "**" in pattern:
        raise UserError(
            f"--input={pattern}: ** is not searched in an object store; give the folder, which is read deeply"
        )
    bucket, _, rest = pattern.removeprefix("gs://").partition("/")
    return sorted(map(os.fspath, epath.Path(f"gs://{bucket}").glob(rest)))


def _walk(folder: epath.Path, prefix: str) -> Iterator[tuple[str, str]]:
    for child in folder.iterdir():
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _walk(child, f"{prefix}{child.name}/")
        else:
            yield os.fspath(child), prefix + child.name


@contextlib.contextmanager
def _told_in_one_line(path: str) -> Iterator[None]:
    """Turns what file systems and decompressors raise into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path} needs a package that is not installed: pip install 'spanbert_jax[gcs]'") from error
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); copy or compress it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        if not path.startswith("gs://"):
            raise
        # Object stores' clients raise errors of their own for what is missing or forbidden.
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"cannot read {path}: {type(error).__name__}: {reason}") from error


class _ZstdReader(io.RawIOBase):
    """zstandard's own stream reader takes a truncated file for its end, which would lose text silently."""

    def __init__(self, raw: IO[bytes]):
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._inside_frame = False
        self._text = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text:
            compressed = self._frame.unused_data or self._raw.read(1 << 17)
            if not compressed:
                if self._inside_frame:
                    raise EOFError("the compressed file ended before the end of its last frame")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._text = self._frame.decompress(compressed)
            self._inside_frame = not self._frame.eof
        count = min(len(buffer), len(self._text))
        buffer[:count] = self._text[:count]
        self._text = self._text[count:]
        return count


@contextlib.contextmanager
def _open(path: str) -> Iterator[Iterable[bytes]]:
    with contextlib.ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(epath.Path(path).open("rb"))
        if path.endswith(".gz"):
            yield stack.enter_context(gzip.GzipFile(fileobj=raw, mode="rb"))
        elif path.endswith(".zst"):
            yield stack.enter_context(io.BufferedReader(_ZstdReader(raw), 1 << 17))
        else:
            yield raw


def read_lines(path: str) -> Iterator[str]:
    """Lines of a UTF-8 text file, without their ends; a byte order mark is dropped.

    Raises UserError that names the file, and the line for a byte that is not UTF-8, when the file cannot be read whole.
    """
    with _told_in_one_line(path), _open(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: byte 0x{raw[error.start]:02x} at column {error.start + 1} is not UTF-8; "
                    "convert the file, for instance by iconv -f latin1 -t utf-8"
                ) from error
            if number == 1:
                line = line.removeprefix("\ufeff")
            if "\0" in line:
                raise UserError(
                    f"{path}, line {number}: holds a zero byte, so it is not a text file; leave it out of --input"
                )
            yield line.rstrip("\r\n")
