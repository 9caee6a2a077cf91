"""SpanBERT-base: BERT-base, cased, with span masking and the span-boundary objective (Joshi et al. 2020).

    python -m spanbert_jax.prepare --input=TEXT --tokenizer=vocab.txt --max_length=512 --output_dir=DATA
    python -m spanbert_jax.pretrain --config=configs/pretrain/base.py --config.data.sources=DATA --workdir=W

Append ":paper" or ":code" to the file's name for either side of what the paper and its code do differently
(docs/presets.md).

Cost: 2.4M updates of 256 x 512 tokens, 8.0e13 FLOPs of matrix products each, 1.9e20 in all: computed, five to six days
on one H100 at 40% of its peak.
Result to expect: the authors report 92.4 F1 on SQuAD 1.1 and 83.6 F1 on SQuAD 2.0 (dev) after fine-tuning.
"""

from ml_collections import ConfigDict

from spanbert_jax.config import apply_preset, default_config


def get_config(preset: str = "") -> ConfigDict:
    """BERT-base is what every key defaults to; the schedule is the paper's (section 4.2)."""
    config = default_config()
    config.training.steps = 2_400_000
    apply_preset(config, preset)
    return config
