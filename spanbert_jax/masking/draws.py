"""Uniform integers from random bits, without the modulo bias or the float rounding of the usual short cuts."""

import jax
import jax.numpy as jnp


def uniform_integers(bits: jax.Array, bound: jax.Array) -> jax.Array:
    """Scales uniform `bits` (uint32, any shape) to 0..bound-1: the high word of the 64-bit product bits * bound.

    JAX has no 64-bit integers by default, hence the halves. No integer's probability is off by more than 2**-32;
    `bound` 0 gives 0.
    """
    bound = jnp.asarray(bound).astype(jnp.uint32)
    high, low = bits >> 16, bits & 0xFFFF
    bound_high, bound_low = bound >> 16, bound & 0xFFFF
    middle_1, middle_2 = high * bound_low, low * bound_high
    carry = ((low * bound_low >> 16) + (middle_1 & 0xFFFF) + (middle_2 & 0xFFFF)) >> 16
    return high * bound_high + (middle_1 >> 16) + (middle_2 >> 16) + carry
