"""Fills the [MASK]s of a text: each from its own position (MLM), from its span's boundary (SBO), and spans whole."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spanbert_jax.errors import UserError
from spanbert_jax.tasks.pretrained import Pretrained

CANDIDATES = 5
BEAMS = 5
_LENGTH_BUCKET = 32
_BLANK_BUCKET = 8


class Candidate(NamedTuple):
    """A piece for a blank, and its probability under one head."""

    token: str
    id: int
    probability: float


class Blank(NamedTuple):
    """A [MASK] at `position` of the framed text; `sbo` is empty where the span has no boundary to predict from."""

    position: int
    mlm: list[Candidate]
    sbo: list[Candidate]


class Span(NamedTuple):
    """Joint fills of a run of blanks, best first: their text and log probability."""

    start: int
    length: int
    fills: list[tuple[str, float]]


class Filled(NamedTuple):
    """The answer for one text."""

    blanks: list[Blank]
    spans: list[Span]


def fill_mask(model: Pretrained, text: str) -> Filled:
    """Predicts every [MASK] in `text`.

    Raises:
      UserError: the text has no [MASK], or is longer than the model can read.
    """
    tokenizer = model.tokenizer
    ids = np.array([tokenizer.cls_id, *tokenizer.encode(text, allow_special=True), tokenizer.sep_id], np.int32)
    limit = model.config.model.max_positions
    if len(ids) > limit:
        raise UserError(f"text of {len(ids)} pieces: the model reads {limit} at most; shorten it: {text[:60]!r}...")
    blanks = np.flatnonzero(ids == tokenizer.mask_id)
    if not blanks.size:
        mask = tokenizer.token(tokenizer.mask_id)
        raise UserError(f"text without {mask}: nothing to fill in {text[:60]!r}; write {mask} for each blank")
    runs = np.split(blanks, np.flatnonzero(np.diff(blanks) > 1) + 1)
    mlm, sbo = _log_probabilities(model, ids[None], runs)

    answers = []
    for run in runs:
        answers += [
            Blank(
                int(position),
                _best(mlm[0, place], tokenizer),
                _best(sbo[0, place], tokenizer) if _has_boundary(model, ids, run, int(position)) else [],
            )
            for place, position in zip(np.searchsorted(blanks, run), run, strict=True)
        ]
    spans = [Span(int(run[0]), len(run), _fill_run(model, ids, runs, index)) for index, run in enumerate(runs)]
    return Filled(answers, spans)


def _best(log_probabilities: np.ndarray, tokenizer: Any) -> list[Candidate]:
    order = np.argsort(-log_probabilities, kind="stable")[:CANDIDATES]
    return [Candidate(tokenizer.token(int(i)), int(i), float(np.exp(log_probabilities[i]))) for i in order]


def _has_boundary(model: Pretrained, ids: np.ndarray, run: np.ndarray, position: int) -> bool:
    """Whether pre-training ever asked the boundary head such a question."""
    masking, is_special = model.config.masking, model.tokenizer.is_special
    near_enough = position - run[0] < masking.max_span_targets
    return bool(
        near_enough and (masking.endpoints == "internal" or not is_special[ids[[run[0] - 1, run[-1] + 1]]].any())
    )


def _fill_run(model: Pretrained, ids: np.ndarray, runs: list[np.ndarray], index: int) -> list[tuple[str, float]]:
    """Beam search over a run from left to right; each choice is conditioned, through MLM, on those before it."""
    run = runs[index]
    place = sum(len(other) for other in runs[:index])
    beams, scores = ids[None], np.zeros(1)
    for step, position in enumerate(run):
        padded = np.concatenate([beams, np.repeat(beams[:1], BEAMS - len(beams), axis=0)])
        mlm, _ = _log_probabilities(model, padded, runs)
        log_probabilities = np.where(model.tokenizer.is_special, -np.inf, mlm[: len(beams), place + step])
        total = scores[:, None] + log_probabilities  # [beams, V]
        best = np.argsort(-total, axis=None, kind="stable")[:BEAMS]
        parents, pieces = np.unravel_index(best, total.shape)
        beams, scores = beams[parents].copy(), total[parents, pieces]
        beams[:, position] = pieces
    return [
        (model.tokenizer.decode(beam[run].tolist()), float(score)) for beam, score in zip(beams, scores, strict=True)
    ]


def _log_probabilities(model: Pretrained, ids: np.ndarray, runs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """MLM and SBO log probabilities, each [rows, blanks, V], for texts `ids` [rows, length] with blanks in `runs`."""
    rows, length = ids.shape
    blanks = np.concatenate(runs)
    internal = model.config.masking.endpoints == "internal"
    left = np.concatenate([np.full(len(run), run[0] - (not internal)) for run in runs])
    right = np.concatenate([np.full(len(run), run[-1] + (not internal)) for run in runs])
    offset = np.concatenate([np.arange(1, len(run) + 1) for run in runs])
    offset = np.minimum(offset, model.config.model.num_span_positions)

    limit = model.config.model.max_positions
    padding = min(-(-length // _LENGTH_BUCKET) * _LENGTH_BUCKET, limit) - length
    tokens = np.pad(ids, ((0, 0), (0, padding)), constant_values=model.tokenizer.pad_id)
    segments = np.pad(np.ones_like(ids), ((0, 0), (0, padding)))
    targets = np.stack([blanks, left, right, offset])  # [4, blanks]
    targets = np.pad(targets, ((0, 0), (0, -len(blanks) % _BLANK_BUCKET)))
    mlm, sbo = _forward(
        model.params,
        tokens,
        segments,
        np.broadcast_to(targets[:, None].astype(np.int32), (4, rows, targets.shape[1])),
        graph_definition=model.graph_definition,
    )
    return np.asarray(mlm)[:, : len(blanks)], np.asarray(sbo)[:, : len(blanks)]


@functools.partial(jax.jit, static_argnames="graph_definition")
def _forward(
    params: Any, tokens: jax.Array, segments: jax.Array, targets: jax.Array, *, graph_definition: nnx.GraphDef
) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph_definition, params)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden = model.encoder(tokens, segments, positions, jnp.zeros_like(tokens))
    blanks, left, right, offset = targets
    mlm, sbo = model.mlm_logits(hidden, blanks), model.sbo_logits(hidden, left, right, offset)
    return jax.nn.log_softmax(mlm), jax.nn.log_softmax(sbo)
