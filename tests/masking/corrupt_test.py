import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spanbert_jax.masking import MaskingConfig
from spanbert_jax.masking.boundaries import Runs
from spanbert_jax.masking.corrupt import corrupt_targets, draw_tokens, random_token_table
from tests.masking import rows

# Keys are fixed, so a test either always passes or always fails; this is the chance that a right program was unlucky.
ERROR_RATE = 1e-3

VOCABULARY = rows.make_vocabulary(128)
UNIFORM = ~VOCABULARY.is_special / (~VOCABULARY.is_special).sum()
RUN_LENGTH, RUNS = 4, 20_000


def token_p_value(config: MaskingConfig, expected: np.ndarray) -> float:
    table = random_token_table(rows.as_arrays(VOCABULARY), config)
    drawn = np.bincount(draw_tokens(jax.random.bits(jax.random.key(1), (200_000,)), table), minlength=128)
    assert drawn[VOCABULARY.is_special].sum() == 0
    ordinary = ~VOCABULARY.is_special
    return float(stats.chisquare(drawn[ordinary], expected[ordinary] * drawn.sum()).pvalue)


def test_random_tokens_follow_the_unigram():
    assert token_p_value(MaskingConfig(), VOCABULARY.unigram) > ERROR_RATE
    assert token_p_value(MaskingConfig(random_tokens="uniform"), VOCABULARY.unigram) < 1e-12


def test_random_tokens_are_uniform_over_ordinary_ids_on_request():
    assert token_p_value(MaskingConfig(random_tokens="uniform"), UNIFORM) > ERROR_RATE
    assert token_p_value(MaskingConfig(), UNIFORM) < 1e-12


def test_table_is_flat_over_special_ids_whatever_the_unigram_says():
    vocabulary = rows.as_arrays(rows.make_vocabulary(29_056))._replace(log_unigram=jnp.zeros(29_056))
    table = np.asarray(random_token_table(vocabulary, MaskingConfig())).astype(np.int64)
    weights = np.diff(table, prepend=0)
    assert (weights[np.asarray(vocabulary.is_special)] == 0).all()
    assert (weights[~np.asarray(vocabulary.is_special)] > 0).all()
    assert abs(table[-1] - 2**31) < 2**18


def test_unigram_need_not_be_normalised():
    vocabulary = rows.as_arrays(VOCABULARY)
    table = np.asarray(random_token_table(vocabulary, MaskingConfig())).astype(np.float64)
    shifted = random_token_table(vocabulary._replace(log_unigram=vocabulary.log_unigram + 20), MaskingConfig())
    np.testing.assert_allclose(np.asarray(shifted).astype(np.float64), table, rtol=1e-5)


def kinds_of_runs(**config: object) -> tuple[np.ndarray, np.ndarray]:
    """How many of each run's four targets are shown as [MASK], and how many as themselves; `[RUNS]` each."""
    target, other = rows.FIRST_ORDINARY, rows.FIRST_ORDINARY + 1
    index = jnp.arange(RUNS * RUN_LENGTH)
    first = index // RUN_LENGTH * RUN_LENGTH
    runs = Runs(index, jnp.ones(index.shape, bool), first, first + RUN_LENGTH - 1)
    # The only drawable token is never the target, so that random and kept can be told apart.
    table = (jnp.arange(128) >= other).astype(jnp.uint32)
    targets = jnp.full(index.shape, target)
    shown = corrupt_targets(jax.random.key(2), targets, runs, table, rows.MASK, MaskingConfig(**config))
    shown = np.asarray(shown).reshape(RUNS, RUN_LENGTH)
    assert np.isin(shown, [rows.MASK, target, other]).all()
    return (shown == rows.MASK).sum(axis=1), (shown == target).sum(axis=1)


def share_p_value(masked: np.ndarray, kept: np.ndarray, shares: tuple[float, float, float]) -> float:
    counts = np.array([masked.sum(), masked.size * RUN_LENGTH - masked.sum() - kept.sum(), kept.sum()]) / RUN_LENGTH
    return float(stats.chisquare(counts, np.array(shares) * masked.size).pvalue)


def test_one_draw_decides_a_run():
    masked, kept = kinds_of_runs()
    assert set(masked) == set(kept) == {0, RUN_LENGTH}
    assert share_p_value(masked, kept, (0.8, 0.1, 0.1)) > ERROR_RATE
    wrong = kinds_of_runs(mask_share=0.7, random_share=0.2)
    assert share_p_value(*wrong, (0.8, 0.1, 0.1)) < 1e-12


def test_one_draw_decides_a_token_on_request():
    masked, _ = kinds_of_runs(replacement_unit="token")
    expected = stats.binom.pmf(np.arange(5), RUN_LENGTH, 0.8) * RUNS
    assert stats.chisquare(np.bincount(masked, minlength=5), expected).pvalue > ERROR_RATE


@pytest.mark.parametrize(
    ("shares", "masked_share", "kept_share"), [((1, 0, 0), 1, 0), ((0, 1, 0), 0, 0), ((0, 0, 1), 0, 1)]
)
def test_a_share_of_one_leaves_no_other_kind(shares: tuple[float, ...], masked_share: float, kept_share: float):
    names = ("mask_share", "random_share", "keep_share")
    masked, kept = kinds_of_runs(**dict(zip(names, shares, strict=True)))
    assert (masked == RUN_LENGTH * masked_share).all()
    assert (kept == RUN_LENGTH * kept_share).all()
