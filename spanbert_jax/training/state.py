"""What a training step carries from one update to the next, born sharded."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from spanbert_jax.model.config import ModelConfig
from spanbert_jax.model.heads import SpanBert
from spanbert_jax.training.sharding import param_shardings, replicated

# `fold_in(seed_key, step)` belongs to the steps; initialisation and dropout take numbers that no step reaches.
_INIT_STREAM = 2**32 - 1
_DROPOUT_STREAM = 2**32 - 2


class TrainState(NamedTuple):
    """Updates done, parameters as a nested dict, and optimizer state; or the shapes or shardings of these."""

    step: Any
    params: Any
    opt_state: Any


def seed_key(seed: int) -> jax.Array:
    """The key that every random choice of a run derives from; threefry, so that no mesh changes it."""
    return jax.random.key(seed, impl="threefry2x32")


def dropout_key(seed: int, step: jax.typing.ArrayLike) -> jax.Array:
    """The key of a step's dropout."""
    return jax.random.fold_in(jax.random.fold_in(seed_key(seed), _DROPOUT_STREAM), step)


def graph_definition(config: ModelConfig) -> nnx.GraphDef:
    """The model without its parameters, for `nnx.merge(graph_definition, params)`."""
    return nnx.split(nnx.eval_shape(lambda: SpanBert(config, rngs=nnx.Rngs(0))))[0]


def init_params(config: ModelConfig, seed: int) -> Any:
    """Fresh parameters, a nested dict of float32 arrays."""
    key = jax.random.fold_in(seed_key(seed), _INIT_STREAM)
    return nnx.to_pure_dict(nnx.split(SpanBert(config, rngs=nnx.Rngs(params=key)))[1])


def init_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, seed: int, bias: jax.Array | None = None
) -> TrainState:
    """A fresh state, with both heads' vocabulary biases at `bias` [V] or zero; jit it with `state_shardings`."""
    params = init_params(config, seed)
    if bias is not None:
        is_piece = jnp.arange(config.padded_vocab_size) < config.vocab_size
        for head in ("mlm", "sbo"):
            params[head]["bias"] = jnp.where(is_piece, bias, 0.0)
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def state_shardings(state: TrainState, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shardings of a state (or its shapes): parameters by the table, moments like their parameter, the rest whole."""
    params = param_shardings(state.params, mesh)
    return TrainState(
        step=replicated(mesh),
        params=params,
        opt_state=optax.tree.map_params(
            optimizer,
            lambda _, sharding: sharding,
            state.opt_state,
            params,
            transform_non_params=lambda _: replicated(mesh),
        ),
    )
