"""Gradients of every model, to each learned leaf, to values and to contexts, against central differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import BIJECTORS, CONDITIONALS, DISTRIBUTIONS, KEY, density

from probgen import combine, partition, testing


def _stir(model):
    """Weights away from their start, where many gradients are zero."""
    (params, rest), rng = partition(model), np.random.default_rng(0)
    return combine({p: v + 0.3 * rng.normal(size=v.shape).astype(v.dtype) for p, v in params.items()}, rest)


def _weighted(x):
    return jnp.sum(jnp.sin(1.0 + np.arange(x.size)).reshape(x.shape) * x)


def _density_and_draws(d, x):
    """The log-density of x and a weighted sum of draws: where one of both has a wrong gradient, so has their sum."""
    return _weighted(density(d, x)) + (_weighted(d.rsample(KEY)) if d.has_rsample else 0.0)


def _check(model, function, x, *values):
    if jnp.issubdtype(x.dtype, jnp.floating):
        return testing.check_gradients(model, function, x, *values)
    return testing.check_gradients(model, lambda m, *values: function(m, x, *values), *values)  # integers have none


def _require_every(found):
    missed = [path for path, gradient in found.items() if gradient == 0.0 and "value" not in path]
    assert not missed, f"no gradient reaches {missed}"


@pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)
def test_of_bijectors(row):
    def function(b, x):
        y, forward = b.forward_and_log_det(x)
        back, inverse = b.inverse_and_log_det(jnp.cos(0.1) * y)
        return _weighted(y) + _weighted(forward) + _weighted(back) + 2.0 * _weighted(inverse)

    _require_every(testing.check_gradients(row.make(), function, row.event))


DIFFERENTIABLE = [row for row in DISTRIBUTIONS if "gradient" not in row.exceptions]
OTHERS = {row.name for row in DISTRIBUTIONS} - {row.name for row in DIFFERENTIABLE}


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)
def test_of_distributions(row):
    events = row.events()
    x = events[np.array([6, 8]) * len(events) // 9]  # where completions and sequences that ended have a density
    if "values" in row.exceptions:
        found = testing.check_gradients(_stir(row.make()), lambda m: _density_and_draws(m, x))
    else:
        found = _check(_stir(row.make()), _density_and_draws, x)
    if "learnable" not in row.exceptions:
        _require_every(found)


@pytest.mark.parametrize("name", [name for name in CONDITIONALS if name not in OTHERS])
def test_of_conditionals(name):
    model, context = _stir(CONDITIONALS[name]()), jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
    draw = jax.eval_shape(lambda: model(context).sample(KEY))
    x = jnp.asarray(0.2 + np.arange(np.prod(draw.shape)).reshape(draw.shape) % 2 / 2, draw.dtype)
    _check(model, lambda m, x, context: _density_and_draws(m(context), x), x, context)
