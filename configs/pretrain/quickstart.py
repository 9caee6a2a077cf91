"""A SpanBERT that a laptop's processor trains in a few minutes on the documentation every Python holds.

    python -m spanbert_jax.prepare --input=builtin:docs --tokenizer=wordpiece --vocab_size=2048 --max_length=128 \\
        --output_dir=runs/quickstart-data
    python -m spanbert_jax.pretrain --config=configs/pretrain/quickstart.py --workdir=runs/quickstart
"""

from pathlib import Path

from ml_collections import ConfigDict

from spanbert_jax.config import default_config

_REPOSITORY = Path(__file__).resolve().parents[2]


def get_config() -> ConfigDict:
    """Pre-LN, no dropout and a high rate: what leaves the unigram plateau soonest."""
    config = default_config()
    config.data.sources = (str(_REPOSITORY / "runs" / "quickstart-data"),)
    config.data.length = 128
    config.data.batch_size = 32
    config.model.vocab_size = 2048
    config.model.hidden_size = 128
    config.model.num_layers = 4
    config.model.num_heads = 4
    config.model.intermediate_size = 512
    config.model.max_positions = 128
    config.model.normalization = "pre"
    config.model.dropout = 0.0
    config.model.attention_dropout = 0.0
    config.model.dtype = "float32"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.beta2 = 0.98
    config.optimizer.weight_decay = 0.01
    config.training.steps = 1000
    config.training.log_every = 20
    config.training.eval_every = 250
    config.training.eval_rows = 256
    config.training.checkpoint_every = 500
    return config
