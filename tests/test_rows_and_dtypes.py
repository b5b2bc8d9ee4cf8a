"""No rows at all, and values of any dtype: what the densities, draws and conditionals of every model make of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import CONDITIONALS, DISTRIBUTIONS, KEY, density

from probgen.autoregressive import Autoregressive, generate
from probgen.distributions import NormalHead
from probgen.networks import MADE

CONTINUOUS = {
    row.name: (row.make, row.events) for row in DISTRIBUTIONS if row.volume != 1.0 and "exact" not in row.exceptions
} | {
    "autoregressive of reals": (
        lambda: Autoregressive(MADE(2, 2, hidden=(4,), out_scale=1.0, key=KEY), NormalHead(), (2,)),
        lambda: jnp.linspace(-2.0, 2.0, 18).reshape(9, 2),
    )
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_values_of_any_dtype_have_the_density_of_the_floats(name):
    make, events = CONTINUOUS[name]
    d, every = make(), events()
    half = every[np.array([6, 8]) * len(every) // 9].astype(jnp.float16)
    whole = jnp.round(half).astype(jnp.int32)
    if name == "logit-normal":
        whole = whole[:0]  # none is inside (0, 1)
    pairs = [(x, x.astype(jnp.float32)) for x in (half, whole)]
    for found, wanted in jax.jit(lambda d, pairs: [[d.log_prob(x) for x in pair] for pair in pairs])(d, pairs):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONDITIONALS)
def test_no_contexts_and_no_rows(name):
    model = CONDITIONALS[name]()
    none = model(jnp.zeros((0, 3)))
    assert none.batch_shape == (0,)
    x, more = none.sample(KEY), none.sample(KEY, (2,))
    assert x.shape == (0, *none.event_shape) and more.shape == (2, 0, *none.event_shape)
    if "head" in name:
        return  # numpyro's own, whose validation of no rows divides by zero
    assert density(none, more).shape == (2, 0)
    for context in (jnp.ones((1, 3)), jnp.ones(3)):
        d = model(context)
        assert density(d, x).shape == (0,)
        if hasattr(d, "given") and d.exact:
            _no_rows_in_parts(d, x)


@pytest.mark.parametrize("row", [row for row in DISTRIBUTIONS if row.volume == 1.0], ids=lambda row: row.name)
def test_no_rows_in_parts(row):
    d = row.make()
    if hasattr(d, "given") and d.exact:
        _no_rows_in_parts(d, jnp.zeros((0, *d.event_shape), int))


def _no_rows_in_parts(d, x):
    if hasattr(d, "conditionals"):
        parts = d.conditionals(x)
        assert parts.shape() == x.shape and parts.log_prob(x).shape == x.shape[: len(parts.batch_shape)]
    rest = d.given(x, np.zeros(d.event_shape, bool))
    assert rest.batch_shape == (0,) and rest.log_prob(x).shape == (0,)
    assert rest.sample(KEY).shape == x.shape and rest.sample(KEY, (2,)).shape == (2, *x.shape)
    lead = (0, *d.batch_shape)
    if hasattr(d, "steps"):
        assert generate(rest, KEY).shape == x.shape and generate(d, KEY, (0,)).shape == (*lead, *d.event_shape)
