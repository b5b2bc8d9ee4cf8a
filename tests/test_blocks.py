"""Bijectors of parts: supports, contexts and dropout reach each of them."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import biject_to, constraints
from registry import KEY

from probgen import with_key
from probgen.bijectors import (
    Affine,
    AffineTransformer,
    Chain,
    Concatenate,
    Coupling,
    Inverse,
    Permute,
    Reshape,
    Sigmoid,
    Stacked,
    Vmap,
    as_bijector,
)
from probgen.bijectors.support import UnknownSupport
from probgen.core import Contextual, bind
from probgen.distributions import ConditionalModel, Transformed
from probgen.networks import MLP


def coupling(key, context_dim=None, dropout=0.0):
    net = MLP(1, 2, hidden=(8,), out_scale=1.0, context_dim=context_dim, dropout=dropout, key=key)
    return Coupling(Contextual(net) if context_dim else net, AffineTransformer(), split=1)


def copies(num=3, **options):
    return jax.vmap(lambda key: coupling(key, **options))(jax.random.split(KEY, num))


def one(many, i):
    return jax.tree.map(lambda leaf: leaf[i], many)


def test_concatenate_is_its_parts():
    parts = [coupling(KEY), Affine(jnp.ones(3), jnp.zeros(3))]
    x = jnp.arange(5.0)
    y, log_det = Concatenate(parts, (2, 3)).forward_and_log_det(x)
    left, right = parts[0].forward_and_log_det(x[:2]), parts[1].forward_and_log_det(x[2:])
    np.testing.assert_allclose(y, jnp.concatenate([left[0], right[0]]))
    np.testing.assert_allclose(log_det, left[1] + right[1])


def test_concatenate_of_a_part_that_grows():
    both = Concatenate([dist.transforms.StickBreakingTransform(), Affine(jnp.ones(1), jnp.zeros(1))], (2, 1))
    assert both.forward_shape((3,)) == (4,) and both.inverse_shape((7, 4)) == (7, 3)
    x = jnp.array([0.3, -0.2, 1.0])
    np.testing.assert_allclose(both.inverse(both.forward(x)), x, rtol=1e-5)
    with pytest.raises(UnknownSupport):
        Transformed(dist.Normal(jnp.zeros(3)).to_event(1), both).support  # noqa: B018


def test_vmap_is_its_copies():
    many, x = copies(), jnp.arange(6.0).reshape(3, 2)
    y, log_det = Vmap(many).forward_and_log_det(jnp.stack([x, 2 * x]))
    for i in range(3):
        np.testing.assert_allclose(y[:, i], one(many, i).forward(jnp.stack([x[i], 2 * x[i]])), rtol=1e-6)
    np.testing.assert_allclose(log_det[0], sum(one(many, i).forward_and_log_det(x[i])[1] for i in range(3)), rtol=1e-5)


# -- supports


def test_parts_on_the_real_line_are_a_real_vector():
    for bijector, shape in ((Concatenate([coupling(KEY)] * 2, (2, 2)), (4,)), (Vmap(copies()), (3, 2))):
        flow = Transformed(dist.Normal(jnp.zeros(shape)).to_event(len(shape)), bijector)
        assert isinstance(flow.support, constraints.independent) and flow.support.base_constraint is constraints.real
        assert flow.support.event_dim == len(shape) == flow.event_dim
        for whole in (bijector.domain, bijector.codomain, Chain([bijector]).codomain):
            assert whole is constraints.real or whole.base_constraint is constraints.real


def in_and_out(flow, inside):
    """The support holds the draws and no others, and numpyro can move on it."""
    assert flow.support.event_dim == flow.event_dim
    draws = jax.jit(lambda flow: flow.sample(KEY, (20,)))(flow)
    assert flow.support(draws).all() and flow.support(draws).shape == (20,)
    assert flow.support(jnp.asarray(inside)) and not flow.support(-5.0 - jnp.zeros(flow.event_shape))
    t = biject_to(flow.support)
    np.testing.assert_allclose(t(t.inv(draws)), draws, rtol=1e-3)


def test_concatenate_joins_supports():
    parts = [Affine(jnp.ones(2), jnp.zeros(2)), Sigmoid(), Chain([distrax.Lambda(jnp.exp)])]
    flow = Transformed(dist.Normal(jnp.zeros(4)).to_event(1), Concatenate(parts, (2, 1, 1)))
    in_and_out(flow, [-9.0, 9.0, 0.5, 9.0])
    shifted = Transformed(flow, Concatenate([distrax.ScalarAffine(0.0, 1.0)] * 3, (2, 1, 1)))
    in_and_out(shifted, [-9.0, 9.0, 0.5, 9.0])
    back = Transformed(flow, Inverse(flow.bijector))
    assert back.support.base_constraint is constraints.real
    half = dist.HalfNormal(jnp.ones(2)).to_event(1)
    support = Transformed(half, Concatenate([distrax.ScalarAffine(1.0, -1.0), Sigmoid()], (1, 1))).support
    assert [bool(support(jnp.array(x))) for x in ([0.5, 0.6], [1.5, 0.6], [0.5, 0.4])] == [True, False, False]
    uniform = dist.Uniform(jnp.array([0.0, 2.0]), 3.0).to_event(1)
    moved = Transformed(uniform, Concatenate([distrax.ScalarAffine(1.0, 1.0)] * 2, (1, 1))).support
    assert moved(jnp.array([1.5, 3.5])) and not moved(jnp.array([1.5, 2.5]))
    with pytest.raises(UnknownSupport):
        Transformed(dist.Dirichlet(jnp.ones(2)), Concatenate([Sigmoid()] * 2, (1, 1))).support  # noqa: B018


def test_vmap_joins_supports():
    move = lambda shift: distrax.Block(distrax.ScalarAffine(shift, jnp.ones(2)), 1)
    each = lambda shift: Chain([move(shift), distrax.Lambda(jnp.exp)])
    rows = Vmap(jax.vmap(each)(jnp.array([[0.0, 0.0], [1.0, 2.0], [0.0, -1.0]])))
    flow = Transformed(dist.Normal(jnp.zeros((3, 2))).to_event(2), rows)
    in_and_out(flow, [[0.1, 0.1], [1.1, 2.1], [0.1, -0.9]])
    assert not flow.support(jnp.full((3, 2), 0.5))
    assert Transformed(flow, Inverse(rows)).support.base_constraint is constraints.real
    half, ends = dist.HalfNormal(jnp.ones((3, 2))).to_event(2), jnp.arange(6.0).reshape(3, 2)
    scaled = Transformed(half, Vmap(jax.vmap(lambda end: as_bijector(move(end)))(ends)))
    np.testing.assert_array_equal(scaled.support.base_constraint.lower_bound, ends)
    scalars = Transformed(dist.HalfNormal(jnp.ones(3)).to_event(1), Vmap(jax.vmap(Affine)(ends[:, 0], ends[:, 1])))
    np.testing.assert_array_equal(scalars.support.base_constraint.lower_bound, ends[:, 0])
    simplices = Transformed(dist.Dirichlet(jnp.ones((3, 2))).to_event(1), Vmap(jax.vmap(lambda i: Permute(i))(ORDERS)))
    with pytest.raises(UnknownSupport):
        simplices.support  # noqa: B018


ORDERS = jnp.array([[0, 1], [1, 0], [1, 0]])


# -- contexts and keys


def deep(key):
    return Stacked(jax.vmap(lambda k: coupling(k, 2))(jax.random.split(key, 2)))


WIDE = {
    "concatenate": lambda: Concatenate([coupling(KEY, 2), Affine(jnp.ones(2), jnp.zeros(2)), deep(KEY)], (2, 2, 2)),
    "vmap": lambda: Chain([Reshape((3, 2), (6,)), Vmap(copies(context_dim=2)), Reshape((6,), (3, 2))]),
    "concatenate in stacked": lambda: Stacked(
        jax.vmap(lambda k: Concatenate([coupling(k, 2)] * 3, (2, 2, 2)))(jax.random.split(KEY, 2))
    ),
    "stacked in vmap": lambda: Chain(
        [Reshape((3, 2), (6,)), Vmap(jax.vmap(deep)(jax.random.split(KEY, 3))), Reshape((6,), (3, 2))]
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_context_reaches_every_part(name):
    wide = WIDE[name]()
    conditional = ConditionalModel(Transformed(dist.Normal(jnp.zeros(6)).to_event(1), wide), (2,))
    context, x = jnp.array([[0.3, -1.0], [2.0, 0.1]]), jnp.arange(6.0)

    @jax.jit
    def facts(context):
        log_prob = lambda c: conditional(c).log_prob(x)
        return log_prob(context), jax.grad(lambda c: log_prob(c).sum())(context)

    log_prob, gradient = facts(context)
    bound = jax.jit(lambda c: Transformed(conditional.model.base, bind(wide, c)).log_prob(x))
    for c, value in zip(context, log_prob):
        np.testing.assert_allclose(bound(c), value, rtol=1e-5)
    assert abs(log_prob[0] - log_prob[1]) > 1e-3
    assert np.isfinite(gradient).all() and (gradient != 0).all()


def test_copies_drop_units_of_their_own():
    same = jax.vmap(lambda _: coupling(KEY, dropout=0.5))(jnp.arange(3))
    x = jnp.ones((3, 2))
    kept, dropped = Vmap(same).forward(x), with_key(Vmap(same), KEY).forward(x)
    np.testing.assert_allclose(kept[0], kept[1])
    assert len({float(row[1]) for row in dropped}) == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Concatenate([Sigmoid()], (1, 2)), "sizes"),
        (lambda: Concatenate([], ()), "sizes"),
        (lambda: Concatenate([Sigmoid()], (0,)), "sizes"),
        (lambda: Concatenate([Reshape((4,), (2, 2))], (4,)), "part 0"),
        (lambda: Concatenate([Sigmoid(), Sigmoid()], (1, 2)).forward(jnp.ones(4)), r"1 \+ 2"),
        (lambda: Concatenate([Sigmoid(), Sigmoid()], (1, 2)).forward_shape((4,)), r"1 \+ 2"),
        (lambda: Vmap(copies()).forward(jnp.ones((2, 2))), "3 rows"),
        (lambda: Transformed(dist.Normal(jnp.zeros((2, 2))).to_event(2), Vmap(copies())), "3 rows"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
