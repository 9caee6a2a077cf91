import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.model.layers import dropout, gelu
from tests.model import reference

X = jnp.array([-40.0, -5.0, -1.0, -1e-3, 0.0, 1e-3, 0.7, 3.0, 40.0])


def test_gelu_is_the_exact_one():
    np.testing.assert_allclose(gelu(X), reference.gelu(np.asarray(X, np.float64)), rtol=1e-6, atol=1e-7)


def test_gelu_gradient_is_that_of_its_definition():
    by_definition = jax.grad(lambda x: jax.nn.gelu(x, approximate=False).sum())(X)
    np.testing.assert_allclose(jax.grad(lambda x: gelu(x).sum())(X), by_definition, rtol=1e-5, atol=1e-7)


def test_gelu_keeps_its_type():
    assert gelu(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_the_rate(rate):
    x = jnp.ones(200_000)
    y = dropout(x, rate, jax.random.key(0))
    # Five standard errors of a proportion over 200,000 draws.
    bound = 5 * (rate * (1 - rate) / x.size) ** 0.5
    assert abs(float((y == 0).mean()) - rate) < bound
    np.testing.assert_allclose(y[y > 0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_without_a_key_is_the_identity():
    assert dropout(X, 0.5, None) is X
