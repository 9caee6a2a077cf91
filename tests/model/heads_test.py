"""The whole model against the float64 transcription in `reference.py`, by values, gradients and invariances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskedBatch
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.training.losses import ObjectiveConfig, combined_loss, objective_sums
from spanbert_jax.training.state import graph_definition, init_params
from tests.model import reference

CONFIG = ModelConfig(
    vocab_size=70,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    intermediate_size=24,
    max_positions=12,
    num_span_positions=4,
    span_position_size=6,
    dtype="float32",
)
#                         two blocks          one block and padding
TOKENS = np.array([[2, 9, 4, 8, 3, 2, 4, 7, 6, 3], [2, 4, 4, 11, 69, 5, 3, 0, 0, 0]], np.int32)
SEGMENTS = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]], np.int32)
POSITIONS = np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 0, 0, 0]], np.int32)
TYPES = np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], np.int32)
MASKED = MaskedBatch(
    inputs=TOKENS,
    positions=np.array([[2, 6], [1, 2]], np.int32),
    targets=np.array([[13, 20], [21, 69]], np.int32),
    weights=np.ones((2, 2), np.float32),
    left=np.array([[1, 0], [0, 0]], np.int32),
    right=np.array([[3, 0], [3, 3]], np.int32),
    offset=np.array([[1, 0], [1, 2]], np.int32),
    sbo_weights=np.array([[1, 0], [1, 1]], np.float32),
)


def random_params(config, seed):
    """Parameters large enough that every term of the model shows in its output, biases and norms included."""
    shapes = jax.eval_shape(lambda: init_params(config, 0))
    generator = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: generator.normal(0, 0.4, leaf.shape).astype(np.float32), shapes)
    params["encoder"]["embeddings"]["word"]["embedding"][config.vocab_size :] = 0
    return params


def run(config, params, masked=MASKED, segments=SEGMENTS, key=None):
    model = nnx.merge(graph_definition(config), params)
    return model(masked, segments, POSITIONS, TYPES, key=key)


@pytest.mark.parametrize("normalization", ["post", "pre"])
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_equal_the_definition(normalization, seed):
    config = dataclasses.replace(CONFIG, normalization=normalization)
    params = random_params(config, seed)
    mlm, sbo = run(config, params)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row in range(2):
        hidden = reference.encode(exact, config, TOKENS[row], SEGMENTS[row], POSITIONS[row], TYPES[row])
        for k in range(2):
            expected = reference.mlm_logits(exact, config, hidden, MASKED.positions[row, k])
            np.testing.assert_allclose(mlm[row, k, : config.vocab_size], expected, rtol=1e-4, atol=1e-4)
            if MASKED.sbo_weights[row, k]:
                boundary = MASKED.left[row, k], MASKED.right[row, k], MASKED.offset[row, k]
                expected = reference.sbo_logits(exact, config, hidden, *boundary)
                np.testing.assert_allclose(sbo[row, k, : config.vocab_size], expected, rtol=1e-4, atol=1e-4)


def test_padded_ids_can_never_be_predicted():
    for logits in run(CONFIG, random_params(CONFIG, 0)):
        assert logits.shape == (2, 2, 128)
        assert np.all(np.asarray(logits[..., CONFIG.vocab_size :]) == -np.inf)
        assert np.all(np.isfinite(logits[..., : CONFIG.vocab_size]))


@pytest.mark.parametrize("normalization", ["post", "pre"])
def test_packed_blocks_give_what_they_give_alone(normalization):
    config = dataclasses.replace(CONFIG, normalization=normalization)
    model = nnx.merge(graph_definition(config), random_params(config, 0))
    packed = model.encoder(TOKENS, SEGMENTS, POSITIONS, TYPES)
    for row, block in [(0, slice(0, 5)), (0, slice(5, 10)), (1, slice(0, 7))]:
        alone = model.encoder(
            TOKENS[row : row + 1, block],
            np.ones_like(TOKENS[row : row + 1, block]),
            POSITIONS[row : row + 1, block],
            TYPES[row : row + 1, block],
        )
        np.testing.assert_allclose(packed[row, block], alone[0], rtol=1e-5, atol=1e-5)


def loss(params, config, key=None):
    sums = objective_sums(*run(config, params, key=key), MASKED)
    return combined_loss(sums.mlm_loss, sums.mlm_count, sums.sbo_loss, sums.sbo_count, ObjectiveConfig())


def test_loss_equals_the_definition():
    params = random_params(CONFIG, 2)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    mlm, sbo = [], []
    for row in range(2):
        hidden = reference.encode(exact, CONFIG, TOKENS[row], SEGMENTS[row], POSITIONS[row], TYPES[row])
        for k in range(2):
            target = MASKED.targets[row, k]
            logits = reference.mlm_logits(exact, CONFIG, hidden, MASKED.positions[row, k])
            mlm.append(reference.cross_entropy(logits, target))
            if MASKED.sbo_weights[row, k]:
                boundary = MASKED.left[row, k], MASKED.right[row, k], MASKED.offset[row, k]
                sbo.append(reference.cross_entropy(reference.sbo_logits(exact, CONFIG, hidden, *boundary), target))
    np.testing.assert_allclose(loss(params, CONFIG), np.mean(mlm) + np.mean(sbo), rtol=1e-5)


@pytest.mark.parametrize("normalization", ["post", "pre"])
def test_gradient_is_the_slope_of_the_loss(normalization):
    config = dataclasses.replace(CONFIG, normalization=normalization)
    params = random_params(config, 3)
    gradient = jax.grad(loss)(params, config)
    generator = np.random.default_rng(0)
    direction = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), params)
    step = 1e-3
    ahead, behind = (
        loss(jax.tree.map(lambda p, d, sign=sign: p + sign * step * d, params, direction), config) for sign in (1, -1)
    )
    slope = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=5e-3)


def test_rows_that_pad_the_vocabulary_start_at_zero_and_get_no_gradient():
    params = init_params(CONFIG, 0)
    gradient = jax.grad(loss)(params, CONFIG)
    for tree in (params, gradient):
        assert not np.any(tree["encoder"]["embeddings"]["word"]["embedding"][CONFIG.vocab_size :])
        assert not np.any(tree["mlm"]["bias"][CONFIG.vocab_size :])
        assert not np.any(tree["sbo"]["bias"][CONFIG.vocab_size :])


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_changes_nothing(remat):
    params = random_params(CONFIG, 0)
    config = dataclasses.replace(CONFIG, remat=remat)
    plain = jax.value_and_grad(loss)(params, CONFIG, jax.random.key(0))
    for a, b in zip(
        jax.tree.leaves(plain),
        jax.tree.leaves(jax.value_and_grad(loss)(params, config, jax.random.key(0))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_depends_on_its_key_alone():
    params = random_params(CONFIG, 0)
    first, again, other = (float(loss(params, CONFIG, jax.random.key(seed))) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first != float(loss(params, CONFIG))


def test_bfloat16_stays_near_float32():
    params = init_params(CONFIG, 0)
    low = dataclasses.replace(CONFIG, dtype="bfloat16")
    np.testing.assert_allclose(loss(params, low), loss(params, CONFIG), rtol=5e-3)


def test_initial_weights_have_the_configured_spread():
    params = init_params(dataclasses.replace(CONFIG, hidden_size=64, vocab_size=128 * 40), 0)
    kernel = params["encoder"]["layers"]["qkv"]["kernel"]
    np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.03)
    assert not np.array_equal(kernel[0], kernel[1])
    np.testing.assert_allclose(np.std(params["encoder"]["embeddings"]["word"]["embedding"]), 0.02, rtol=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "model.num_heads=3"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"num_layers": 0}, "num_layers"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, **change)
