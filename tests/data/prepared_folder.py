"""A tiny prepared folder written by hand, for tests of whatever reads one."""

import hashlib
import json
from pathlib import Path

import numpy as np

from spanbert_jax.data.blocks import encode_row
from spanbert_jax.data.shards import shard_name, write_records

LENGTH = 8
CLS, SEP = 2, 3


def write_folder(folder: Path, train=(5, 4), heldout=(3,), *, first_token=10, fingerprint="tiny", **changes) -> Path:
    """Shards of the given row counts; row i of the folder is [CLS] i+first_token [SEP], so that rows can be told."""
    folder.mkdir(parents=True, exist_ok=True)
    histogram = np.zeros(128, int)
    token = first_token
    shards = []
    for split, counts in (("train", train), ("heldout", heldout)):
        for index, rows in enumerate(counts):
            path = folder / shard_name(split, index, len(counts))
            tokens = range(token, token + rows)
            token += rows
            write_records(path, (encode_row([np.array([CLS, t, SEP])], np.dtype("<u2")) for t in tokens))
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            shards.append({"file": path.name, "split": split, "rows": rows, "bytes": len(data), "sha256": digest})
            if split == "train":
                histogram[list(tokens)] += 1
    metadata = {
        "format_version": 1,
        "max_length": LENGTH,
        "packed": True,
        "seed": 0,
        "vocab_size": 100,
        "padded_vocab_size": 128,
        "tokenizer": {"kind": "wordpiece", "fingerprint": fingerprint},
        "splits": {},
        "shards": shards,
        "token_histogram": histogram.tolist(),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata | changes))
    return folder
