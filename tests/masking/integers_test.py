import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.masking.integers import running_sum, uniform_integers


def test_is_the_high_word_of_the_exact_product():
    generator = np.random.default_rng(0)
    bits = np.append(generator.integers(0, 2**32, 1000), [0, 1, 2**16, 2**32 - 1])
    for bound in (0, 1, 2, 3, 510, 65535, 65536, 28996, 2**31 - 5, 2**31, 2**32 - 1):
        expected = [int(bit) * bound >> 32 for bit in bits]
        found = uniform_integers(jnp.asarray(bits, jnp.uint32), jnp.asarray(bound, jnp.uint32))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("length", [1, 3, 128, 500])
def test_running_sum_is_numpys(length: int):
    values = np.random.default_rng(length).integers(0, 12, length)
    np.testing.assert_array_equal(running_sum(jnp.asarray(values)), np.cumsum(values))
