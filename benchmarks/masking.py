"""Rows per second of span masking, ours and the original's, on one core.

    python benchmarks/masking.py --reference_dir=/path/to/SpanBERT [--json=benchmarks/results/FILE.json]

`reference_dir` is a checkout of facebookresearch/SpanBERT. Its `PairWithSpanMaskingScheme` runs as it stands; only what
its module imports and masking never calls (torch, tqdm, the dataset classes beside it) is replaced by empty modules.
Both sides mask the same synthetic rows, in turns, pinned to the same core. Takes about half a minute.
"""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import io
import json
import os
import pathlib
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

from spanbert_jax import cli
from spanbert_jax.errors import UserError

REFERENCE_DIR = flags.DEFINE_string("reference_dir", None, "Checkout of facebookresearch/SpanBERT.", required=True)
JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
LENGTH = flags.DEFINE_integer("length", 512, "Row length, with [CLS] and [SEP].", lower_bound=16)
ROUNDS = flags.DEFINE_integer("rounds", 15, "Turns of each side; medians are reported.", lower_bound=1)
CORE = flags.DEFINE_integer("core", None, "Core to run on; the last one allowed by default.")

BATCH_SIZE = 256
# Ours is timed on more rows a turn than the original, so that turns last about as long.
BATCHES_PER_TURN, REFERENCE_ROWS_PER_TURN = 16, 128
# The layout of BERT's cased vocabulary: word starts, then pieces that continue a word, then ids that only pad.
VOCABULARY_SIZE, FIRST_ORDINARY, FIRST_CONTINUATION, FIRST_UNUSED = 29_056, 104, 22_500, 28_996
CLS, SEP, MASK = 101, 102, 103
# Pieces per word in English prose: 1.2 on average.
PIECES_PER_WORD = (0.87, 0.08, 0.035, 0.01, 0.005)


class Turn(NamedTuple):
    """Rows per second of one turn, by the clock on the wall and by the processor time of this process."""

    wall: float
    processor: float


def make_rows(count: int, length: int) -> np.ndarray:
    """Rows of one full block each, `[count, length]`, of words drawn by Zipf's law."""
    generator = np.random.default_rng(0)
    size = count * length
    pieces = generator.choice(np.arange(1, 6), size, p=PIECES_PER_WORD)
    starts = np.zeros(pieces.sum(), bool)
    starts[np.cumsum(pieces) - pieces] = True

    def zipf(first: int, last: int) -> np.ndarray:
        weights = 1.0 / np.arange(10, 10 + last - first)
        return first + generator.choice(last - first, size, p=weights / weights.sum())

    tokens = np.where(starts[:size], zipf(FIRST_ORDINARY, FIRST_CONTINUATION), zipf(FIRST_CONTINUATION, FIRST_UNUSED))
    rows = tokens.reshape(count, length).astype(np.int32)
    rows[:, 0], rows[:, -1] = CLS, SEP
    return rows


def our_turn(rows: np.ndarray) -> Callable[[], Turn]:
    """Compiles our masking for batches of `rows`; the function returned times one turn."""
    import jax  # after pinning: XLA sizes its thread pool when it starts
    import jax.numpy as jnp

    from spanbert_jax.masking import MaskingConfig, Vocabulary, mask_batch

    ids = np.arange(VOCABULARY_SIZE)
    is_special = (ids < FIRST_ORDINARY) & (ids != 100) | (ids >= FIRST_UNUSED)
    counts = np.bincount(rows.ravel(), minlength=VOCABULARY_SIZE)
    vocabulary = Vocabulary(
        jnp.asarray(ids < FIRST_CONTINUATION),
        jnp.asarray(is_special),
        jnp.log(jnp.asarray(np.where(is_special, 0, counts), jnp.float32)),
        MASK,
    )
    tokens = jnp.asarray(rows[:BATCH_SIZE])
    segments = jnp.ones_like(tokens)
    # Rows and vocabulary are arguments: XLA would work ahead on constants.
    mask = jax.jit(mask_batch, static_argnames="config")
    keys = [jax.random.key(number) for number in range(BATCHES_PER_TURN)]
    jax.block_until_ready(mask(keys[0], tokens, segments, vocabulary, config=MaskingConfig()))

    def turn() -> None:
        for key in keys:
            jax.block_until_ready(mask(key, tokens, segments, vocabulary, config=MaskingConfig()))

    return lambda: timed(turn, BATCHES_PER_TURN * BATCH_SIZE)


def reference_turn(rows: np.ndarray, reference_dir: pathlib.Path) -> Callable[[], Turn]:
    """Sets up the original's scheme on the same `rows`; the function returned times one turn."""
    module = load_reference(reference_dir)
    is_start = (np.arange(VOCABULARY_SIZE) < FIRST_CONTINUATION).tolist()
    dictionary = types.SimpleNamespace(is_start_word=lambda token: is_start[token])
    settings = types.SimpleNamespace(
        mask_ratio=0.15, geometric_p=0.2, span_lower=1, span_upper=10, max_pair_targets=15, tagged_anchor_prob=0.0,
        replacement_method="span", endpoints="external", return_only_spans=False,
    )  # fmt: skip
    sentences = rows[:, 1:-1]
    with contextlib.redirect_stdout(io.StringIO()):
        scheme = module.PairWithSpanMaskingScheme(
            settings, sentences.ravel(), 0, MASK, module.ParagraphInfo(dictionary)
        )

    def turn() -> None:
        for sentence in sentences[:REFERENCE_ROWS_PER_TURN]:
            scheme.mask(sentence)

    np.random.seed(0)
    return lambda: timed(turn, REFERENCE_ROWS_PER_TURN)


def load_reference(reference_dir: pathlib.Path) -> types.ModuleType:
    """Loads the original's masking module alone, without PyTorch."""
    path = reference_dir / "pretraining" / "fairseq" / "data" / "masking.py"
    if not path.is_file():
        raise UserError(f"--reference_dir: no {path}; give the folder of a checkout of facebookresearch/SpanBERT")
    package = types.ModuleType("reference_data")
    package.__path__ = []
    package.__dict__.update(data_utils=None, FairseqDataset=object)
    stand_ins = {"reference_data": package, "torch": types.ModuleType("torch"), "tqdm": types.ModuleType("tqdm")}
    stand_ins["tqdm"].__dict__.update(tqdm=None)
    sys.modules.update(stand_ins)
    spec = importlib.util.spec_from_file_location("reference_data.masking", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(turn: Callable[[], None], rows: int) -> Turn:
    wall, processor = time.perf_counter(), time.process_time()
    turn()
    return Turn(rows / (time.perf_counter() - wall), rows / (time.process_time() - processor))


def pin(core: int | None) -> int:
    """Keeps this process on one core, and returns its number."""
    allowed = os.sched_getaffinity(0)
    if core is not None and core not in allowed:
        raise UserError(f"--core: got {core}, expected one of {sorted(allowed)}; choose a core that may be used")
    chosen = max(allowed) if core is None else core
    os.sched_setaffinity(0, {chosen})
    return chosen


def machine() -> dict[str, str | int | None]:
    """What the numbers depend on besides the code."""
    names = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]}")
    os.environ["JAX_PLATFORMS"] = "cpu"
    core = pin(CORE.value)
    rows = make_rows(BATCH_SIZE, LENGTH.value)
    run_reference = reference_turn(rows, pathlib.Path(REFERENCE_DIR.value))
    run_ours = our_turn(rows)
    turns = [(run_ours(), run_reference()) for _ in range(ROUNDS.value)]
    ours, reference = zip(*turns, strict=True)
    report: dict[str, object] = {"benchmark": "masking", "length": LENGTH.value, "batch_size": BATCH_SIZE, "core": core}
    for clock in Turn._fields:
        medians = [statistics.median(getattr(turn, clock) for turn in side) for side in (ours, reference)]
        report[clock] = {
            "rows_per_second": round(medians[0]),
            "reference_rows_per_second": round(medians[1]),
            "ratio": round(medians[0] / medians[1], 1),
        }
        print(
            f"{clock}: {medians[0]:,.0f} rows/s, original {medians[1]:,.0f} rows/s, ratio {medians[0] / medians[1]:.1f}"
        )
    report |= {"rounds": ROUNDS.value, "date": datetime.date.today().isoformat(), "machine": machine()}
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
