"""Pre-trains: `python -m spanbert_jax.pretrain --config=configs/pretrain/base.py --workdir=W`."""

import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath
from ml_collections import config_flags

from spanbert_jax import cli
from spanbert_jax.config import check_resumable, from_config_dict, to_json
from spanbert_jax.data.loader import Loader, heldout_batches
from spanbert_jax.data.shards import METADATA, PreparedFolder, read_prepared
from spanbert_jax.data.tokenizer import Tokenizer, load_tokenizer
from spanbert_jax.errors import UserError, is_disk_full
from spanbert_jax.masking import Vocabulary
from spanbert_jax.training.checkpoint import finished_steps
from spanbert_jax.training.config import PretrainConfig
from spanbert_jax.training.pretraining import pretrain
from spanbert_jax.training.reporting import write_text
from spanbert_jax.training.sharding import batch_groups, check_batch_size, initialize_processes, make_mesh

_CONFIG = config_flags.DEFINE_config_file("config", None, "The run's config file; any key can be overridden.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; a folder or gs:// path.", required=True)
_EXTEND = flags.DEFINE_bool("extend", False, "Train a finished or unfinished run for more training.steps.")
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    """Runs the config in the work folder, or goes on with what is there."""
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r}; flags look like --workdir=DIR")
    initialize_processes()
    summary = run(from_config_dict(_CONFIG.value, PretrainConfig), _WORKDIR.value, extend=_EXTEND.value)
    if summary is not None and jax.process_index() == 0:
        print(json.dumps(summary, indent=2))


def run(config: PretrainConfig, workdir: epath.PathLike, *, extend: bool = False) -> dict[str, Any] | None:
    """Pre-trains and leaves a work folder that is enough to use the model.

    Args:
      config: the run.
      workdir: where everything goes; a folder that holds a run of the same config is resumed.
      extend: whether `training.steps` may exceed that of the run being resumed.

    Returns:
      What summary.json holds, or None when the run was asked to stop early.

    Raises:
      UserError: config, data, mesh and work folder do not fit together, or training cannot go on.
    """
    try:
        return _run(_with_absolute_sources(config), epath.Path(workdir), extend=extend)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(
                f"--workdir={workdir}: the disk is full; free some space and run the same command again, which resumes "
                "from the last whole checkpoint"
            ) from error
        raise


def _run(config: PretrainConfig, workdir: epath.Path, *, extend: bool) -> dict[str, Any] | None:
    mesh = make_mesh(config.mesh)
    check_batch_size(config.data.batch_size, config.optimizer.accumulation_steps, mesh)
    folders = [
        read_prepared(source, expected_length=config.data.length, expected_vocab_size=config.model.vocab_size)
        for source in config.data.sources
    ]
    tokenizer = common_tokenizer(folders)
    config_json = to_json(config)
    prepare_workdir(workdir, config_json, tokenizer, extend=extend)
    summary_file = workdir / "summary.json"
    if summary_file.exists() and finished_steps(workdir)[-1:] == [config.training.steps]:
        logging.info("all %d steps were done before; nothing to do", config.training.steps)
        return json.loads(summary_file.read_text())

    group, groups = batch_groups(mesh)
    batches = Loader(
        folders,
        weights=config.data.weights,
        length=config.data.length,
        batch_size=config.data.batch_size,
        group=group,
        groups=groups,
        seed=config.training.seed,
        workers=config.data.workers,
    )
    heldout = heldout_batches(
        folders,
        config.data.length,
        config.data.batch_size,
        config.training.eval_rows,
        group=group,
        groups=groups,
    )
    log_unigram = mixed_log_unigram(folders, config.data.weights)
    vocabulary = Vocabulary(
        tokenizer.is_word_start, tokenizer.is_special, log_unigram, np.asarray(tokenizer.mask_id, np.int32)
    )
    logging.info("training to step %d in %s; compiling first", config.training.steps, workdir)
    try:
        metrics = pretrain(
            config,
            config_json,
            workdir,
            mesh,
            batches=batches,
            heldout=heldout,
            vocabulary=vocabulary,
            log_unigram=log_unigram,
        )
    finally:
        batches.close()
    if metrics is None:
        logging.info("asked to stop: saved; run the same command again to go on")
        return None
    summary = {**metrics, "environment": environment()}
    if jax.process_index() == 0:
        write_text(summary_file, json.dumps(summary, indent=2) + "\n")
    return summary


def _with_absolute_sources(config: PretrainConfig) -> PretrainConfig:
    """A run may be resumed from another directory."""
    sources = tuple(source if "://" in source else os.path.abspath(source) for source in config.data.sources)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources))


def common_tokenizer(folders: Sequence[PreparedFolder]) -> Tokenizer:
    """The tokenizer that all sources were prepared with.

    Raises:
      UserError: two sources differ in it, or its files were replaced.
    """
    for folder in folders[1:]:
        if folder.tokenizer_fingerprint != folders[0].tokenizer_fingerprint:
            raise UserError(
                f"data.sources: {folders[0].path} and {folder.path} were prepared with different tokenizers; prepare "
                "both with the same --tokenizer"
            )
    tokenizer = load_tokenizer(folders[0].path)
    if tokenizer.fingerprint() != folders[0].tokenizer_fingerprint:
        raise UserError(
            f"data.sources: the tokenizer in {folders[0].path} is not the one its rows were made with; restore its "
            "files or prepare the folder again"
        )
    return tokenizer


def mixed_log_unigram(folders: Sequence[PreparedFolder], weights: Sequence[float]) -> np.ndarray:
    """Log probabilities [V] of the pieces in the mixture of the sources' training splits."""
    if len(folders) == 1:
        return folders[0].log_unigram.astype(np.float32)
    shares = np.array(weights or [folder.rows("train") for folder in folders], np.float64)
    mixture = sum(
        share * np.exp(folder.log_unigram) for share, folder in zip(shares / shares.sum(), folders, strict=True)
    )
    with np.errstate(divide="ignore"):
        return np.log(mixture).astype(np.float32)


def prepare_workdir(workdir: epath.Path, config_json: dict[str, Any], tokenizer: Tokenizer, *, extend: bool) -> None:
    """Writes config and tokenizer into a new work folder, or checks that an old one is of the same run.

    A folder without a whole checkpoint holds nothing that another config could spoil.

    Raises:
      UserError: the folder holds another run, or cannot be one.
    """
    config_file = workdir / "config.json"
    if (workdir / METADATA).exists():
        raise UserError(f"--workdir={workdir} is a prepared folder; give another for the run")
    try:
        if config_file.exists() and finished_steps(workdir):
            check_resumable(json.loads(config_file.read_text()), config_json, workdir=str(workdir), extend=extend)
        if jax.process_index() != 0:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(config_file, json.dumps(config_json, indent=2) + "\n")
    except json.JSONDecodeError as error:
        raise UserError(f"--workdir={workdir}: its config.json is not JSON ({error}); restore it") from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(f"--workdir={workdir}: cannot be a work folder ({error}); give another") from None
    with tempfile.TemporaryDirectory() as staging:
        tokenizer.save(staging)
        for path in Path(staging).iterdir():
            (workdir / path.name).write_bytes(path.read_bytes())


def environment() -> dict[str, Any]:
    """What a throughput figure must be read with."""
    device = jax.devices()[0]
    return {
        "jax": jax.__version__,
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


if __name__ == "__main__":
    cli.run(main)
