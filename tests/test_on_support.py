"""Flows on other supports: draws lie there, densities integrate to 1, and NUTS finds nothing new to stumble over."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model
from registry import KEY

import probgen
from probgen import fit, on_support, partition, testing
from probgen.bijectors import Affine, AffineTransformer, Chain, Coupling, Sigmoid, Triangular
from probgen.bijectors.support import widen
from probgen.core import Contextual, combine
from probgen.distributions import ConditionalModel, Transformed
from probgen.networks import MLP


@functools.cache
def flow(dim, context_dim=None):
    """Correlated, and bent in two dimensions or with a context."""
    lower = jnp.eye(dim) * 0.7 + 0.3 * jnp.tril(jnp.ones((dim, dim)), -1)
    parts = [Triangular.of(lower, 0.1 * jnp.arange(dim))]
    if dim == 2 or context_dim:
        net = MLP(1, 2 * (dim - 1), hidden=(8,), context_dim=context_dim, out_scale=0.5, key=KEY)
        parts.append(Coupling(Contextual(net) if context_dim else net, AffineTransformer(), split=1))
    return Transformed(dist.Normal(jnp.zeros(dim), 1.0).to_event(1), Chain(parts))


LOW, HIGH = jnp.array([-1.0, 0.0, 2.0]), jnp.array([1.0, 3.0, 2.5])
# the constraint, and the shape that a flow of three numbers takes on it
SUPPORTS = [
    (constraints.positive, (3,)),
    (constraints.less_than(2.0), (3,)),
    (constraints.interval(-1.0, 3.0), (3,)),
    (constraints.independent(constraints.interval(LOW, HIGH), 1), (3,)),
    (constraints.independent(constraints.cat([constraints.positive, constraints.real], -1, (2, 1)), 1), (3,)),
    (constraints.real_vector, (3,)),
    (constraints.simplex, (4,)),
    (constraints.ordered_vector, (3,)),
    (constraints.positive_ordered_vector, (3,)),
    (constraints.corr_cholesky, (3, 3)),
    (constraints.lower_cholesky, (2, 2)),
    (constraints.positive_definite, (2, 2)),
    (constraints.l1_ball, (3,)),
]


@pytest.mark.parametrize(("constraint", "shape"), SUPPORTS, ids=lambda x: "" if inspect.isfunction(x) else repr(x)[:40])
def test_draws_lie_in_the_support_that_is_reported(constraint, shape):
    model = on_support(flow(3), constraint)
    assert model.event_shape == shape and model.batch_shape == ()
    assert model.support.event_dim == model.event_dim == len(shape)
    assert model.support.eq(widen(constraint, len(shape)))
    params, rest = partition(model)
    assert params.keys() == {f"base.{path}" for path in partition(flow(3))[0]}

    @jax.jit
    def facts(params):
        x, log_prob = combine(params, rest).sample_and_log_prob(KEY, (100,))
        again, gradients = jax.value_and_grad(lambda p, x: combine(p, rest).log_prob(x).sum(), (0, 1))(params, x)
        return x, log_prob, again, gradients

    x, log_prob, again, gradients = facts(params)
    assert model.support(x).all() and model.support(x).shape == (100,)
    np.testing.assert_allclose(again, log_prob.sum(), rtol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def line(low, high, num=4000):
    width = (high - low) / num
    return (low + width * (jnp.arange(num) + 0.5)).reshape(-1, 1), width


def plane(low, high, num=301):
    axis, width = line(low, high, num)
    return jnp.stack(jnp.meshgrid(axis[:, 0], axis[:, 0], indexing="ij"), -1).reshape(-1, 2), width**2


def inside(constraint, cells):
    events, volume = cells
    return events[np.asarray(constraint(events))], volume


def on_simplex(cells):  # numpyro's densities on the simplex are those of the first coordinates
    events, volume = cells
    return inside(constraints.simplex, (jnp.concatenate([events, 1 - events.sum(-1, keepdims=True)], -1), volume))


def correlations(cells):
    r, volume = cells
    rows = jnp.concatenate([jnp.ones_like(r), jnp.zeros_like(r), r, jnp.sqrt(1 - r**2)], -1)
    return rows.reshape(-1, 2, 2), volume


@pytest.mark.parametrize(
    ("constraint", "dim", "cells"),
    [
        (constraints.positive, 1, lambda: line(0, 30)),
        (constraints.unit_interval, 1, lambda: line(0, 1)),
        (constraints.interval(-1.0, 3.0), 1, lambda: line(-1, 3)),
        (constraints.less_than(2.0), 1, lambda: line(-28, 2)),
        (constraints.corr_cholesky, 1, lambda: correlations(line(-1, 1))),
        (constraints.simplex, 1, lambda: on_simplex(line(0, 1))),
        (constraints.simplex, 2, lambda: on_simplex(plane(0, 1))),
        (constraints.interval(-1.0, 3.0), 2, lambda: plane(-1, 3)),
        (constraints.l1_ball, 2, lambda: inside(constraints.l1_ball, plane(-1, 1))),
        (constraints.ordered_vector, 2, lambda: inside(constraints.ordered_vector, plane(-20, 25, 1081))),
        (constraints.positive_ordered_vector, 1, lambda: line(0, 30)),
    ],
    ids=lambda x: "" if inspect.isfunction(x) else repr(x)[:40],
)
def test_densities_integrate_to_one(constraint, dim, cells):
    events, volume = cells()
    testing.check_normalized(on_support(flow(dim), constraint), events, volume=volume, tolerance=5e-3)


LOC, LOG_SCALE = jnp.array([0.3, -1.0]), jnp.array([-1.0, -0.5])
PRIORS = [
    on_support(Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), Affine(LOC, LOG_SCALE)), constraints.positive),
    dist.LogNormal(LOC, jnp.exp(LOG_SCALE)).to_event(1),
]


def test_on_positive_an_affine_flow_is_the_log_normal():
    x = PRIORS[1].sample(KEY, (50,))
    np.testing.assert_allclose(PRIORS[0].log_prob(x), PRIORS[1].log_prob(x), rtol=1e-5)


def funnel(prior):
    """A program: a scale with the prior, and what it scales, with little data."""

    def program():
        scale = numpyro.sample("scale", prior)
        with numpyro.plate("groups", 8):
            effect = numpyro.sample("effect", dist.Normal(0.0, scale[0]))
            numpyro.sample("y", dist.Normal(effect, 1.0 + scale[1]), obs=jnp.linspace(-2.0, 2.0, 8))

    return program


def test_nuts_sees_the_potential_of_the_same_density():
    points = {"scale": 3 * jax.random.normal(KEY, (100, 2)), "effect": 3 * jax.random.normal(KEY, (100, 8))}
    found = []
    for prior in PRIORS:
        potential = initialize_model(jax.random.PRNGKey(0), funnel(prior)).potential_fn
        found.append(jax.jit(jax.vmap(jax.value_and_grad(potential)))(points))
    for ours, theirs in zip(*map(jax.tree.leaves, found)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nuts_over_a_flow_diverges_no_more_than_over_the_same_density():
    divergences = []
    for prior in PRIORS:
        mcmc = MCMC(NUTS(funnel(prior)), num_warmup=200, num_samples=300, progress_bar=False)
        mcmc.run(jax.random.PRNGKey(3))
        divergences.append(int(mcmc.get_extra_fields()["diverging"].sum()))
        assert (mcmc.get_samples()["scale"] > 0).all()
    ours, theirs = divergences
    assert ours <= theirs


def test_conditionals_move_as_well():
    conditional = on_support(ConditionalModel(flow(3, context_dim=2), (2,)), constraints.corr_cholesky)
    context = jnp.array([[0.3, -1.0], [2.0, 0.1]])
    x = jax.jit(lambda c: conditional(c).sample(KEY, (7,)))(context)
    support = conditional(context).support
    assert x.shape == (7, 2, 3, 3) and support(x).all() and support is constraints.corr_cholesky
    gradient = jax.jit(jax.grad(lambda c: conditional(c).log_prob(x).sum()))(context)
    assert np.isfinite(gradient).all() and (gradient != 0).all()


def test_it_loads_by_its_path_alone_where_bounds_are_arrays(tmp_path):
    interval = constraints.independent(constraints.interval(LOW, HIGH), 1)
    model = on_support(probgen.flows.maf(3, layers=1, hidden=(4,), key=KEY), interval)
    probgen.save(tmp_path / "model", model)  # a warning, that no recipe makes it, would be an error
    x = model.sample(KEY, (3,))
    np.testing.assert_array_equal(probgen.load(tmp_path / "model").log_prob(x), model.log_prob(x))


def test_it_goes_through_jit_with_equal_structure():
    make = lambda: on_support(flow(3), constraints.independent(constraints.interval(LOW, HIGH), 1))
    assert jax.tree.structure(make()) == jax.tree.structure(make())
    testing.check_pytree(make(), (LOW + HIGH)[None] / 2)
    testing.check_pytree(on_support(flow(3), constraints.simplex), jnp.full((1, 4), 0.25))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: on_support(flow(4), constraints.corr_cholesky), "does not fit a flow of event shape"),
        (lambda: on_support(flow(2), constraints.lower_cholesky), "does not fit a flow of event shape"),
        (lambda: on_support(flow(2), constraints.independent(constraints.interval(LOW, HIGH), 1)), "does not fit"),
        (lambda: on_support(flow(2), constraints.independent(constraints.simplex, 1)), "does not fit"),
        (lambda: on_support(flow(2), constraints.boolean), "biject_to"),
        (lambda: on_support(flow(2), constraints.sphere), "biject_to"),
        (lambda: on_support(Transformed(flow(2), Sigmoid()), constraints.positive), "all of ℝᴰ"),
        (lambda: jax.jit(lambda b: on_support(flow(2), constraints.interval(0.0, b)).support)(1.0), "constant bounds"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("constraint", "dim", "edge"),
    [(constraints.simplex, 2, [0.0, 0.5, 0.5]), (constraints.unit_interval, 2, [0.3, 1.0])],
)
def test_fit_names_the_row_on_the_edge_of_the_support(constraint, dim, edge):
    model = on_support(flow(dim), constraint)
    data = np.array([np.full(len(edge), 1 / len(edge)), edge], np.float32)
    with pytest.raises(ValueError, match="data: row 1 lies on the edge of"):
        fit(model, data, key=KEY, steps=1)
    fit(model, data[:1], key=KEY, steps=1)
