"""AdamW with warm-up, linear decay, global-norm clipping and weight decay chosen by parameter path."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from spanbert_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer settings; the defaults are the paper's (section 4.2).

    Attributes:
      learning_rate: peak rate, reached after warm-up.
      warmup_steps: updates over which the rate rises linearly from 0 to the peak.
      end_learning_rate: rate that the linear decay reaches at `training.steps`.
      beta1: decay of the first moment.
      beta2: decay of the second moment.
      epsilon: added to the root of the second moment.
      weight_decay: decoupled decay, multiplied by the rate.
      no_decay: regular expressions; a parameter whose path one of them finds is not decayed.
      clip_norm: global gradient norm above which gradients are scaled down; 0 turns clipping off.
      accumulation_steps: parts that a batch is split into, one after the other, before an update.
    """

    learning_rate: float = 1e-4
    warmup_steps: int = 10_000
    end_learning_rate: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    no_decay: tuple[str, ...] = ("bias$", "norm/scale$")
    clip_norm: float = 1.0
    accumulation_steps: int = 1

    def __post_init__(self) -> None:
        if self.accumulation_steps < 1:
            raise UserError(f"optimizer.accumulation_steps={self.accumulation_steps}: expected at least 1")
        for pattern in self.no_decay:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(f"optimizer.no_decay: {pattern!r} is not a regular expression: {error}") from None


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The rate of the update that follows `count` others: warm-up to the peak, then linear to the end of `steps`."""
    decay_steps = max(steps - config.warmup_steps, 1)

    def rate(count: jax.typing.ArrayLike) -> jax.Array:
        warm = (jnp.asarray(count, jnp.float32) + 1) / max(config.warmup_steps, 1)
        left = jnp.clip((steps - jnp.asarray(count, jnp.float32)) / decay_steps, 0.0, 1.0)
        decayed = config.end_learning_rate + (config.learning_rate - config.end_learning_rate) * left
        return jnp.where(warm < 1, config.learning_rate * warm, decayed)

    return rate


def decayed(params: Any, config: OptimizerConfig) -> Any:
    """A tree like `params` of booleans: which parameters weight decay applies to."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(re.search(pattern, path_name(path)) for pattern in config.no_decay), params
    )


def path_name(path: tuple[Any, ...]) -> str:
    """The slash-separated name of a parameter, as in "encoder/layers/qkv/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, then AdamW whose rate falls to the end over `steps` updates."""
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.adamw(
            learning_rate(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=lambda params: decayed(params, config),
        ),
    )
