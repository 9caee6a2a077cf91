"""All settings of a pre-training run, as frozen dataclasses grouped by room."""

import dataclasses

from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskingConfig
from spanbert_jax.model.config import ModelConfig
from spanbert_jax.training.losses import ObjectiveConfig
from spanbert_jax.training.optimizer import OptimizerConfig
from spanbert_jax.training.sharding import MeshConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What rows to train on.

    Attributes:
      sources: folders made by `prepare`.
      weights: share of rows that each source gives; empty means in proportion to their size.
      length: L, row length, which must be that of the folders.
      batch_size: B, rows per update over all devices.
      workers: processes that read rows; 0 reads in a thread of the training process.
    """

    sources: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    length: int = 512
    batch_size: int = 256
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("data.sources is empty; give the folders that `prepare` made, as in data.sources=DIR")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long to train and what to leave behind.

    Attributes:
      steps: updates in all.
      seed: decides initialisation, row order, masks and dropout.
      log_every: updates between lines of training metrics.
      eval_every: updates between evaluations on the held-out split; there is always one at the end.
      eval_rows: held-out rows that an evaluation reads, at most.
      eval_mask_rate: share of their tokens that is masked, whatever training masks, so that runs compare.
      checkpoint_every: updates between checkpoints; there is always one at the end.
      keep_checkpoints: newest checkpoints kept, beside the best by evaluation loss.
      profile_steps: updates to trace with the profiler, from the tenth after the start; 0 traces none.
    """

    steps: int = 1_000_000
    seed: int = 0
    log_every: int = 100
    eval_every: int = 10_000
    eval_rows: int = 4096
    eval_mask_rate: float = 0.15
    checkpoint_every: int = 10_000
    keep_checkpoints: int = 2
    profile_steps: int = 0

    def __post_init__(self) -> None:
        for key in ("steps", "log_every", "eval_every", "eval_rows", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, key) < 1:
                raise UserError(f"training.{key}={getattr(self, key)}: expected at least 1")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """A pre-training run.

    Attributes:
      data: rows.
      masking: spans and their corruption.
      model: encoder and heads.
      objective: the losses' weights.
      optimizer: AdamW and its schedule.
      training: duration and reports.
      mesh: how devices are laid out.
      init_from: a work folder or checkpoint to take parameters from; empty starts from random ones.
    """

    data: DataConfig
    masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    init_from: str = ""

    def __post_init__(self) -> None:
        if self.masking.max_span_targets > self.model.num_span_positions:
            raise UserError(
                f"masking.max_span_targets={self.masking.max_span_targets} exceeds model.num_span_positions="
                f"{self.model.num_span_positions}; raise the latter"
            )
        if self.data.length > self.model.max_positions:
            raise UserError(
                f"data.length={self.data.length} exceeds model.max_positions={self.model.max_positions}; raise the "
                "latter or prepare shorter rows"
            )
