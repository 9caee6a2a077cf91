"""SpanBERT-large: the paper's model and schedule (Joshi et al. 2020, section 4.2).

    python -m spanbert_jax.prepare --input=TEXT --tokenizer=vocab.txt --max_length=512 --output_dir=DATA
    python -m spanbert_jax.pretrain --config=configs/pretrain/large.py --config.data.sources=DATA --workdir=W

Append ":paper" or ":code" to the file's name for either side of what the paper and its code do differently
(docs/presets.md). On few devices, add --config.optimizer.accumulation_steps=N to keep the batch.

Cost: 2.4M updates of 256 x 512 tokens, 2.6e14 FLOPs of matrix products each, 6.4e20 in all (15 days on 32 V100 for the
authors; computed, two and a half days on eight H100 at 40% of their peak).
Result to expect: the authors report 94.6 F1 on SQuAD 1.1, 88.7 F1 on SQuAD 2.0 (test) after fine-tuning, and 79.6
average F1 on OntoNotes coreference.
"""

from ml_collections import ConfigDict

from spanbert_jax.config import apply_preset, default_config


def get_config(preset: str = "") -> ConfigDict:
    """BERT-large, with layers recomputed in the backward pass but for their matrix products."""
    config = default_config()
    config.training.steps = 2_400_000
    config.model.hidden_size = 1024
    config.model.num_layers = 24
    config.model.num_heads = 16
    config.model.intermediate_size = 4096
    config.model.remat = "dots"
    apply_preset(config, preset)
    return config
