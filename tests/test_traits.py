"""The traits: what a bijector of two maps and a line knows of itself, and what all of one kind do to supports."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from own_bijectors import Falling, Rising, Sinh
from registry import BIJECTORS, KEY

from probgen import testing
from probgen.bijectors import Chain, Elementwise, Inverse, Permute, Power, Rearranging, Reshape, Scalar, Vmap, stack
from probgen.bijectors.support import UnknownSupport, as_interval, inside
from probgen.distributions import Transformed


def _rows(kind):
    slow = "mixture CDF, gaussian"  # whose class has two rows more
    made = [pytest.param(row.make(), row.event, id=row.name) for row in BIJECTORS if row.name != slow]
    return pytest.mark.parametrize(("bijector", "x"), [row for row in made if isinstance(row.values[0], kind)])


@_rows(Scalar)
def test_half_lines_go_where_their_ends_go(bijector, x):
    domain, codomain = as_interval(bijector.domain), as_interval(bijector.codomain)
    ends = lambda interval: (interval.lower, interval.upper)

    @jax.jit
    def facts(x):
        halves = {}
        for end in ("lower", "upper"):
            image = as_interval(bijector.image(domain._replace(**{end: x}).constraint()))
            halves[end] = ends(image), ends(as_interval(bijector.preimage(image.constraint())))
        return *jax.jvp(bijector.forward, (x,), (jnp.ones_like(x),)), halves

    y, slope, halves = facts(x)
    rises = bool(np.all(slope > 0))
    assert rises or np.all(slope < 0)
    assert bijector.increasing in (None, rises)
    for end, (image, back) in halves.items():
        first = int(end == "upper")
        other = first if rises else 1 - first  # which end of the image the known end becomes
        np.testing.assert_allclose(image[other], y, rtol=1e-5)
        _same_end(image[1 - other], ends(codomain)[1 - other])
        np.testing.assert_allclose(back[first], x, rtol=1e-4)
        _same_end(back[1 - first], ends(domain)[1 - first])


def _same_end(a, b):
    assert (a is None) == (b is None)
    if a is not None:
        np.testing.assert_array_equal(a, b)


@_rows(Rearranging)
def test_bounds_move_with_the_numbers_that_they_bound(bijector, x):
    y, support = bijector.forward(x), constraints.independent(constraints.interval(x - 1, x + 2), x.ndim)
    image = as_interval(bijector.image(support))
    np.testing.assert_allclose(image.lower, y - 1)
    np.testing.assert_allclose(image.upper, y + 2)
    assert image.event_dim == y.ndim
    back = as_interval(bijector.preimage(image.constraint()))
    np.testing.assert_allclose(back.lower, x - 1)
    assert back.event_dim == x.ndim


def test_a_flow_of_permuted_bounds_holds_its_draws():
    low = jnp.array([0.0, 10.0, 20.0, 30.0])
    base = dist.Uniform(low, low + 1).to_event(1)
    flow = Transformed(base, Chain([Reshape((4,), (2, 2)), Permute((3, 1, 0, 2))]))
    x = flow.sample(KEY, (20,))
    assert np.all(flow.support(x)) and not np.any(flow.support(x + 2))


# -- a class of one's own


def test_a_falling_scalar_changes_the_ends():
    assert as_interval(Falling().image(constraints.positive))[:2] == (0.0, 1.0)
    assert Transformed(dist.Normal(), Falling()).support.lower_bound == 0.0
    assert Falling().event_ndims_in == 0 and np.isfinite(Falling().inverse_and_log_det(jnp.zeros(()))[1])
    assert np.isnan(Falling().inverse(-1.0))


def test_rank_and_shape_are_those_of_the_parameters():
    rows = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert (Sinh(rows).event_ndims_in, Sinh(rows).event_shape) == (2, (3, 2))
    each = jax.vmap(Sinh)(rows)
    assert (each.event_ndims_in, each.event_shape) == (1, (2,))
    x = jnp.array([[0.3, -1.0]] * 3)
    testing.check_bijector(Vmap(each), x)
    testing.check_bijector(stack([Sinh(row) for row in rows]), x[0])
    with pytest.raises(ValueError, match=r"takes events of shape \(2,\)"):
        Sinh(rows[0]).forward(jnp.ones(3))


def test_one_width_for_many_numbers_counts_for_each_of_them():
    class Both(Sinh):
        height: jax.Array

        def forward_each(self, x):
            return self.height * x / self.width, jnp.log(self.height / self.width)

        def inverse_each(self, y):
            return self.width * y / self.height, jnp.log(self.width / self.height)

    testing.check_bijector(Both(jnp.array(2.0), jnp.array(3.0)), jnp.array(0.3))
    testing.check_bijector(Both(jnp.full(2, 2.0), jnp.array(3.0)), jnp.array([0.3, 1.0]))


def test_traced_parameters_need_a_direction():
    half = constraints.greater_than(jnp.array([0.0, 1.0]))

    @jax.jit
    def lower(width):
        with pytest.raises(UnknownSupport, match="rises or falls"):
            Sinh(width).image(half)
        return Rising(width).image(half).lower_bound

    width = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(lower(width), np.sinh([0.0, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(Sinh(width).image(half).lower_bound, np.sinh([0.0, 0.5]), rtol=1e-6)


def test_traits_are_abstract():
    for trait in (Scalar, Elementwise, Rearranging):
        with pytest.raises(TypeError, match="abstract"):
            trait()


def test_a_power_of_what_lies_below_an_end():
    image = Power(jnp.log(jnp.array([2.0, 3.0]))).image(constraints.interval(0.0, 2.0))
    assert image.lower_bound == 0.0
    np.testing.assert_allclose(image.upper_bound, [4.0, 8.0], rtol=1e-6)
    with pytest.raises(ValueError, match="cannot say where"):
        Inverse(Power(jnp.zeros(2))).image(constraints.simplex)


@pytest.mark.parametrize("x64", [False, True])
def test_inside_is_strict_and_next_to_the_end(x64):
    with jax.enable_x64(x64):
        dtype = jnp.zeros(()).dtype
        for low, high in ((0.0, 1.0), (-1.0, 1.0), (-2.0, 0.0)):
            support = constraints.interval(low, high)
            found = inside(jnp.array([low, high, 0.5 * (low + high), low - 1, high + 1, jnp.nan]), support)
            assert found.dtype == dtype and found[2] == 0.5 * (low + high) and np.isnan(found[3:]).all()
            for end, other, got in ((low, high, found[0]), (high, low, found[1])):
                tiny = np.copysign(np.finfo(dtype).tiny, other - end)
                assert got == (tiny if end == 0 else np.nextafter(np.asarray(end, dtype), np.asarray(other, dtype)))
    np.testing.assert_array_equal(inside(jnp.array([-jnp.inf, 3.0]), constraints.real), [-np.inf, 3.0])
