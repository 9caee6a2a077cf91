"""Pieces that the encoder and the heads share: activation, dropout, initialised layers, the batch constraint."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from spanbert_jax.model.config import ModelConfig

BATCH_AXES = ("data", "fsdp")


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact (erf) GELU, computed in float32 and returned in the type of `x`.

    The derivative is computed with the value and kept in place of `x`: the same memory, and on CPU half the time of
    the feed-forward block, where XLA would evaluate erf again inside each consumer of the gradient.
    """
    return _gelu_forward(x)[0]


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x32 = x.astype(jnp.float32)
    cumulative = 0.5 * (1.0 + jax.lax.erf(x32 * 0.5**0.5))
    density = jnp.exp(-0.5 * x32 * x32) * (2.0 * jnp.pi) ** -0.5
    return (x32 * cumulative).astype(x.dtype), (cumulative + x32 * density).astype(x.dtype)


def _gelu_backward(derivative: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (gradient * derivative,)


gelu.defvjp(_gelu_forward, _gelu_backward)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes elements with probability `rate` and scales the rest by 1 / (1 - rate); the identity without a key."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def dense(
    config: ModelConfig,
    inputs: int | Sequence[int],
    outputs: int | Sequence[int],
    *,
    rngs: nnx.Rngs,
    axis: int | Sequence[int] = -1,
) -> nnx.LinearGeneral:
    """A linear layer with N(0, `initializer_range`) weights and zero biases, in the model's compute type."""
    return nnx.LinearGeneral(
        inputs,
        outputs,
        axis=axis,
        dtype=config.dtype,
        kernel_init=nnx.initializers.normal(config.initializer_range),
        rngs=rngs,
    )


def layer_norm(config: ModelConfig, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over D with float32 statistics."""
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.layer_norm_epsilon,
        dtype=config.dtype,
        use_fast_variance=False,
        rngs=rngs,
    )


def constrain_batch(x: jax.Array) -> jax.Array:
    """Keeps the leading axis of `x` sharded over the mesh's batch axes; the identity outside a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))
