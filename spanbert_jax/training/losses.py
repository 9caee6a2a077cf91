"""The objective: masked-language modelling plus weighted span-boundary prediction, each over its own targets."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskedBatch


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """How the two losses are weighed.

    Attributes:
      sbo_weight: weight of the span-boundary loss (1 in the paper, section 3.3); 0 trains on MLM alone.
      sbo_denominator_offset: added to the count that the span-boundary loss is divided by; the original code adds 1.
      renormalize_replicas: when positive, gradients are multiplied by this number of replicas over the number of
        masked tokens, as the original trainer does a second time; 0, the default, leaves the mean's gradient alone.
      unigram_bias: starts the heads' vocabulary biases at the log frequencies of the training split, where a model
        without them spends its first hundreds of updates arriving; zero, as in BERT, otherwise.
    """

    sbo_weight: float = 1.0
    sbo_denominator_offset: int = 0
    renormalize_replicas: int = 0
    unigram_bias: bool = False

    def __post_init__(self) -> None:
        for key in ("sbo_weight", "sbo_denominator_offset", "renormalize_replicas"):
            if getattr(self, key) < 0:
                raise UserError(f"objective.{key}={getattr(self, key)} is negative; expected 0 or more")


class ObjectiveSums(NamedTuple):
    """Sums over the targets of a batch, [] each but for `row_loss` [B]; dividing them is left to whoever knows all."""

    mlm_loss: jax.Array
    mlm_correct: jax.Array
    mlm_count: jax.Array
    sbo_loss: jax.Array
    sbo_correct: jax.Array
    sbo_count: jax.Array
    row_loss: jax.Array


def cross_entropy(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scores predictions of one target each.

    Args:
      logits: float32 [B, K, V].
      targets: [B, K].

    Returns:
      Negative log-likelihoods [B, K], and whether the target has the largest logit [B, K] (which the softmax needs
      anyway; an argmax would cost another pass over the logits).
    """
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen, chosen >= jnp.max(logits, axis=-1)


def objective_sums(mlm_logits: jax.Array, sbo_logits: jax.Array, masked: MaskedBatch) -> ObjectiveSums:
    """Sums losses and hits of both objectives over the targets that count.

    Args:
      mlm_logits: [B, K, V], predictions from each masked position.
      sbo_logits: [B, K, V], predictions from each span's boundary.
      masked: targets and the weights that choose among them.
    """
    mlm_losses, mlm_hits = cross_entropy(mlm_logits, masked.targets)  # [B, K]
    sbo_losses, sbo_hits = cross_entropy(sbo_logits, masked.targets)
    mlm_losses, sbo_losses = mlm_losses * masked.weights, sbo_losses * masked.sbo_weights
    return ObjectiveSums(
        mlm_loss=mlm_losses.sum(),
        mlm_correct=(mlm_hits * masked.weights).sum(),
        mlm_count=masked.weights.sum(),
        sbo_loss=sbo_losses.sum(),
        sbo_correct=(sbo_hits * masked.sbo_weights).sum(),
        sbo_count=masked.sbo_weights.sum(),
        row_loss=(mlm_losses + sbo_losses).sum(axis=-1),
    )


def combined_loss(
    mlm_loss: jax.typing.ArrayLike,
    mlm_count: jax.typing.ArrayLike,
    sbo_loss: jax.typing.ArrayLike,
    sbo_count: jax.typing.ArrayLike,
    config: ObjectiveConfig,
) -> jax.Array:
    """MLM plus weighted SBO (paper, section 3.3), each sum divided by its own count; a batch without targets gives 0.

    The counts are those of the global batch, so neither the mesh nor gradient accumulation changes the loss.
    """
    sbo_denominator = jnp.maximum(sbo_count + config.sbo_denominator_offset, 1)
    return jnp.asarray(mlm_loss / jnp.maximum(mlm_count, 1) + config.sbo_weight * sbo_loss / sbo_denominator)


def mean_metrics(sums: ObjectiveSums) -> dict[str, jax.Array]:
    """Mean loss (nats) and accuracy of both objectives."""
    mlm_count, sbo_count = jnp.maximum(sums.mlm_count, 1), jnp.maximum(sums.sbo_count, 1)
    return {
        "mlm_loss": sums.mlm_loss / mlm_count,
        "mlm_accuracy": sums.mlm_correct / mlm_count,
        "sbo_loss": sums.sbo_loss / sbo_count,
        "sbo_accuracy": sums.sbo_correct / sbo_count,
    }
