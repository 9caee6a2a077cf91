"""A run that takes seconds: one small layer with dropout, twelve updates."""

from pathlib import Path

from ml_collections import ConfigDict

from spanbert_jax.config import default_config, from_config_dict
from spanbert_jax.data.tokenizer import load_tokenizer
from spanbert_jax.training.config import PretrainConfig


def get_config() -> ConfigDict:
    config = default_config()
    config.data.length = 32
    config.data.batch_size = 8
    config.model.vocab_size = 35
    config.model.hidden_size = 32
    config.model.num_layers = 2
    config.model.num_heads = 4
    config.model.intermediate_size = 64
    config.model.max_positions = 32
    config.model.dtype = "float32"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 4
    config.training.steps = 12
    config.training.log_every = 1
    config.training.eval_every = 6
    config.training.eval_rows = 16
    config.training.checkpoint_every = 4
    return config


def pretrain_config(prepared: Path) -> PretrainConfig:
    """The same, reading a prepared folder."""
    config = get_config()
    config.data.sources = (str(prepared),)
    config.model.vocab_size = load_tokenizer(prepared).vocab_size
    return from_config_dict(config, PretrainConfig)
