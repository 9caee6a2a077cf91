"""One update and one evaluation, as pure functions of state and batch."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from spanbert_jax.data.blocks import Batch
from spanbert_jax.masking import MaskedBatch, MaskingConfig, Vocabulary, mask_batch
from spanbert_jax.training.losses import (
    ObjectiveConfig,
    ObjectiveSums,
    combined_loss,
    mean_metrics,
    objective_sums,
)
from spanbert_jax.training.state import TrainState, dropout_key, seed_key

# Evaluation draws its masks from a key of its own, so that runs with different seeds are scored on the same targets.
_EVALUATION_SEED = 1907_10529


def train_step(
    state: TrainState,
    batch: Batch,
    vocabulary: Vocabulary,
    *,
    graph_definition: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    masking: MaskingConfig,
    objective: ObjectiveConfig,
    accumulation_steps: int,
    seed: int,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Masks a batch, takes the gradient of the combined loss and updates the state.

    Args:
      state: donated.
      batch: global rows [B, L].
      vocabulary: what masking must know of the pieces.
      graph_definition: the model without its parameters.
      optimizer: the optax transformation that made `state.opt_state`.
      masking: how spans are chosen and corrupted.
      objective: how the losses are weighed.
      accumulation_steps: parts that the rows are split into, scanned one after the other.
      seed: of the run; with the step it decides masks and dropout.

    Returns:
      The next state, and metrics: scalars, and `row_loss` [B].
    """
    masked = mask_batch(
        jax.random.fold_in(seed_key(seed), state.step), batch.tokens, batch.segments, vocabulary, masking
    )
    mlm_count, sbo_count = masked.weights.sum(), masked.sbo_weights.sum()

    def loss_of_part(params: Any, part: tuple[MaskedBatch, Batch], key: jax.Array) -> tuple[jax.Array, ObjectiveSums]:
        sums = _predict(graph_definition, params, *part, key=key)
        return combined_loss(sums.mlm_loss, mlm_count, sums.sbo_loss, sbo_count, objective), sums

    def add_part(total: Any, scanned: tuple[tuple[MaskedBatch, Batch], jax.Array]) -> tuple[Any, jax.Array]:
        (loss, sums), gradients = jax.value_and_grad(loss_of_part, has_aux=True)(state.params, *scanned)
        row_loss = sums.row_loss
        return jax.tree.map(jnp.add, total, (loss, sums._replace(row_loss=jnp.zeros(())), gradients)), row_loss

    key = dropout_key(seed, state.step)
    if accumulation_steps == 1:
        (loss, sums), gradients = jax.value_and_grad(loss_of_part, has_aux=True)(state.params, (masked, batch), key)
    else:
        nothing = (0.0, ObjectiveSums(*[jnp.zeros(())] * 7), jax.tree.map(jnp.zeros_like, state.params))
        parts = jax.tree.map(lambda x: _split_rows(x, accumulation_steps), (masked, batch))
        (loss, sums, gradients), row_loss = jax.lax.scan(
            add_part, nothing, (parts, jax.random.split(key, accumulation_steps))
        )
        sums = sums._replace(row_loss=row_loss.swapaxes(0, 1).reshape(-1))

    if objective.renormalize_replicas:
        scale = objective.renormalize_replicas / jnp.maximum(mlm_count, 1)
        gradients = jax.tree.map(lambda gradient: gradient * scale, gradients)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    metrics = mean_metrics(sums) | {
        "loss": loss,
        "gradient_norm": optax.tree.norm(gradients),
        "real_tokens": (batch.segments > 0).sum(),
        "row_loss": sums.row_loss,
    }
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics


def evaluation_step(
    params: Any,
    batch: Batch,
    rows: jax.Array,
    vocabulary: Vocabulary,
    log_unigram: jax.Array,
    *,
    graph_definition: nnx.GraphDef,
    masking: MaskingConfig,
) -> dict[str, jax.Array]:
    """Sums of both objectives over held-out rows under fixed masks, with the unigram's loss on the same targets.

    Args:
      params: nested dict of parameters.
      batch: held-out rows [B, L]; rows of padding alone add nothing.
      rows: [B] each row's number in the held-out split, which decides its masks.
      vocabulary: what masking must know of the pieces.
      log_unigram: [V] smoothed log probabilities of the pieces in the training split.
      graph_definition: the model without its parameters.
      masking: how spans are chosen and corrupted.

    Returns:
      The fields of `ObjectiveSums` but the last, `unigram` and `unigram_sbo`: scalars to be added over batches.
    """
    masked = mask_batch(seed_key(_EVALUATION_SEED), batch.tokens, batch.segments, vocabulary, masking, rows=rows)
    sums = _predict(graph_definition, params, masked, batch, key=None)._asdict()
    del sums["row_loss"]
    unigram = -log_unigram[masked.targets]
    return sums | {
        "unigram": (unigram * masked.weights).sum(),
        "unigram_sbo": (unigram * masked.sbo_weights).sum(),
    }


def _predict(
    graph_definition: nnx.GraphDef, params: Any, masked: MaskedBatch, batch: Batch, *, key: jax.Array | None
) -> ObjectiveSums:
    model = nnx.merge(graph_definition, params)
    mlm_logits, sbo_logits = model(masked, batch.segments, batch.positions, batch.types, key=key)
    return objective_sums(mlm_logits, sbo_logits, masked)


def _split_rows(x: jax.Array, parts: int) -> jax.Array:
    """[B, ...] -> [parts, B / parts, ...]; part p takes rows p, p + parts, ..., so that no row leaves its device."""
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)
