"""The shape of the encoder, as a frozen dataclass that every model module is built from."""

import dataclasses
from typing import Literal

from spanbert_jax.errors import UserError

VOCABULARY_MULTIPLE = 128


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A BERT encoder with masked-language and span-boundary heads; the defaults are BERT-base, cased.

    Attributes:
      vocab_size: pieces of the tokenizer; tables are padded to the next multiple of 128.
      hidden_size: D, the width of the residual stream.
      num_layers: transformer layers.
      num_heads: N; the head width H is D / N.
      intermediate_size: F, the width of the feed-forward layer.
      max_positions: rows of the learned position table, the longest block the model can read.
      num_types: token types; pre-training on single sequences uses type 0 alone.
      normalization: "post" puts LayerNorm after each residual addition (BERT, the paper); "pre" puts one before each
        sublayer and one at the end, with none on the embeddings (MegatronBert).
      dropout: rate on embeddings and sublayer outputs.
      attention_dropout: rate on attention probabilities.
      layer_norm_epsilon: added to the variance in LayerNorm.
      initializer_range: standard deviation of the normal distribution that weights are drawn from.
      num_span_positions: rows of the span-boundary head's position table; targets further into a span than this have
        no span-boundary loss, so `masking.max_span_targets` may not exceed it.
      span_position_size: width of that table (200 in the paper, section 3.2).
      dtype: type of activations and matrix products; parameters, LayerNorm statistics, softmax and logits are float32.
      remat: what the backward pass recomputes: "none", "dots" (everything but matrix products), "full" (each layer).
    """

    vocab_size: int = 28_996
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    num_types: int = 2
    normalization: Literal["post", "pre"] = "post"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    num_span_positions: int = 15
    span_position_size: int = 200
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    remat: Literal["none", "dots", "full"] = "none"

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise UserError(
                f"model.num_heads={self.num_heads} does not divide model.hidden_size={self.hidden_size}; "
                "choose a divisor of it"
            )
        for rate in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, rate) < 1:
                raise UserError(f"model.{rate}={getattr(self, rate)} is not a rate; expected 0 <= rate < 1")
        for size in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions"):
            if getattr(self, size) < 1:
                raise UserError(f"model.{size}={getattr(self, size)}: expected at least 1")

    @property
    def padded_vocab_size(self) -> int:
        """V: `vocab_size` rounded up to a multiple of 128, so that the vocabulary tiles and shards evenly."""
        return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @property
    def head_size(self) -> int:
        """H, the width of one attention head."""
        return self.hidden_size // self.num_heads
