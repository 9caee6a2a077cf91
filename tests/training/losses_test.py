import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.errors import UserError
from spanbert_jax.masking import MaskedBatch
from spanbert_jax.training.losses import ObjectiveConfig, combined_loss, cross_entropy, mean_metrics, objective_sums
from tests.model import reference

#                         row 0: three targets, one past the SBO's reach; row 1: one target at a block's edge
TARGETS = np.array([[3, 1, 4, 0], [2, 0, 0, 0]], np.int32)
WEIGHTS = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.float32)
SBO_WEIGHTS = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
UNUSED = np.zeros((2, 4), np.int32)
MASKED = MaskedBatch(UNUSED, UNUSED, TARGETS, WEIGHTS, UNUSED, UNUSED, UNUSED, SBO_WEIGHTS)


def random_logits(seed):
    return jax.random.normal(jax.random.key(seed), (2, 4, 6)).at[..., 5].set(-jnp.inf)  # the last id pads


def test_cross_entropy_equals_its_definition():
    logits = random_logits(0)
    losses, _ = cross_entropy(logits, TARGETS)
    for row in range(2):
        for k in range(4):
            expected = reference.cross_entropy(np.asarray(logits[row, k, :5], np.float64), TARGETS[row, k])
            np.testing.assert_allclose(losses[row, k], expected, rtol=1e-6)


def test_sums_count_weighted_targets_only():
    mlm, sbo = random_logits(0), random_logits(1)
    sums = objective_sums(mlm, sbo, MASKED)
    mlm_losses, sbo_losses = (np.asarray(cross_entropy(logits, TARGETS)[0]) for logits in (mlm, sbo))
    np.testing.assert_allclose(sums.mlm_loss, mlm_losses[0, :3].sum() + mlm_losses[1, 0], rtol=1e-6)
    np.testing.assert_allclose(sums.sbo_loss, sbo_losses[0, :2].sum(), rtol=1e-6)
    assert (sums.mlm_count, sums.sbo_count) == (4, 2)
    np.testing.assert_allclose(
        sums.row_loss, [mlm_losses[0, :3].sum() + sbo_losses[0, :2].sum(), mlm_losses[1, 0]], rtol=1e-6
    )


def test_accuracy_is_one_for_perfect_and_zero_for_wrong_logits():
    perfect = jax.nn.one_hot(TARGETS, 6) * 10
    metrics = mean_metrics(objective_sums(perfect, -perfect, MASKED))
    assert metrics["mlm_accuracy"] == 1
    assert metrics["sbo_accuracy"] == 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ObjectiveConfig(), 12 / 4 + 10 / 2),
        (ObjectiveConfig(sbo_weight=0.5), 12 / 4 + 0.5 * 10 / 2),
        (ObjectiveConfig(sbo_weight=0.0), 12 / 4),
        (ObjectiveConfig(sbo_denominator_offset=1), 12 / 4 + 10 / 3),
    ],
)
def test_each_sum_is_divided_by_its_own_count(config, expected):
    np.testing.assert_allclose(combined_loss(12.0, 4.0, 10.0, 2.0, config), expected, rtol=1e-6)


def test_a_batch_without_targets_has_no_loss():
    assert combined_loss(0.0, 0.0, 0.0, 0.0, ObjectiveConfig()) == 0


def test_negative_weights_are_refused():
    with pytest.raises(UserError, match="objective.sbo_weight=-1"):
        ObjectiveConfig(sbo_weight=-1)
