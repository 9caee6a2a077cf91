"""A small SpanBERT for one accelerator and an afternoon: 12 layers, 256 wide.

    python -m spanbert_jax.prepare --input=TEXT --tokenizer=vocab.txt --max_length=512 --output_dir=DATA
    python -m spanbert_jax.pretrain --config=configs/pretrain/small.py --config.data.sources=DATA --workdir=W

Cost: 250k updates of 128 x 512 tokens, 5.8e12 FLOPs of matrix products each, 1.5e18 in all: computed, two to four hours
on one H100, whose peak a model this narrow does not reach.
Result to expect: none is measured yet; both held-out losses should fall below their unigram entropies within the first
evaluation (5,000 updates).
"""

from ml_collections import ConfigDict

from spanbert_jax.config import apply_preset, default_config


def get_config(preset: str = "") -> ConfigDict:
    """ELECTRA-small's shape with BERT's embeddings, and a higher rate than the paper's, as small models take."""
    config = default_config()
    config.data.batch_size = 128
    config.model.hidden_size = 256
    config.model.num_layers = 12
    config.model.num_heads = 4
    config.model.intermediate_size = 1024
    config.optimizer.learning_rate = 5e-4
    config.optimizer.beta2 = 0.98
    config.training.steps = 250_000
    config.training.eval_every = 5_000
    config.training.checkpoint_every = 5_000
    apply_preset(config, preset)
    return config
