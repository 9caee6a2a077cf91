"""Checkpoints: parameters, optimizer state, step, data-iterator state and config, saved while training goes on."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from orbax.checkpoint import v1 as ocp

from spanbert_jax.errors import UserError, is_disk_full
from spanbert_jax.training.state import TrainState

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one work folder: the newest few and the best, each whole or absent."""

    def __init__(self, workdir: epath.PathLike, *, keep: int):
        policies = ocp.training.preservation_policies
        self._folder = _absolute(workdir) / FOLDER
        self._checkpointer = ocp.training.Checkpointer(
            self._folder,
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep),
                    policies.BestN(
                        get_metric_fn=lambda metrics: metrics["loss"],
                        reverse=True,
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    @property
    def latest_step(self) -> int | None:
        """The newest step saved, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(
        self, state: TrainState, data_state: Mapping[str, int], config: Mapping[str, Any], *, loss: float | None
    ) -> None:
        """Starts saving; `state` may be donated as soon as this returns.

        Args:
          state: what to save.
          data_state: the loader's state.
          config: the run's config, JSON-able.
          loss: evaluation loss at this step, by which the best is kept; None where there was no evaluation.

        Raises:
          UserError: this save or the one before it failed.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        try:
            self._checkpointer.save_checkpointables_async(
                step,
                {"params": state.params, "opt_state": state.opt_state},
                metrics=None if loss is None else {"loss": loss},
                custom_metadata={"config": dict(config), "data": dict(data_state)},
                force=True,  # otherwise Orbax silently skips a save while the one before it is under way
            )
        except Exception as error:
            raise self._save_error(error) from error

    def wait(self) -> None:
        """Returns once the save under way is on disk.

        Raises:
          UserError: it failed.
        """
        try:
            self._checkpointer.wait()
        except Exception as error:
            raise self._save_error(error) from error

    def restore(self, state: TrainState) -> tuple[TrainState, dict[str, int]]:
        """Loads the newest checkpoint onto the shardings of `state` (arrays or their shapes); also the loader's state.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        step = self.latest_step
        try:
            metadata = self._checkpointer.metadata(step).custom_metadata
            loaded = self._checkpointer.load_checkpointables(
                step, {"params": state.params, "opt_state": state.opt_state}
            )
        except Exception as error:
            raise UserError(_cannot_read(self._folder / str(step), error)) from error
        step_array = jax.device_put(jnp.asarray(step, jnp.int32), state.step.sharding)
        return TrainState(step_array, loaded["params"], loaded["opt_state"]), metadata["data"]

    def close(self) -> None:
        """Waits for the save under way and frees the threads."""
        self._checkpointer.close()

    def _save_error(self, error: Exception) -> UserError:
        text = " ".join(str(error).split())
        reason = "the disk is full; free some space" if is_disk_full(error) else f"{text[:300]}; mend that"
        return UserError(
            f"--workdir: cannot save a checkpoint in {self._folder}: {reason} and run the same command again, which "
            "resumes from the last whole checkpoint"
        )


def find_checkpoint(path: epath.PathLike) -> epath.Path:
    """The checkpoint that a model argument names: the newest of a work folder, or the checkpoint itself.

    Raises:
      UserError: there is none.
    """
    folder = _absolute(path)
    if not folder.exists():
        raise UserError(f"{path}: no such folder; expected a work folder or a checkpoint")
    if (folder / FOLDER).exists():
        steps = finished_steps(folder)
        if not steps:
            raise UserError(f"{path}: holds no finished checkpoint; train further, or name another folder")
        return folder / FOLDER / str(steps[-1])
    if not (folder / "params").exists():
        raise UserError(f"{path}: neither a work folder (with {FOLDER}/) nor a checkpoint (with params/)")
    return folder


def finished_steps(workdir: epath.PathLike) -> list[int]:
    """The steps of the whole checkpoints in a work folder, oldest first."""
    folder = _absolute(workdir) / FOLDER
    if not folder.exists():
        return []
    # An object store cannot rename a finished save into place: Orbax marks it instead.
    marker = "commit_success.txt" if "://" in str(folder) else ""
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit() and (entry / marker).exists())


def load_params(checkpoint: epath.PathLike, params: Any) -> Any:
    """Loads the parameters of a checkpoint, and nothing else.

    Args:
      checkpoint: as `find_checkpoint` returns it.
      params: nested dict of arrays or shapes, with the shardings to load onto.

    Raises:
      UserError: it cannot be read, or holds other parameters.
    """
    try:
        return ocp.load_checkpointables(checkpoint, {"params": params})["params"]
    except Exception as error:
        raise UserError(_cannot_read(checkpoint, error)) from error


def _absolute(path: epath.PathLike) -> epath.Path:
    """Orbax takes no relative paths; object stores have none."""
    return epath.Path(path) if "://" in str(path) else epath.Path(os.path.abspath(path))


def _cannot_read(checkpoint: epath.PathLike, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{checkpoint}: cannot restore this checkpoint ({text}); delete it to go on from an older one"
