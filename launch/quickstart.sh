#!/usr/bin/env bash
# From nothing to a small SpanBERT: environment, rows, training, filled masks, curves. PYTHON picks the interpreter
# (default python3). Run again, it goes on from where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
python -m spanbert_jax.prepare --input=builtin:docs --tokenizer=wordpiece --vocab_size=2048 --max_length=64 \
  --output_dir=runs/quickstart-data
python -m spanbert_jax.pretrain --config=configs/pretrain/quickstart.py --workdir=runs/quickstart
python -m spanbert_jax.predict --task=fill_mask --model=runs/quickstart \
  "The [MASK] [MASK] of a list is returned ." \
  "If the file does not [MASK] , an error is raised ." \
  "Return a new array with the same [MASK] and [MASK] as the input ."
python - <<'END'
import json
summary = json.load(open("runs/quickstart/summary.json"))
evaluation = summary["eval"]
print(f"""
held out, nats     MLM {evaluation['mlm_loss']:.2f} (unigram {evaluation['unigram_entropy']:.2f})   \
SBO {evaluation['sbo_loss']:.2f} (unigram {evaluation['unigram_entropy_sbo']:.2f})
speed              {summary.get('tokens_per_second', 0):,.0f} tokens/s, {summary['seconds']:.0f} s in all
curves             runs/quickstart/curves.png
summary            runs/quickstart/summary.json
work folder        runs/quickstart (model, tokenizer, metrics, TensorBoard events)
prepared rows      runs/quickstart-data""")
END
