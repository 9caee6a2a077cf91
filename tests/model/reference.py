"""BERT and the span-boundary head, transcribed from their definitions in numpy float64, one loop per example."""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def layer_norm(x, norm, epsilon):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * norm["scale"] + norm["bias"]


def attend(x, segments, layer, num_heads):
    """One row: x [L, D], segments [L]."""
    length, width = x.shape
    head_size = width // num_heads
    kernel, bias = layer["qkv"]["kernel"], layer["qkv"]["bias"]  # [D, 3, N, H], [3, N, H]
    output = np.zeros((length, width))
    for head in range(num_heads):
        query, key, value = (x @ kernel[:, part, head] + bias[part, head] for part in range(3))
        for i in range(length):
            visible = [j for j in range(length) if segments[j] == segments[i]]
            scores = np.array([query[i] @ key[j] / math.sqrt(head_size) for j in visible])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            mixed = sum(weight * value[j] for weight, j in zip(weights, visible, strict=True))
            output[i] += mixed @ layer["attention_output"]["kernel"][head]
    return output + layer["attention_output"]["bias"]


def feed_forward(x, layer):
    inner = gelu(x @ layer["feed_forward_inner"]["kernel"] + layer["feed_forward_inner"]["bias"])
    return inner @ layer["feed_forward_outer"]["kernel"] + layer["feed_forward_outer"]["bias"]


def encode(params, config, tokens, segments, positions, types):
    """One row of [L] integers to hidden states [L, D]; `params` in float64."""
    embeddings, epsilon = params["encoder"]["embeddings"], config.layer_norm_epsilon
    x = np.array(
        [
            embeddings["word"]["embedding"][tokens[i]]
            + embeddings["position"]["embedding"][positions[i]]
            + embeddings["type"]["embedding"][types[i]]
            for i in range(len(tokens))
        ]
    )
    if config.normalization == "post":
        x = layer_norm(x, embeddings["norm"], epsilon)
    for index in range(config.num_layers):
        layer = _layer(params["encoder"]["layers"], index)
        if config.normalization == "post":
            x = layer_norm(x + attend(x, segments, layer, config.num_heads), layer["attention_norm"], epsilon)
            x = layer_norm(x + feed_forward(x, layer), layer["feed_forward_norm"], epsilon)
        else:
            normed = layer_norm(x, layer["attention_norm"], epsilon)
            x = x + attend(normed, segments, layer, config.num_heads)
            x = x + feed_forward(layer_norm(x, layer["feed_forward_norm"], epsilon), layer)
    return layer_norm(x, params["encoder"]["final_norm"], epsilon) if config.normalization == "pre" else x


def _layer(stacked, index):
    if isinstance(stacked, dict):
        return {name: _layer(value, index) for name, value in stacked.items()}
    return stacked[index]


def _transform(x, transform, epsilon):
    return layer_norm(gelu(x @ transform["dense"]["kernel"] + transform["dense"]["bias"]), transform["norm"], epsilon)


def mlm_logits(params, config, hidden, position):
    """Logits [pieces] for one masked position of hidden [L, D]."""
    x = _transform(hidden[position], params["mlm"]["transform"], config.layer_norm_epsilon)
    table = params["encoder"]["embeddings"]["word"]["embedding"][: config.vocab_size]
    return table @ x + params["mlm"]["bias"][: config.vocab_size]


def sbo_logits(params, config, hidden, left, right, offset):
    """Logits [pieces] for the target at 1-based `offset` of the span bounded by `left` and `right`."""
    place = params["sbo"]["position"]["embedding"][offset - 1]
    x = np.concatenate([hidden[left], hidden[right], place])
    x = _transform(x, params["sbo"]["first"], config.layer_norm_epsilon)
    x = _transform(x, params["sbo"]["second"], config.layer_norm_epsilon)
    table = params["encoder"]["embeddings"]["word"]["embedding"][: config.vocab_size]
    return table @ x + params["sbo"]["bias"][: config.vocab_size]


def cross_entropy(logits, target):
    largest = logits.max()
    return largest + math.log(np.exp(logits - largest).sum()) - logits[target]
