"""How fast text becomes ids, beside the original SpanBERT's `pretraining/bpe_tokenize.py` on the same text and cores.

    python benchmarks/tokenization.py --reference_dir=SpanBERT [--vocab=vocab.txt] [--input=FILE] [--cores=1]
        [--json=FILE]

Each side runs in a fresh process pinned to the same cores, turn by turn, and is timed from reading its vocabulary to
the last byte of its output file: the original by its own `process` (pieces as text, from its own pool of processes),
ours as `prepare` tokenises (batches of sentences, one process a core, ids as bytes). Imports are not counted.

The original's script is run as it is. Its package's `__init__` imports PyTorch and its file helper boto3, and
tokenising uses neither: only its tokenization module is imported, beside empty stand-ins for boto3 where that is not
installed.
Its script knows vocabularies by name only, so "bert-base-cased" is pointed at --vocab.
"""

import ast
import importlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import re
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np
from absl import flags

from spanbert_jax import cli
from spanbert_jax.data.tokenizer import Tokenizer, load_tokenizer
from spanbert_jax.errors import UserError

_REFERENCE = flags.DEFINE_string("reference_dir", None, "Folder of the original's repository.", required=True)
_VOCAB = flags.DEFINE_string(
    "vocab", None, "BERT's cased vocab.txt, used by both sides; by default the pieces of the original's dict.txt."
)
_INPUT = flags.DEFINE_string("input", None, "Text, one sentence a line; by default Python's own documentation.")
_CORES = flags.DEFINE_integer("cores", 1, "Cores both sides are pinned to.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "File for the numbers and the machine they come from.")

ROUNDS = 3
CHUNK_CHARACTERS = 2**20  # what `prepare` hands to the tokenizer at once


def main(_: Sequence[str]) -> None:
    """Prints both speeds and their ratio."""
    allowed = sorted(os.sched_getaffinity(0))
    if _CORES.value > len(allowed):
        raise UserError(f"--cores={_CORES.value}: this machine gives {len(allowed)}; ask for at most that many")
    if not pathlib.Path(_REFERENCE.value, "pretraining", "bpe_tokenize.py").exists():
        raise UserError(
            f"--reference_dir={_REFERENCE.value}: no pretraining/bpe_tokenize.py there; clone SpanBERT's code"
        )
    if _INPUT.value and not pathlib.Path(_INPUT.value).is_file():
        raise UserError(f"--input={_INPUT.value}: no such file; give text with one sentence a line")
    cores = allowed[: _CORES.value]
    with tempfile.TemporaryDirectory() as folder:
        vocab = _VOCAB.value or _pieces_of_original(_REFERENCE.value, folder)
        tokenizer = load_tokenizer(vocab)
        text = pathlib.Path(folder, "text.txt")
        text.write_bytes(pathlib.Path(_INPUT.value).read_bytes() if _INPUT.value else _documentation())
        outputs = {"original": pathlib.Path(folder, "pieces.txt"), "ours": pathlib.Path(folder, "ids.bin")}
        seconds: dict[str, list[float]] = {"original": [], "ours": []}
        for _round in range(ROUNDS):
            arguments = (cores, vocab, str(text), str(outputs["original"]))
            seconds["original"].append(_in_fresh_process(_run_original, _REFERENCE.value, *arguments))
            arguments = (cores, vocab, str(text), str(outputs["ours"]))
            seconds["ours"].append(_in_fresh_process(_run_ours, *arguments))
        report = _report(text.read_bytes(), seconds, cores)
        report["identical_lines"] = _identical_lines(tokenizer, *outputs.values())
    print("            s (median)    MB/s    lines/s")
    for side in ("original", "ours"):
        row = report[side]
        print(f"{side:10} {row['seconds']:11.3f} {row['megabytes_per_second']:7.2f} {row['lines_per_second']:10.0f}")
    print(f"ratio {report['ratio']:.1f}; {report['identical_lines']:.2%} of the lines have the same pieces")
    if _JSON.value:
        pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + "\n")


def _pieces_of_original(reference_dir: str, folder: str) -> str:
    """Writes the pieces of the original's dict.txt (piece and count a line, in BERT's order) as a vocab.txt."""
    lines = pathlib.Path(reference_dir, "pretraining", "dict.txt").read_text(encoding="utf-8").splitlines()
    path = pathlib.Path(folder, "vocab.txt")
    path.write_text("\n".join(line.rpartition(" ")[0] for line in lines) + "\n", encoding="utf-8")
    return str(path)


def _documentation() -> bytes:
    """Returns Python's manual and the docstrings of its standard library, about 2 MB, so that no data is needed."""
    topics = importlib.import_module("pydoc_data.topics").topics
    texts = [topics[name] for name in sorted(topics)]
    library = pathlib.Path(ast.__file__).parent
    for path in sorted([*library.glob("*.py"), *library.glob("[!t]*/*.py")]):
        if path.parent.name != "site-packages":
            nodes = ast.walk(ast.parse(path.read_bytes()))
            documented = (node for node in nodes if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
            texts += [text for node in documented if (text := ast.get_docstring(node))]
    lines = [line.strip() for text in texts for line in text.split("\n") if line.strip()]
    return ("\n".join(lines) + "\n").encode()


def _in_fresh_process(function: Callable[..., float], *arguments: Any) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def _pin(cores: list[int]) -> None:
    os.sched_setaffinity(0, cores)
    # Workers that fork import nothing, and the original's modules, put together below, exist in memory only.
    multiprocessing.set_start_method("fork", force=True)


def _run_original(reference_dir: str, cores: list[int], vocab: str, text: str, output: str) -> float:
    _pin(cores)
    _import_original_tokenization(reference_dir, vocab)
    sys.path.insert(0, os.path.join(reference_dir, "pretraining"))
    script = importlib.import_module("bpe_tokenize")
    start = time.perf_counter()
    script.process(text, output)
    return time.perf_counter() - start


def _import_original_tokenization(reference_dir: str, vocab: str) -> None:
    if importlib.util.find_spec("boto3") is None:
        errors = types.ModuleType("botocore.exceptions")
        vars(errors)["ClientError"] = Exception
        sys.modules.update(
            {
                "boto3": types.ModuleType("boto3"),
                "botocore": types.ModuleType("botocore"),
                "botocore.exceptions": errors,
            }
        )
    package = types.ModuleType("pytorch_pretrained_bert")
    package.__path__ = [os.path.join(reference_dir, "code", "pytorch_pretrained_bert")]
    sys.modules["pytorch_pretrained_bert"] = package
    tokenization = importlib.import_module("pytorch_pretrained_bert.tokenization")
    tokenization.PRETRAINED_VOCAB_ARCHIVE_MAP["bert-base-cased"] = vocab
    for name in ("BertTokenizer", "BasicTokenizer"):
        vars(package)[name] = getattr(tokenization, name)


def _run_ours(cores: list[int], vocab: str, text: str, output: str) -> float:
    _pin(cores)
    start = time.perf_counter()
    tokenizer = load_tokenizer(vocab)
    with open(text, encoding="utf-8") as lines, open(output, "wb") as out:
        batches = _batches(lines, CHUNK_CHARACTERS // len(cores))
        if len(cores) == 1:
            out.writelines(_to_bytes(tokenizer, batch) for batch in batches)
        else:
            with ProcessPoolExecutor(len(cores), initializer=_set_tokenizer, initargs=(tokenizer,)) as executor:
                out.writelines(executor.map(_to_bytes_in_worker, batches))
    return time.perf_counter() - start


def _batches(lines: Iterable[str], characters: int) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for line in lines:
        batch.append(line.strip())
        size += len(line)
        if size >= characters:
            yield batch
            batch, size = [], 0
    yield batch


def _to_bytes(tokenizer: Tokenizer, sentences: list[str]) -> bytes:
    """Returns the ids of each sentence as int32, with -1 at its end."""
    return np.fromiter(
        itertools.chain.from_iterable((*ids, -1) for ids in tokenizer.encode_batch(sentences)), np.int32
    ).tobytes()


_worker_tokenizer: Tokenizer


def _set_tokenizer(tokenizer: Tokenizer) -> None:
    global _worker_tokenizer
    _worker_tokenizer = tokenizer


def _to_bytes_in_worker(sentences: list[str]) -> bytes:
    return _to_bytes(_worker_tokenizer, sentences)


def _identical_lines(tokenizer: Tokenizer, pieces_file: pathlib.Path, ids_file: pathlib.Path) -> float:
    """Returns the share of lines to which both sides gave the same pieces."""
    pieces = pieces_file.read_text(encoding="utf-8").split("\n")[:-1]
    ids = np.fromfile(ids_file, np.int32)
    ends = np.flatnonzero(ids < 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    ours = [" ".join(map(tokenizer.token, ids[start:end])) for start, end in zip(starts, ends, strict=True)]
    return sum(a == b for a, b in zip(pieces, ours, strict=True)) / len(ours)


def _report(text: bytes, seconds: dict[str, list[float]], cores: list[int]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for side, times in seconds.items():
        median = statistics.median(times)
        report[side] = {
            "seconds": median,
            "rounds": times,
            "megabytes_per_second": len(text) / 1e6 / median,
            "lines_per_second": text.count(b"\n") / median,
        }
    report["ratio"] = report["original"]["seconds"] / report["ours"]["seconds"]
    report["text"] = {"bytes": len(text), "lines": text.count(b"\n"), "default": _INPUT.value is None}
    report["machine"] = {
        "processor": _processor(),
        "cores_used": len(cores),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tokenizers": version("tokenizers"),
    }
    return report


def _processor() -> str:
    names = re.findall(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    cli.run(main)
