import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.masking import MaskingConfig
from spanbert_jax.masking.schemes import budget_of, target_slots
from tests.masking import oracle


def budgets(config: MaskingConfig, length: int, rate: float | None = None) -> np.ndarray:
    counts = jnp.arange(length - 1)
    traced = None if rate is None else jnp.float32(rate)
    return np.asarray(jax.vmap(lambda count: budget_of(count, length, config, traced))(counts))


def test_fixed_rate_is_exact():
    found = budgets(MaskingConfig(), 512)
    np.testing.assert_array_equal(found, [oracle.budget_of(count) for count in range(511)])
    assert found[100] == 15
    assert found[0] == 0
    assert found[1] == 1


@pytest.mark.parametrize("rate", [0.15, 0.1, 0.3, 0.07, 1.0])
def test_traced_rate_agrees_with_the_fixed_one(rate: float):
    fixed = budgets(MaskingConfig(mask_rate=rate), 512)
    np.testing.assert_array_equal(budgets(MaskingConfig(mask_rate=rate), 512, rate), fixed)


def test_traced_rate_is_cut_at_the_largest():
    config = MaskingConfig(max_mask_rate=0.3)
    assert target_slots(512, config) == 153
    found = budgets(config, 512, 0.5)
    assert found.max() == 153
    assert (found <= np.arange(511)).all()
    assert budgets(config, 512, 0.0).max() == 0


def test_a_row_fuller_than_its_slots_fills_them():
    assert budget_of(jnp.int32(22), 22, MaskingConfig(mask_rate=0.95), None) == 19
    assert budget_of(jnp.int32(22), 22, MaskingConfig(mask_rate=0.95), jnp.float32(0.95)) == 19


@pytest.mark.parametrize(
    ("rate", "length", "slots"), [(0.15, 512, 77), (0.15, 128, 19), (0.15, 102, 15), (1.0, 512, 510), (0.15, 3, 1)]
)
def test_slots_hold_the_budget_of_one_full_block(rate: float, length: int, slots: int):
    assert target_slots(length, MaskingConfig(mask_rate=rate)) == slots
