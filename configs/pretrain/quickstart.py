"""A SpanBERT that two cores train in minutes on the documentation that every Python holds.

    python -m spanbert_jax.prepare --input=builtin:docs --tokenizer=wordpiece --vocab_size=2048 --max_length=64 \\
        --output_dir=runs/quickstart-data
    python -m spanbert_jax.pretrain --config=configs/pretrain/quickstart.py --workdir=runs/quickstart

Cost: about four minutes on two cores (5.6M slots, 2.6 epochs).
Result to expect: held-out losses of about 5.5 (MLM) and 5.85 (SBO), 0.85 and 0.55 nats below the unigram entropies of
their targets.
"""

from pathlib import Path

from ml_collections import ConfigDict

from spanbert_jax.config import apply_preset, default_config

_REPOSITORY = Path(__file__).resolve().parents[2]


def get_config(preset: str = "") -> ConfigDict:
    """What leaves the unigram plateau soonest on few tokens."""
    config = default_config()
    config.data.sources = (str(_REPOSITORY / "runs" / "quickstart-data"),)
    config.data.length = 64
    config.data.batch_size = 16
    # Short runs learn from targets, of which 0.15 gives few; evaluation masks 0.15 all the same.
    config.masking.mask_rate = 0.4
    config.model.vocab_size = 2048
    config.model.hidden_size = 128
    config.model.num_layers = 2
    config.model.num_heads = 2
    config.model.intermediate_size = 256
    config.model.max_positions = 64
    config.model.normalization = "pre"
    config.model.dropout = 0.0
    config.model.attention_dropout = 0.0
    # 0.02 suits a width of 768; products keep their scale when the spread grows as the root of the width shrinks.
    config.model.initializer_range = 0.08
    config.model.dtype = "float32"
    config.objective.unigram_bias = True
    config.optimizer.learning_rate = 1.2e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.beta2 = 0.99
    config.optimizer.weight_decay = 0.01
    config.training.steps = 5500
    config.training.log_every = 20
    config.training.eval_every = 500
    config.training.eval_rows = 256
    config.training.checkpoint_every = 500
    apply_preset(config, preset)
    return config
