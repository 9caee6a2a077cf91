"""Pre-training put together: model, optimizer, mesh and jitted steps around the loop."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from spanbert_jax.data.blocks import Batch
from spanbert_jax.errors import UserError
from spanbert_jax.masking import Vocabulary
from spanbert_jax.masking.schemes import target_slots
from spanbert_jax.model.flops import peak_flops, training_flops
from spanbert_jax.training.checkpoint import Checkpoints, find_checkpoint, load_params
from spanbert_jax.training.config import PretrainConfig
from spanbert_jax.training.loop import Batches, Metrics, Throughput, run_loop
from spanbert_jax.training.losses import combined_loss
from spanbert_jax.training.optimizer import make_optimizer
from spanbert_jax.training.reporting import Reporter
from spanbert_jax.training.sharding import batch_sharding, replicated, to_global
from spanbert_jax.training.state import TrainState, graph_definition, init_state, state_shardings
from spanbert_jax.training.step import evaluation_step, train_step


def pretrain(
    config: PretrainConfig,
    config_json: Mapping[str, Any],
    workdir: epath.PathLike,
    mesh: Mesh,
    *,
    batches: Batches,
    heldout: Iterable[Batch],
    vocabulary: Vocabulary,
    log_unigram: jax.typing.ArrayLike,
) -> dict[str, Any] | None:
    """Trains in `workdir`, going on from its newest checkpoint where there is one.

    Args:
      config: the run.
      config_json: the same, JSON-able, to be kept in checkpoints.
      workdir: where checkpoints, metrics and events go.
      mesh: the device mesh, which `check_batch_size` has found to fit.
      batches: this process's rows of the training batches.
      heldout: this process's rows of the held-out batches, each of `data.batch_size` rows over all processes.
      vocabulary: what masking must know of the pieces.
      log_unigram: [V] smoothed log probabilities of the pieces in the training split.

    Returns:
      Final evaluation and throughput, or None when the run was asked to stop early.

    Raises:
      UserError: config and mesh do not fit, or training cannot go on.
    """
    started = time.perf_counter()
    with jax.set_mesh(mesh):
        optimizer = make_optimizer(config.optimizer, config.training.steps)
        checkpoints = Checkpoints(workdir, keep=config.training.keep_checkpoints)
        vocabulary, log_unigram = jax.device_put((vocabulary, log_unigram), replicated(mesh))
        bias = log_unigram if config.objective.unigram_bias else None
        state = _start(config, optimizer, mesh, checkpoints, batches, bias)
        restored_step = int(state.step)
        reporter = Reporter(workdir, steps=config.training.steps, restored_step=restored_step)
        throughput = Throughput(
            flops=training_flops(
                config.model,
                config.data.batch_size,
                config.data.length,
                target_slots(config.data.length, config.masking),
            ),
            peak=peak_flops(mesh.devices.flat[0]),
        )
        step = _jit_train_step(config, optimizer, state, mesh)
        evaluate = _evaluator(config, mesh, heldout, vocabulary, log_unigram)
        with contextlib.ExitStack() as stack:
            # Where the loop fails, its error is the one to tell, not what closing meets after it.
            stack.push(_close_quietly_on_error(reporter.close))
            stack.push(_close_quietly_on_error(checkpoints.close))
            state, evaluation = run_loop(
                state,
                lambda state, batch: step(state, batch, vocabulary),
                evaluate,
                batches,
                config=config.training,
                config_json=config_json,
                batch_size=config.data.batch_size,
                length=config.data.length,
                mesh=mesh,
                checkpoints=checkpoints,
                reporter=reporter,
                throughput=throughput,
                workdir=workdir,
            )
        if int(state.step) < config.training.steps:
            return None
        if evaluation is None:  # killed between the last checkpoint and the summary
            evaluation = evaluate(state.params)
    return {
        "eval": evaluation,
        "steps": int(state.step),
        **throughput.total(),
        "seconds": time.perf_counter() - started,
    }


def _close_quietly_on_error(close: Callable[[], None]) -> Callable[..., None]:
    def on_exit(error_type: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(Exception) if error_type else contextlib.nullcontext():
            close()

    return on_exit


def _start(
    config: PretrainConfig,
    optimizer: Any,
    mesh: Mesh,
    checkpoints: Checkpoints,
    batches: Batches,
    bias: jax.typing.ArrayLike | None,
) -> TrainState:
    """The newest checkpoint's state, else a fresh one, with `batches` moved to match."""
    initialize = functools.partial(init_state, config.model, optimizer, config.training.seed)
    shapes = jax.eval_shape(initialize, bias=bias)
    shardings = state_shardings(shapes, optimizer, mesh)
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
    )
    if checkpoints.latest_step is not None:
        state, data_state = checkpoints.restore(abstract)
        if int(state.step) > config.training.steps:
            raise UserError(
                f"training.steps={config.training.steps}, but --workdir has already done {int(state.step)}; raise it "
                "with --extend"
            )
        batches.restore(data_state)
        return state
    state = jax.jit(initialize, out_shardings=shardings)(bias=bias)
    if config.init_from:
        state = state._replace(params=load_params(find_checkpoint(config.init_from), abstract.params))
    return state


def _jit_train_step(config: PretrainConfig, optimizer: Any, state: TrainState, mesh: Mesh) -> Any:
    return jax.jit(
        functools.partial(
            train_step,
            graph_definition=graph_definition(config.model),
            optimizer=optimizer,
            masking=config.masking,
            objective=config.objective,
            accumulation_steps=config.optimizer.accumulation_steps,
            seed=config.training.seed,
        ),
        donate_argnums=0,
        out_shardings=(state_shardings(state, optimizer, mesh), replicated(mesh)),
    )


def _evaluator(
    config: PretrainConfig,
    mesh: Mesh,
    heldout: Iterable[Batch],
    vocabulary: Vocabulary,
    log_unigram: jax.typing.ArrayLike,
) -> Any:
    """A function from parameters to evaluation metrics, over held-out batches that stay on the devices."""
    batch_size = config.data.batch_size
    global_batches = [to_global(batch, batch_size, mesh) for batch in heldout]
    if not global_batches:
        raise UserError(
            "data.sources: no held-out rows, because documents are held out whole and are few; prepare again from more "
            "documents (--format says how text is parted into them) or with a larger --heldout_fraction"
        )
    rows = [
        jax.device_put(np.arange(batch_size, dtype=np.int32) + batch_size * index, batch_sharding(mesh))
        for index in range(len(global_batches))
    ]
    masking = dataclasses.replace(config.masking, mask_rate=config.training.eval_mask_rate, max_mask_rate=None)
    step = jax.jit(
        functools.partial(evaluation_step, graph_definition=graph_definition(config.model), masking=masking),
        out_shardings=replicated(mesh),
    )

    def evaluate(params: Any) -> Metrics:
        totals: Metrics = {}
        for batch, numbers in zip(global_batches, rows, strict=True):
            for name, value in jax.device_get(step(params, batch, numbers, vocabulary, log_unigram)).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return summarize_evaluation(totals, config)

    return evaluate


def summarize_evaluation(totals: Metrics, config: PretrainConfig) -> Metrics:
    """Means of the sums that `evaluation_step` gives, with perplexity and the unigram entropies (nats)."""
    mlm_count, sbo_count = max(totals["mlm_count"], 1.0), max(totals["sbo_count"], 1.0)
    mlm_loss = totals["mlm_loss"] / mlm_count
    return {
        "loss": float(combined_loss(totals["mlm_loss"], mlm_count, totals["sbo_loss"], sbo_count, config.objective)),
        "mlm_loss": mlm_loss,
        "mlm_accuracy": totals["mlm_correct"] / mlm_count,
        "mlm_perplexity": float(np.exp(min(mlm_loss, 700.0))),
        "sbo_loss": totals["sbo_loss"] / sbo_count,
        "sbo_accuracy": totals["sbo_correct"] / sbo_count,
        "unigram_entropy": totals["unigram"] / mlm_count,
        "unigram_entropy_sbo": totals["unigram_sbo"] / sbo_count,
        "targets": totals["mlm_count"],
        "targets_sbo": totals["sbo_count"],
    }
