"""Laws of what a bijector takes and says, over the registry: constants, kinds of numbers, jit of its methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import BIJECTORS

every_bijector = pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)


@every_bijector
def test_a_jacobian_is_constant_where_it_says_so_and_only_there(row):
    bijector, x = row.make(), row.event
    points = jnp.stack([x, 0.9 * x, 0.5 * x - 0.1])

    @jax.jit
    def facts(b, x):
        return b.forward_and_log_det(x)[1], jax.vmap(jax.jacobian(b.forward))(x)

    log_det, jacobian = facts(bijector, points)
    constant = lambda values: bool(np.ptp(values, axis=0).max() < 1e-4)
    if "leaky relu" not in row.name:  # which is linear on either side
        assert bijector.is_constant_log_det == constant(log_det)
        assert bijector.is_constant_jacobian == constant(jacobian)
