"""Laws of what a bijector takes and says, over the registry: constants, kinds of numbers, jit of its methods."""

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import BIJECTORS

from probgen.bijectors import GAUSSIAN, LOGISTIC, Affine, Chain, MixtureCDF, Tanh

# One row of each kind of class: what `Bijector` does with dtypes and with methods, it does for all classes alike, and
# only `Inverse` and `Constant` write its methods anew; rearrangings keep integers.
KINDS = (
    "one's own scalar, falling", "one's own rearranging", "affine", "sigmoid", "spline, scalar", "permute array",
    "reshape", "rotation", "LU", "concatenate", "vmap of scalars", "chain of ranks", "coupling split", "inverse",
    "masked autoregressive, stacked, inverse", "stacked", "distrax batched", "numpyro stick breaking",
)  # fmt: skip
every_bijector = pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)
every_kind = pytest.mark.parametrize("row", [row for row in BIJECTORS if row.name in KINDS], ids=lambda row: row.name)


def test_every_kind_has_a_row():
    assert len({row.name for row in BIJECTORS} & set(KINDS)) == len(KINDS)


@every_bijector
def test_a_jacobian_is_constant_where_it_says_so_and_only_there(row):
    bijector, x = row.make(), row.event
    points = jnp.stack([x, 0.9 * x, 0.5 * x - 0.1])

    @jax.jit
    def facts(b, x):
        return jax.vmap(jax.jacobian(b.forward_and_log_det, has_aux=True))(x)

    jacobian, log_det = facts(bijector, points)
    constant = lambda values: bool(np.ptp(values, axis=0).max() < 1e-4)
    if "leaky relu" not in row.name:  # which is linear on either side
        assert bijector.is_constant_log_det == constant(log_det)
        assert bijector.is_constant_jacobian == constant(jacobian)


@every_kind
def test_values_of_any_dtype_are_worth_what_the_floats_are(row):
    bijector = row.make()
    small = jnp.round(jnp.abs(row.event))  # in every kind of number

    @jax.jit
    def both(b, x):
        return b.forward_and_log_det(x), b.inverse_and_log_det(b.forward(row.event * 0 + x))

    right = both(bijector, small)
    for dtype in (jnp.int32, jnp.float16):
        for found, wanted in zip(jax.tree.leaves(both(bijector, small.astype(dtype))), jax.tree.leaves(right)):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@every_bijector
def test_dtypes_are_those_of_the_widest_floats(row):
    """Narrow weights and wide values, and the reverse: each kind of number with one of them."""
    narrow = row.make()
    ends = (row.event.shape, narrow.forward_shape(row.event.shape))
    with jax.enable_x64(True):
        wide = row.make()
        for model, dtypes in ((narrow, (jnp.bool_, jnp.bfloat16, jnp.float64)), (wide, (jnp.uint8, jnp.float32))):
            for dtype in dtypes:
                for method, shape in zip((model.forward_and_log_det, model.inverse_and_log_det), ends, strict=True):
                    y, log_det = jax.eval_shape(method, jax.ShapeDtypeStruct(shape, dtype))
                    assert model.moves_only or y.dtype in (jnp.float32, jnp.float64)
                    assert log_det.dtype in (jnp.float32, jnp.float64)


@every_kind
def test_plain_jit_takes_the_methods_of_a_bijector(row):
    bijector, x = row.make(), row.event
    y, _ = jax.jit(bijector.forward_and_log_det)(x)
    back = jax.jit(bijector.inverse)(y)
    np.testing.assert_allclose(back, x, rtol=1e-3, atol=1e-3)


@every_bijector
def test_bijectors_are_equal_where_their_numbers_are(row):
    bijector, again = row.make(), row.make()
    assert bijector.same_as(again) and bijector == again and hash(bijector) == hash(again)
    changed = jax.tree.map(lambda leaf: leaf + 1, bijector)
    assert bijector.same_as(changed) == (not jax.tree.leaves(bijector))


def test_what_jit_compiled_for_one_bijector_never_serves_another():
    one, other = Affine(jnp.array(1.0), jnp.array(0.0)), Affine(jnp.array(2.0), jnp.array(0.0))
    assert jax.jit(one.forward)(0.0) == 1.0 and jax.jit(other.forward)(0.0) == 2.0
    moved = eqx.tree_at(lambda b: b.shift, one, jnp.array(5.0))
    assert jax.jit(moved.forward)(0.0) == 5.0

    @jax.jit
    def traced(shift):  # where numbers cannot be compared
        b = Affine(shift, 0.0)
        return jax.jit(b.forward)(0.0) + jax.jit(b.forward)(1.0) + jax.jit(Affine(-shift, 0.0).forward)(0.0)

    assert traced(3.0) == 4.0 and jax.grad(lambda s: jax.jit(Affine(s, 0.0).forward)(0.0))(3.0) == 1.0


def test_bijectors_of_tensorflow_probability():
    b = Affine(jnp.array(1.0), jnp.log(2.0))
    for inner, x in ((b, 0.3), (Tanh(), 0.3), (Chain([Tanh(), b]), 0.3)):
        theirs = distrax.to_tfp(inner)
        np.testing.assert_allclose(theirs.forward(x), inner.forward(x))
        np.testing.assert_allclose(theirs.inverse(inner.forward(x)), x, rtol=1e-5)
        np.testing.assert_allclose(
            theirs.inverse_log_det_jacobian(inner.forward(x), 0), -inner.forward_log_det_jacobian(x), rtol=1e-5
        )


@pytest.mark.parametrize("kernel", [GAUSSIAN, LOGISTIC])
def test_tails_of_mixtures_are_those_of_the_float64_map(kernel):
    make = lambda: MixtureCDF(jnp.array([0.0, 5.0]), jnp.array([-100.0, 100.0]), jnp.zeros(2), kernel=kernel)
    points = np.array([-1e4, -3e3, -600.0, 600.0, 3e3, 1e4], np.float32)

    def facts(b, x):
        twice = lambda found: (found, found)  # for the derivatives and for the values
        forward, (y, slope) = jax.vmap(jax.jacobian(lambda x: twice(b.forward_and_log_det(x)), has_aux=True))(x)
        inverse, (back, log_det) = jax.vmap(jax.jacobian(lambda y: twice(b.inverse_and_log_det(y)), has_aux=True))(x)
        return {"slope": slope, "back": back, "others": (forward, y, inverse, log_det)}

    found = jax.jit(facts)(make(), points)
    with jax.enable_x64(True):
        right = jax.jit(facts)(make(), points.astype(float))
    for one, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-3)
    if kernel is GAUSSIAN:  # one component, of scale 1, is all that is left; on the right nearly all of the weight
        np.testing.assert_allclose(found["back"][3:], points[3:] + 100.0, rtol=1e-6)
        np.testing.assert_allclose(found["slope"], 0.0, atol=1e-3)
