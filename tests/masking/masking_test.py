"""Tests of `spanbert_jax.masking.mask_batch`, the room's front door: what holds for every draw."""

import json
import math
import os
import pathlib
import subprocess
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskedBatch, MaskingConfig
from tests.masking import oracle, rows

VOCABULARIES = {
    "wordpiece": rows.make_vocabulary(start_share=0.6),
    "sentencepiece": rows.make_vocabulary(unused=40, start_share=0.85),
    "long words": rows.make_vocabulary(start_share=0.02),
}
WORDPIECE = VOCABULARIES["wordpiece"]
mask = rows.masker(MaskingConfig())


def packed_rows(seed: int = 0, length: int = rows.LENGTH) -> tuple[np.ndarray, np.ndarray]:
    return rows.make_rows(rows.random_blocks(rows.BATCH_SIZE, length, seed), length, WORDPIECE, seed)


def check_rows(
    masked: MaskedBatch,
    tokens: np.ndarray,
    segments: np.ndarray,
    vocabulary: oracle.OracleVocabulary,
    config: MaskingConfig,
) -> None:
    """Asserts everything that must hold whatever was drawn."""
    fields = {name: np.asarray(value) for name, value in masked._asdict().items()}
    for name, value in fields.items():
        assert value.dtype == (np.float32 if name.endswith("weights") else np.int32), name
    for row in range(len(tokens)):
        places = rows.masked_places(masked, row)
        count, slots = len(places), fields["positions"].shape[1]
        words = oracle.words_of_row(tokens[row], segments[row], vocabulary)
        ordinary = {place for word in words for place in word}
        assert count == min(oracle.budget_of(len(ordinary)), slots)
        assert places == sorted(set(places))
        assert set(places) <= ordinary
        cut_words = [word for word in words if 0 < len(set(word) & set(places)) < len(word)]
        assert len(cut_words) <= 1
        for word in cut_words:
            assert word[: len(set(word) & set(places))] == sorted(set(word) & set(places))
        used = [1.0] * count + [0.0] * (slots - count)
        np.testing.assert_array_equal(fields["weights"][row], used)
        for name in ("positions", "targets", "left", "right", "offset", "sbo_weights"):
            assert not fields[name][row, count:].any(), name
        np.testing.assert_array_equal(fields["targets"][row, :count], tokens[row, places])
        expected = oracle.boundaries_of(
            places, tokens[row], segments[row], vocabulary, config.endpoints, config.max_span_targets
        )
        found = np.stack([fields[name][row, :count] for name in ("left", "right", "offset", "sbo_weights")], axis=1)
        np.testing.assert_array_equal(found, np.array(expected).reshape(-1, 4))
        if config.endpoints == "external":
            covered = found[:, 3] > 0
            assert not set(found[covered, :2].ravel().tolist()) & set(places)
        inputs = fields["inputs"][row]
        untouched = np.setdiff1d(np.arange(len(inputs)), places)
        np.testing.assert_array_equal(inputs[untouched], tokens[row, untouched])
        special = vocabulary.is_special[inputs[places]]
        assert (inputs[places][special] == vocabulary.mask_id).all()
        if config.replacement_unit == "run":
            for run in oracle.runs_of(places, segments[row]):
                assert len(set(inputs[run] == vocabulary.mask_id)) == 1


@pytest.mark.parametrize("vocabulary_name", VOCABULARIES)
@pytest.mark.parametrize(
    ("length", "config"), [(128, rows.DEFAULT), (128, rows.OTHER_SPANS), (128, rows.OTHER_DRAWS), (512, rows.DEFAULT)]
)
def test_every_draw_keeps_the_definition(vocabulary_name: str, length: int, config: MaskingConfig):
    vocabulary = VOCABULARIES[vocabulary_name]
    for seed in range(2):
        tokens, segments = packed_rows(seed, length)
        masked = rows.masker(config)(jax.random.key(seed), tokens, segments, vocabulary, rows=rows.NUMBERS)
        check_rows(masked, tokens, segments, vocabulary, config)


def test_special_tokens_inside_a_block_stay():
    tokens, segments = packed_rows()
    tokens[:, 5::7] = rows.MASK
    masked = mask(jax.random.key(0), tokens, segments, WORDPIECE, rows=rows.NUMBERS)
    check_rows(masked, tokens, segments, WORDPIECE, MaskingConfig())


@pytest.mark.parametrize("vocabulary_name", VOCABULARIES)
def test_tiny_and_empty_rows(vocabulary_name: str):
    vocabulary = VOCABULARIES[vocabulary_name]
    blocks = [[], [1], [2], [1, 1], [3, 4], [1, 2, 1], [14], [13]]
    tokens, segments = rows.make_rows(blocks, 16, vocabulary)
    for seed in range(5):
        masked = mask(jax.random.key(seed), tokens, segments, vocabulary)
        check_rows(masked, tokens, segments, vocabulary, MaskingConfig())


def test_one_word_longer_than_the_budget_is_cut():
    piece = np.flatnonzero(~WORDPIECE.is_word_start & ~WORDPIECE.is_special)[0]
    tokens, segments = rows.make_rows([[20]] * rows.BATCH_SIZE, rows.LENGTH, WORDPIECE)
    tokens[:, 1:21] = piece
    masked = mask(jax.random.key(0), tokens, segments, WORDPIECE, rows=rows.NUMBERS)
    for row in range(rows.BATCH_SIZE):
        assert rows.masked_places(masked, row) == [1, 2, 3]


def test_a_row_depends_on_its_key_and_itself_alone():
    tokens, segments = packed_rows()
    whole = mask(jax.random.key(0), tokens, segments, WORDPIECE, rows=rows.NUMBERS)
    order = np.random.default_rng(0).integers(0, 9, rows.BATCH_SIZE)
    part = mask(jax.random.key(0), tokens[order], segments[order], WORDPIECE, rows=jnp.asarray(order))
    for name in MaskedBatch._fields:
        np.testing.assert_array_equal(getattr(part, name), np.asarray(getattr(whole, name))[order], err_msg=name)


def test_keys_and_row_numbers_change_the_masks():
    tokens, segments = rows.make_rows([[126]] * rows.BATCH_SIZE, rows.LENGTH, WORDPIECE)
    seen = set()
    for key in (0, 1):
        masked = mask(jax.random.key(key), tokens, segments, WORDPIECE, rows=rows.NUMBERS)
        seen.update(np.asarray(masked.positions)[row].tobytes() for row in range(rows.BATCH_SIZE))
    assert len(seen) == 2 * rows.BATCH_SIZE


def test_rate_may_be_traced_and_rows_are_numbered_from_zero():
    tokens, segments = packed_rows()
    counts = (~WORDPIECE.is_special[tokens] & (segments > 0)).sum(axis=1)
    fixed = mask(jax.random.key(0), tokens, segments, WORDPIECE, rows=rows.NUMBERS)
    traced = {
        rate: mask(jax.random.key(0), tokens, segments, WORDPIECE, rate=np.float32(rate))
        for rate in (0.0, 0.1, 0.15, 0.9)
    }
    jax.tree.map(np.testing.assert_array_equal, traced[0.15], fixed)
    slots = fixed.positions.shape[1]
    assert not np.asarray(traced[0.0].weights).any()
    np.testing.assert_array_equal(
        traced[0.1].weights.sum(axis=1), [oracle.budget_of(n, Fraction(1, 10)) for n in counts]
    )
    np.testing.assert_array_equal(traced[0.9].weights.sum(axis=1), [min(math.ceil(0.9 * n), slots) for n in counts])


@pytest.mark.parametrize(
    ("length", "config", "slots"),
    [(512, MaskingConfig(), 77), (128, MaskingConfig(max_mask_rate=0.3), 38), (3, MaskingConfig(), 1)],
)
def test_shapes(length: int, config: MaskingConfig, slots: int):
    tokens = jax.ShapeDtypeStruct((4, length), jnp.int32)
    found = jax.eval_shape(rows.masker(config), jax.random.key(0), tokens, tokens, WORDPIECE)
    assert found.inputs.shape == (4, length)
    assert {field.shape for field in found[1:]} == {(4, slots)}


def test_rows_without_room_are_refused():
    with pytest.raises(UserError, match=r"data\.length: got rows of 2"):
        mask(jax.random.key(0), np.ones((1, 2), np.int32), np.ones((1, 2), np.int32), WORDPIECE)


def test_masks_are_the_same_on_every_mesh():
    root = pathlib.Path(__file__).parents[2]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(root),
    }
    finished = subprocess.run(
        [sys.executable, "-m", "tests.masking.mesh_masks"],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["devices"] == 8
    tokens, segments = packed_rows()
    assert report["digest"] == rows.digest(mask(jax.random.key(0), tokens, segments, WORDPIECE, rows=rows.NUMBERS))
    # Whether any row is short of its budget is all that the devices tell each other.
    assert set(report["collectives"]) <= {"pred[] all-reduce"}
