"""A tiny pre-training problem: rows of two blocks and padding, a small model, and everything a step needs."""

import functools
import json
import sys

import jax
import numpy as np

from spanbert_jax.data.blocks import Batch
from spanbert_jax.masking import MaskingConfig, Vocabulary
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.training.losses import ObjectiveConfig
from spanbert_jax.training.optimizer import OptimizerConfig, make_optimizer
from spanbert_jax.training.sharding import MeshConfig, make_mesh, replicated, to_global
from spanbert_jax.training.state import graph_definition, init_state, state_shardings
from spanbert_jax.training.step import train_step

LENGTH, BATCH_SIZE, STEPS = 32, 8, 20
MODEL = ModelConfig(
    vocab_size=200,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    intermediate_size=64,
    max_positions=LENGTH,
    dropout=0.1,
    attention_dropout=0.1,
    dtype="float32",
)
OBJECTIVE = ObjectiveConfig()
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, warmup_steps=5)


def vocabulary():
    ids = np.arange(MODEL.padded_vocab_size)
    is_special = (ids < 5) & (ids != 1) | (ids >= MODEL.vocab_size)
    is_word_start = ~is_special & (ids % 3 > 0)
    return Vocabulary(is_word_start, is_special, np.where(is_special, -np.inf, -5.0).astype(np.float32), np.int32(4))


def batch(seed, distinct=MODEL.vocab_size - 5):
    """Rows of a short block, a longer one, and padding of a length that differs from row to row; random tokens."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(5, 5 + distinct, (BATCH_SIZE, LENGTH)).astype(np.int32)
    segments = np.ones((BATCH_SIZE, LENGTH), np.int32)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH_SIZE, 1))
    for row in range(BATCH_SIZE):
        middle, end = 10, LENGTH - row
        segments[row, middle:], segments[row, end:] = 2, 0
        positions[row, middle:] -= middle
        tokens[row, [0, middle]], tokens[row, [middle - 1, end - 1]], tokens[row, end:] = 2, 3, 0
    return Batch(tokens, segments, np.where(segments > 0, positions, 0), np.zeros_like(tokens))


def make_step(mesh, *, model=MODEL, objective=OBJECTIVE, accumulation_steps=1, seed=0):
    """A fresh state and (state, global batch, vocabulary) -> (state, metrics), jitted as in pre-training."""
    optimizer = make_optimizer(OPTIMIZER, 100)
    initialize = functools.partial(init_state, model, optimizer, seed)
    shardings = state_shardings(jax.eval_shape(initialize), optimizer, mesh)
    step = jax.jit(
        functools.partial(
            train_step,
            graph_definition=graph_definition(model),
            optimizer=optimizer,
            masking=MaskingConfig(),
            objective=objective,
            accumulation_steps=accumulation_steps,
            seed=seed,
        ),
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
    )
    state = jax.jit(initialize, out_shardings=shardings)()
    return state, step


def train(mesh, steps=STEPS, distinct=MODEL.vocab_size - 5, **settings):
    """Losses of both objectives and gradient norms over `steps`, and the last state."""
    with jax.set_mesh(mesh):
        state, step = make_step(mesh, **settings)
        curve = []
        for index in range(steps):
            state, metrics = step(state, to_global(batch(index % 4, distinct), BATCH_SIZE, mesh), vocabulary())
            curve.append([float(metrics[name]) for name in ("mlm_loss", "sbo_loss", "gradient_norm")])
    return curve, state


if __name__ == "__main__":
    curves = {}
    for name in sys.argv[1:]:
        data, fsdp, tensor = map(int, name.split("x"))
        curves[name] = train(make_mesh(MeshConfig(data, fsdp, tensor)))[0]
    print(json.dumps(curves))
