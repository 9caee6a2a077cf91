import dataclasses
from fractions import Fraction

import pytest

from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskingConfig
from spanbert_jax.masking.config import exact_rate


def test_defaults_are_those_of_the_design():
    assert dataclasses.asdict(MaskingConfig()) == {
        "scheme": "span_geometric",
        "mask_rate": 0.15,
        "max_mask_rate": None,
        "geometric_p": 0.2,
        "min_span_words": 1,
        "max_span_words": 10,
        "anchor": "token",
        "cut_words": True,
        "mask_share": 0.8,
        "random_share": 0.1,
        "keep_share": 0.1,
        "replacement_unit": "run",
        "random_tokens": "unigram",
        "endpoints": "external",
        "max_span_targets": 15,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scheme", "span"),
        ("mask_rate", 0.0),
        ("mask_rate", 1.5),
        ("mask_rate", "0.15"),
        ("mask_rate", float("nan")),
        ("max_mask_rate", 0.1),
        ("max_mask_rate", 1.1),
        ("geometric_p", -1),
        ("min_span_words", 0),
        ("max_span_words", 0),
        ("max_span_words", 2.5),
        ("max_span_targets", -1),
        ("anchor", "tokens"),
        ("cut_words", 1),
        ("mask_share", 0.7),
        ("mask_share", -0.8),
        ("replacement_unit", "span"),
        ("random_tokens", "zipf"),
        ("endpoints", "outside"),
    ],
)
def test_names_the_key_that_makes_no_sense(key: str, value: object):
    with pytest.raises(UserError, match=f"masking.{key}") as caught:
        MaskingConfig(**{key: value})
    assert "\n" not in str(caught.value)


def test_a_span_is_not_longer_at_least_than_at_most():
    with pytest.raises(UserError, match=r"masking\.max_span_words: got 10, expected a whole number, at least 11"):
        MaskingConfig(min_span_words=11)


def test_suggests_the_nearest_choice():
    with pytest.raises(UserError, match=r"did you mean token\?"):
        MaskingConfig(anchor="tokens")


def test_rate_is_the_decimal_that_was_typed():
    assert exact_rate(0.15) == Fraction(15, 100)
    assert exact_rate(1) == 1
    assert exact_rate(1e-05) == Fraction(1, 100000)


@pytest.mark.parametrize("largest", [None, 0.0, 0.15])
def test_largest_rate_is_the_rate_unless_a_schedule_says_more(largest: float | None):
    assert MaskingConfig(max_mask_rate=largest).largest_mask_rate == 0.15
    assert MaskingConfig(max_mask_rate=0.3).largest_mask_rate == 0.3
