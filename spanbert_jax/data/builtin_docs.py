"""The corpus that every installation already holds: the English documentation of Python and of the pinned packages.

Sources are parsed, never imported: reading documentation executes nothing.
"""

import ast
import contextlib
import functools
import gc
import importlib.util
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from spanbert_jax.data.docstring_prose import prose
from spanbert_jax.data.sentences import words
from spanbert_jax.errors import UserError

# Direct dependencies in requirements.txt, fixed here so that an extra installed beside them changes nothing.
PACKAGES = (
    "absl",
    "array_record",
    "etils",
    "flax",
    "fsspec",
    "grain",
    "jax",
    "matplotlib",
    "ml_collections",
    "numpy",
    "optax",
    "orbax",
    "_pytest",
    "rich",
    "scipy",
    "sentencepiece",
    "tensorboardX",
    "tensorflow_datasets",
    "tokenizers",
    "zstandard",
)
# Tests and generated or vendored code document nothing a reader would look up.
_SKIPPED_FOLDERS = words(
    "__pycache__ site-packages dist-packages test tests testing _tests idle_test lib2to3 ensurepip encodings onnx "
    "proto typeshed"
)
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _python_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in files:
            if name.endswith(".py") and not name.startswith("test_") and not name.endswith(("_test.py", "_pb2.py")):
                yield Path(parent, name)


def _roots() -> Iterator[tuple[str, Path]]:
    yield "python", Path(sysconfig.get_path("stdlib"))
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"builtin:docs is made from the documentation of {package}, among others, which is not installed: "
                "run pip install -r requirements.txt, or give --input your own text"
            )
        for folder in spec.submodule_search_locations:
            yield package, Path(folder)


def _docstrings(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, _Definition):
            if documentation := ast.get_docstring(node, clean=False):
                yield documentation
            yield from _docstrings(node.body)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _docstrings(node.body)


def _parse(source: bytes) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _topics(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The entries of pydoc's table of topics, a dictionary of literals."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from sorted(ast.literal_eval(node.value).items())


def _documentation() -> Iterator[tuple[str, list[str]]]:
    """Names and documentation texts of every module and topic that has some, in the order of their files' names."""
    files = sorted(
        (f"{package}/{path.relative_to(root).as_posix()}", path)
        for package, root in _roots()
        for path in _python_files(root)
    )
    for name, path in files:
        source = path.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            continue
        tree = _parse(source)
        if tree is None:
            continue
        if name == "python/pydoc_data/topics.py":
            yield from ((f"python/topics/{topic}", [text]) for topic, text in _topics(tree))
            continue
        module = ast.get_docstring(tree, clean=False)
        yield name, [*([module] if module else []), *_docstrings(tree.body)]


@contextlib.contextmanager
def _quick_parsing() -> Iterator[None]:
    """Syntax trees hold no cycles, and looking for them takes half the time; other people's escapes are no news."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if collecting:
            gc.enable()


@functools.cache
def builtin_documents() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names and sentences of all documents, each paragraph only where it stands first.

    Packages repeat each other's docstrings word for word, which would carry training text into the held-out split.
    Takes about ten seconds the first time. Raises UserError when one of `PACKAGES` is not installed.
    """
    seen: set[tuple[str, ...]] = set()
    documents = []
    with _quick_parsing():
        for name, texts in _documentation():
            sentences: list[str] = []
            for paragraph in (tuple(sentences) for text in texts for sentences in prose(text)):
                if paragraph not in seen:
                    seen.add(paragraph)
                    sentences.extend(paragraph)
            if sentences:
                documents.append((name, tuple(sentences)))
    return tuple(documents)
