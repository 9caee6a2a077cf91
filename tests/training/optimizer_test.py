import dataclasses

import jax
import numpy as np
import optax
import pytest

from spanbert_jax.errors import UserError
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.training.optimizer import OptimizerConfig, decayed, learning_rate, make_optimizer, path_name
from spanbert_jax.training.state import init_params

CONFIG = OptimizerConfig(learning_rate=0.1, warmup_steps=4, beta2=0.99, weight_decay=0.2, clip_norm=1.0)
TINY = ModelConfig(vocab_size=8, hidden_size=4, num_layers=1, num_heads=2, intermediate_size=4, max_positions=4)


def test_the_rate_rises_linearly_then_falls_linearly_without_a_jump():
    rates = [float(learning_rate(CONFIG, 10)(count)) for count in range(10)]
    #                            warm-up                  decay
    np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1, 0.1, 5 / 60, 4 / 60, 0.05, 2 / 60, 1 / 60], rtol=1e-6)


def test_the_rate_falls_to_its_end():
    config = dataclasses.replace(CONFIG, end_learning_rate=0.01)
    np.testing.assert_allclose(learning_rate(config, 10)(10), 0.01, rtol=1e-6)
    np.testing.assert_allclose(learning_rate(config, 10)(50), 0.01, rtol=1e-6)


def test_without_warm_up_the_first_rate_is_the_peak():
    np.testing.assert_allclose(learning_rate(dataclasses.replace(CONFIG, warmup_steps=0), 10)(0), 0.1, rtol=1e-6)


def adamw(params, gradients, config, steps):
    """AdamW with global-norm clipping, step by step in float64 (Loshchilov and Hutter 2019, algorithm 2)."""
    moments = dict.fromkeys(params, (0.0, 0.0))
    for count, gradient in enumerate(gradients):
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        rate = float(learning_rate(config, steps)(count))
        for name in params:
            g = gradient[name] * min(1.0, config.clip_norm / norm)
            m = config.beta1 * moments[name][0] + (1 - config.beta1) * g
            v = config.beta2 * moments[name][1] + (1 - config.beta2) * g**2
            moments[name] = m, v
            corrected = m / (1 - config.beta1 ** (count + 1)), v / (1 - config.beta2 ** (count + 1))
            update = corrected[0] / (np.sqrt(corrected[1]) + config.epsilon)
            decay = 0.0 if name == "bias" else config.weight_decay
            params[name] = params[name] - rate * (update + decay * params[name])
    return params


def test_updates_equal_the_definition():
    generator = np.random.default_rng(0)
    params = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=2)}
    gradients = [{name: generator.normal(0, 2, value.shape) for name, value in params.items()} for _ in range(6)]
    optimizer = make_optimizer(CONFIG, 10)
    ours = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    state = optimizer.init(ours)
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(lambda g: g.astype(np.float32), gradient), state, ours)
        ours = optax.apply_updates(ours, updates)
    expected = adamw(dict(params), gradients, CONFIG, 10)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=1e-6)


def test_biases_and_norms_are_not_decayed_by_default():
    params = init_params(TINY, 0)
    flags = {path_name(path): flag for path, flag in jax.tree_util.tree_leaves_with_path(decayed(params, CONFIG))}
    kept = {name for name, flag in flags.items() if not flag}
    assert kept == {name for name in flags if name.endswith(("bias", "norm/scale"))}
    assert "encoder/layers/qkv/kernel" in flags
    assert flags["encoder/embeddings/word/embedding"]


def test_everything_decays_without_patterns():
    everything = decayed(init_params(TINY, 0), dataclasses.replace(CONFIG, no_decay=()))
    assert all(jax.tree.leaves(everything))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"accumulation_steps": 0}, "accumulation_steps=0"), ({"no_decay": ("(",)}, "optimizer.no_decay: '\\('")],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, **change)
