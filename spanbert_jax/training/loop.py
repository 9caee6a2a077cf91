"""The training loop: steps, late metrics, evaluation, checkpoints and the ways to stop, for any task's step."""

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from spanbert_jax.errors import UserError
from spanbert_jax.training.checkpoint import Checkpoints
from spanbert_jax.training.config import TrainingConfig
from spanbert_jax.training.reporting import Reporter
from spanbert_jax.training.sharding import to_global
from spanbert_jax.training.state import TrainState

Metrics = dict[str, float]
_PROFILE_AFTER = 10


class Batches(Protocol):
    """An endless stream of this process's share of each batch, with a state that resumes it."""

    def __next__(self) -> Any: ...
    def state(self) -> dict[str, int]: ...
    def restore(self, state: dict[str, int]) -> None: ...
    def locate(self, batch_index: int) -> list[str]: ...


class Preemption:
    """Whether the run has been asked to stop: SIGTERM or Ctrl-C on one process, SIGTERM on any of several."""

    def __init__(self) -> None:
        self._signalled = False
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._signalled = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C stops at once

    def requested(self, step: int) -> bool:
        """Asked after each step; with several processes all of them get the same answer at the same step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._signalled


class Throughput:
    """Rates of the training steps alone: compilation, evaluation and saving are left out."""

    def __init__(self, *, flops: int, peak: float | None):
        """`flops` is the work of one step over all devices; `peak` that of one device per second, where known."""
        self._flops, self._peak = flops, peak
        self._steps, self._real_tokens, self._tokens, self._seconds = 0, 0, 0, 0.0
        self._window: list[tuple[float, int, int]] = []
        self._all_real_tokens, self._all_tokens = 0, 0

    def add(self, seconds: float | None, real_tokens: int, tokens: int) -> None:
        """Counts a step that took `seconds`; None where its time holds more than the step."""
        self._all_real_tokens += real_tokens
        self._all_tokens += tokens
        if seconds is None:
            return
        self._window.append((seconds, real_tokens, tokens))
        self._steps += 1
        self._seconds += seconds
        self._real_tokens += real_tokens
        self._tokens += tokens

    def window(self) -> Metrics:
        """Rates since the last call, under `time/*` names; empty where no step was counted."""
        if not self._window:
            return {}
        seconds, real_tokens, tokens = (sum(column) for column in zip(*self._window, strict=True))
        steps, self._window = len(self._window), []
        return {f"time/{name}": value for name, value in self._rates(seconds, real_tokens, tokens, steps).items()}

    def total(self) -> Metrics:
        """Rates over the whole run, where a step was timed, and the share of slots that held tokens."""
        fraction = {"real_token_fraction": self._all_real_tokens / max(self._all_tokens, 1)}
        if not self._steps:
            return fraction
        return fraction | self._rates(self._seconds, self._real_tokens, self._tokens, self._steps)

    def _rates(self, seconds: float, real_tokens: int, tokens: int, steps: int) -> Metrics:
        per_device = self._flops * steps / seconds / jax.device_count()
        rates = {
            "tokens_per_second": real_tokens / seconds,
            "padded_tokens_per_second": tokens / seconds,
            "seconds_per_step": seconds / steps,
            "teraflops_per_second": per_device / 1e12,
        }
        return rates | ({"utilisation": per_device / self._peak} if self._peak else {})


def run_loop(
    state: TrainState,
    step_function: Callable[[TrainState, Any], tuple[TrainState, Mapping[str, jax.Array]]],
    evaluate: Callable[[Any], Metrics],
    batches: Batches,
    *,
    config: TrainingConfig,
    config_json: Mapping[str, Any],
    batch_size: int,
    length: int,
    mesh: Mesh,
    checkpoints: Checkpoints,
    reporter: Reporter,
    throughput: Throughput,
    workdir: epath.PathLike,
) -> tuple[TrainState, Metrics | None]:
    """Trains from `state.step` to `config.steps`, or until asked to stop.

    Args:
      state: where to start; donated.
      step_function: jitted (state, global batch) -> (state, metrics); `metrics["row_loss"]` is [B], the rest scalars.
      evaluate: parameters -> metrics with at least "loss".
      batches: positioned at the batch of the next step.
      config: how long, and how often what.
      config_json: kept in every checkpoint.
      batch_size: B.
      length: L.
      mesh: what the batches are laid out on.
      checkpoints: where the state is saved.
      reporter: where metrics go.
      throughput: filled as steps pass.
      workdir: where profiler traces go.

    Returns:
      The last state, short of `config.steps` when asked to stop, and the last evaluation, if there was one.

    Raises:
      UserError: a loss or gradient that is not finite, or a checkpoint that cannot be saved.
    """
    preemption = Preemption()
    profiler = _Profiler(workdir, start=int(state.step) + _PROFILE_AFTER, steps=config.profile_steps)
    evaluation: Metrics | None = None
    pending: tuple[int, Mapping[str, jax.Array]] | None = None
    clock: float | None = None  # when the last step's metrics arrived; None after anything that is not a step

    def settle(fetch: tuple[int, Mapping[str, jax.Array]] | None) -> None:
        """Fetches a step's metrics, checks and reports them."""
        nonlocal clock
        if fetch is None:
            return
        step, arrays = fetch
        scalars = jax.device_get({name: value for name, value in arrays.items() if name != "row_loss"})
        metrics = {name: float(value) for name, value in scalars.items()}
        now = time.perf_counter()
        _check_finite(step, metrics, arrays["row_loss"], batches)
        real_tokens = int(metrics.pop("real_tokens"))
        throughput.add(None if clock is None else now - clock, real_tokens, batch_size * length)
        clock = now
        if step % config.log_every == 0 or step == config.steps:
            rates = throughput.window()
            logged = {f"train/{name}": value for name, value in metrics.items()} | rates
            if rates:
                seconds_left = (config.steps - step) * rates["time/seconds_per_step"]
                reporter.progress(step, logged, seconds_left=seconds_left)
            reporter.write(step, logged)

    for step in range(int(state.step) + 1, config.steps + 1):
        profiler.before(step, pending)
        state, metrics = step_function(state, to_global(next(batches), batch_size, mesh))
        settle(pending)
        pending = (step, metrics)
        stopping = preemption.requested(step)
        last = step == config.steps
        evaluating = last or step % config.eval_every == 0
        saving = last or stopping or step % config.checkpoint_every == 0
        if not (evaluating or saving):
            continue
        settle(pending)
        pending = None
        if evaluating:
            evaluation = evaluate(state.params)
            reporter.evaluation(step, evaluation)
        if saving:
            loss = evaluation["loss"] if evaluating and evaluation else None
            checkpoints.save(state, batches.state(), config_json, loss=loss)
        if stopping:
            break
        clock = None
    profiler.finish()
    checkpoints.wait()
    return state, evaluation


def _check_finite(step: int, metrics: Metrics, row_loss: jax.Array, batches: Batches) -> None:
    if all(math.isfinite(metrics[name]) for name in ("loss", "gradient_norm")):
        return
    places = np.flatnonzero(~np.isfinite(np.asarray(row_loss)))
    names = batches.locate(step - 1)
    rows = ", ".join(names[place] for place in places[:8]) or "none alone: every row's loss is finite"
    more = f" and {len(places) - 8} more" if len(places) > 8 else ""
    raise UserError(
        f"training: step {step} gave loss={metrics['loss']} with gradient norm {metrics['gradient_norm']}; rows whose "
        f"loss is not finite: {rows}{more}. Nothing was saved after it: start another --workdir with a lower "
        "optimizer.learning_rate, and with init_from=THIS_WORKDIR to keep what was learned"
    )


class _Profiler:
    """Traces `steps` updates from `start` on into the work folder's plugins/profile, where TensorBoard looks."""

    def __init__(self, workdir: epath.PathLike, *, start: int, steps: int):
        self._workdir, self._start, self._stop = str(workdir), start, start + steps
        self._enabled, self._tracing = steps > 0, False

    def before(self, step: int, pending: Any) -> None:
        """Starts or ends the trace ahead of `step`; `pending` holds the arrays of the step before."""
        if self._enabled and not self._tracing and self._start <= step < self._stop:
            jax.profiler.start_trace(self._workdir)
            self._tracing = True
        elif self._tracing and step >= self._stop:
            self.finish(pending)

    def finish(self, pending: Any = None) -> None:
        """Ends the trace once the work it should hold is done."""
        if self._tracing:
            jax.block_until_ready(pending)
            jax.profiler.stop_trace()
            self._enabled = self._tracing = False
