"""What `prepare` prints at the end: a table of what a prepared folder holds."""

import numpy as np

from spanbert_jax.data.shards import PreparedFolder, unigram_entropy

_LINES = {
    "documents": "documents",
    "documents_without_tokens": "documents without a token",
    "sentences": "sentences",
    "split_sentences": "sentences split, being longer than a row",
    "sentences_without_tokens": "sentences without a token",
    "blocks": "blocks",
    "rows": "rows",
    "tokens": "tokens, [CLS] and [SEP] counted",
    "fill": "share of slots filled",
}


def _cut(prepared: PreparedFolder) -> list[tuple[str, int]]:
    return [(name, n) for name, n in prepared.metadata["reading"].items() if n and name != "documents"]


def describe(prepared: PreparedFolder) -> str:
    """A table of both splits, then the vocabulary and what reading the corpus cut or mended."""
    splits = prepared.metadata["splits"]
    rows = [("", "train", "held out")]
    for name, label in _LINES.items():
        values = [splits[split].get(name, 0) for split in ("train", "heldout")]
        if any(values) or not name.startswith(("documents_", "sentences_", "split")):
            train, heldout = (f"{value:.2%}" if name == "fill" else f"{value:,}" for value in values)
            rows.append((label, train, heldout))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [f"{label:<{widths[0]}}  {train:>{widths[1]}}  {heldout:>{widths[2]}}" for label, train, heldout in rows]
    cuts = [f"while reading, {name.replace('_', ' ')}: {n:,}" for name, n in _cut(prepared)]
    if not splits["heldout"].get("rows"):
        cuts.append(
            "nothing is held out, so pretrain cannot evaluate: documents are held out whole, and there are few here; "
            "part the text into documents (--format says how it is read) or raise --heldout_fraction"
        )
    entropy = unigram_entropy(prepared.log_unigram, prepared.histogram)
    used = int(np.count_nonzero(prepared.histogram))
    vocabulary = f"vocabulary: {prepared.vocab_size:,} pieces, {used:,} of them in the training text"
    frequencies = f"unigram entropy of the training text: {entropy:.3f} nats a token"
    return "\n".join([*table, *cuts, vocabulary, frequencies, f"prepared in {prepared.path}"])
