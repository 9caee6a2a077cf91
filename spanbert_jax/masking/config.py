"""What masking is told: the numbers of a scheme, and what it must know of the vocabulary."""

import dataclasses
from fractions import Fraction
from typing import Any, NamedTuple

from spanbert_jax.errors import UserError, did_you_mean

CHOICES = {
    "scheme": ("span_geometric",),
    "anchor": ("token", "word"),
    "replacement_unit": ("run", "token"),
    "random_tokens": ("unigram", "uniform"),
    "endpoints": ("external", "internal"),
}


class Vocabulary(NamedTuple):
    """The part of a tokenizer that masking needs, as arrays, so that it can be an argument of a jitted step.

    `is_word_start [V]` and `is_special [V]` are bool. `log_unigram [V]` is float32 and need not be normalised; -inf
    keeps an id from ever being drawn, and special ids are never drawn whatever it says. `mask_id` is [MASK]'s id.
    """

    is_word_start: Any
    is_special: Any
    log_unigram: Any
    mask_id: Any


@dataclasses.dataclass(frozen=True)
class MaskingConfig:
    """Every number of span masking; the defaults are the paper's (section 3.1) as its released code reads them.

    Raises `UserError` naming the `masking.*` key when a value makes no sense.
    """

    scheme: str = "span_geometric"
    # Share of a row's ordinary tokens that become targets; the largest share a schedule will ask for (None or 0: the
    # same), which sizes the target slots.
    mask_rate: float = 0.15
    max_mask_rate: float | None = None
    # Span lengths in words: truncated, renormalised geometric; p = 0 is uniform.
    geometric_p: float = 0.2
    min_span_words: int = 1
    max_span_words: int = 10
    # What a span's start is uniform over; "token" favours words of many pieces.
    anchor: str = "token"
    # Whether the last span may end inside a word, so that the budget is met exactly.
    cut_words: bool = True
    mask_share: float = 0.8
    random_share: float = 0.1
    keep_share: float = 0.1
    replacement_unit: str = "run"
    random_tokens: str = "unigram"
    endpoints: str = "external"
    max_span_targets: int = 15

    def __post_init__(self) -> None:
        for name, options in CHOICES.items():
            self._require(name, getattr(self, name) in options, f"one of {', '.join(options)}", options)
        for name in ("mask_share", "random_share", "keep_share", "geometric_p"):
            value = getattr(self, name)
            self._require(name, _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
        self._require("mask_rate", _is_number(self.mask_rate) and 0 < self.mask_rate <= 1, "a number in (0, 1]")
        self._require(
            "max_mask_rate",
            not self.max_mask_rate or (_is_number(self.max_mask_rate) and self.mask_rate <= self.max_mask_rate <= 1),
            f"None or a number from masking.mask_rate ({self.mask_rate}) to 1",
        )
        for name, least in (("min_span_words", 1), ("max_span_words", self.min_span_words), ("max_span_targets", 0)):
            value = getattr(self, name)
            self._require(name, _is_number(value) and int(value) == value >= least, f"a whole number, at least {least}")
        self._require("cut_words", isinstance(self.cut_words, bool), "True or False")
        shares = (self.mask_share, self.random_share, self.keep_share)
        if abs(sum(shares) - 1) > 1e-6:
            raise UserError(
                "masking.mask_share + masking.random_share + masking.keep_share: got "
                f"{' + '.join(str(share) for share in shares)}, expected a sum of 1; change them together"
            )

    def _require(self, name: str, fine: bool, expected: str, options: tuple[str, ...] = ()) -> None:
        if not fine:
            value = getattr(self, name)
            near = did_you_mean(str(value), options)
            raise UserError(f"masking.{name}: got {value!r}, expected {expected}; correct the config key{near}")

    @property
    def largest_mask_rate(self) -> float:
        """The rate that sizes the target slots."""
        return self.max_mask_rate or self.mask_rate


def exact_rate(rate: float) -> Fraction:
    """The decimal that was typed: 0.15 is 15/100, so that 0.15 of 100 tokens is 15 and not 15.000000000000002."""
    return Fraction(str(rate))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
