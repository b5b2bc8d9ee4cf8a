"""A site of several layers: a KL for each, against closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

from probgen.inference import estimators, explain
from probgen.inference.objectives import ELBO, Beta, FreeBits


class TwoLayers(dist.Distribution):
    """z_1 ~ Normal(a, s), z_2 ~ Normal(b + c z_1, t), each of two numbers: events [2, 2]."""

    arg_constraints = {}
    support = constraints.independent(constraints.real, 2)
    pytree_data_fields = ("a", "b", "c", "s", "t")
    has_rsample = True

    def __init__(self, a, b, c, s=1.0, t=1.0):
        self.a, self.b, self.c, self.s, self.t = a, b, c, s, t
        super().__init__(jnp.shape(a)[:-1], (2, 2))

    def layers(self, value):
        second = dist.Normal(self.b + self.c * value[..., 0, :], self.t).to_event(1)
        return dist.Normal(self.a, self.s).to_event(1), second

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, self.shape(sample_shape))
        first = self.a + self.s * noise[..., 0, :]
        return jnp.stack([first, self.b + self.c * first + self.t * noise[..., 1, :]], -2)

    def log_prob(self, value, intermediates=None):
        first, second = self.layers(value)
        return first.log_prob(value[..., 0, :]) + second.log_prob(value[..., 1, :])

    def kl_of_layers(self, p, value, intermediates):
        p = p.base_dist if isinstance(p, dist.ExpandedDistribution) else p
        if not isinstance(p, TwoLayers):
            return None
        each = [dist.kl_divergence(a, b) for a, b in zip(self.layers(value), p.layers(value), strict=True)]
        return jnp.stack(each, -1)


PARAMS = {"a": jnp.array([[0.5, -0.4], [0.1, 0.9], [-1.0, 0.2]]), "c": jnp.array(0.7), "prior": jnp.array(0.2)}
ROWS, SIZE = 3, 6  # a minibatch


def model(observe=True):
    prior = numpyro.param("prior")
    with numpyro.plate("data", SIZE, subsample_size=ROWS):
        z = numpyro.sample("z", TwoLayers(jnp.zeros((ROWS, 2)), 0.1, prior, 1.5, 0.8))
        if observe:
            numpyro.sample("x", dist.Normal(z.sum((-2, -1)), 1.0), obs=jnp.arange(3.0))


def guide():
    a, c = numpyro.param("a"), numpyro.param("c")
    with numpyro.plate("data", SIZE, subsample_size=ROWS):
        numpyro.sample("z", TwoLayers(a, 0.3, c, 0.7, 0.5))


def exact(params):
    """KL of each layer, summed over the rows and scaled: z_1 ~ q is Normal(a, 0.7)."""
    a, c, prior = params["a"], params["c"], params["prior"]
    normal = lambda m, s, n, t: jnp.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5
    second = jnp.log(0.8 / 0.5) + (0.5**2 + (0.2 + (c - prior) * a) ** 2 + (c - prior) ** 2 * 0.7**2) / (2 * 0.8**2)
    return SIZE / ROWS * jnp.array([normal(a, 0.7, 0.0, 1.5).sum(), (second - 0.5).sum()])


def found(objective, params, observe=False, count=4000):
    one = lambda key: jax.value_and_grad(lambda p: objective.loss(key, p, lambda: model(observe), guide))(params)
    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), count))


def near(draws, want):
    """Within 4.5 standard errors, a false alarm in some 10 000 for all components together."""
    draws, want = np.asarray(draws), np.asarray(want)
    error = draws.std(0) / np.sqrt(len(draws)) + 1e-5 * (1 + abs(want))
    assert np.max(abs(draws.mean(0) - want) / error) < 4.5


def test_each_layer_is_a_term():
    plan = ELBO().plan(jax.random.key(0), PARAMS, model, guide)
    assert ELBO().terms(plan) == [("p", "x"), ("kl", "z", 0), ("kl", "z", 1)]
    assert ELBO(analytic_kl=False).terms(plan) == [("p", "z"), ("p", "x"), ("q", "z")]
    assert "KL in closed form: z\n" in str(explain(model, guide, params=PARAMS)) + "\n"


def test_the_value_and_the_gradient_are_those_of_the_closed_form():
    loss, gradient = found(ELBO(), PARAMS)
    near(loss, exact(PARAMS).sum())
    want = jax.grad(lambda p: exact(p).sum())(PARAMS)
    for name in PARAMS:
        near(gradient[name], want[name])
    drawn = found(ELBO(analytic_kl=False), PARAMS)[0]
    assert loss.std() < 0.7 * drawn.std()


def test_the_gradient_at_one_draw_is_that_of_finite_differences():
    with jax.enable_x64():
        params = {name: jnp.asarray(np.asarray(x), jnp.float64) for name, x in PARAMS.items()}
        loss = jax.jit(lambda p: ELBO().loss(jax.random.key(0), p, model, guide))
        gradient, h = jax.jit(jax.grad(loss))(params), 1e-5
        for name, x in params.items():
            for i in np.ndindex(x.shape):
                at = lambda step, name=name, i=i, x=x: loss({**params, name: x.at[i].add(step)})
                np.testing.assert_allclose(gradient[name][i], (at(h) - at(-h)) / (2 * h), rtol=1e-6, atol=1e-8)


def test_weights_hold_for_each_layer():
    each = exact(PARAMS) / SIZE
    between = float(each.mean())
    assert each[1] < between < each[0]
    alone = jax.jacobian(exact)(PARAMS)
    _, gradient = found(FreeBits(ELBO(200), between), PARAMS, count=100)
    _, beta = found(Beta(ELBO(), 0.3), PARAMS)
    for name in PARAMS:
        near(gradient[name], alone[name][0])
        near(beta[name], 0.3 * alone[name].sum(0))


def test_what_is_not_right_falls_back():
    def later():
        guide()
        with numpyro.plate("data", SIZE, subsample_size=ROWS):
            numpyro.sample("w", dist.Normal(0.0, 1.0))

    def on_what_is_later():
        with numpyro.plate("data", SIZE, subsample_size=ROWS):
            w = numpyro.sample("w", dist.Normal(0.0, 1.0))
            numpyro.sample("z", TwoLayers(w[:, None] * jnp.ones(2), 0.1, 0.2))

    def after_z():
        z = later_z()
        with numpyro.plate("data", SIZE, subsample_size=ROWS):
            numpyro.sample("w", dist.Normal(z.sum((-2, -1)), 1.0))

    def later_z():
        with numpyro.plate("data", SIZE, subsample_size=ROWS):
            return numpyro.sample("z", TwoLayers(numpyro.param("a"), 0.3, 0.7, 0.7, 0.5))

    terms = lambda *pair: ELBO().terms(ELBO().plan(jax.random.key(0), PARAMS, *pair))
    layers = [("kl", "z", 0), ("kl", "z", 1)]
    assert set(layers) <= set(terms(on_what_is_later, later))
    assert set(terms(on_what_is_later, after_z)) >= {("p", "z"), ("q", "z")}
    for q in [estimators.StickingTheLanding(), estimators.LeaveOneOut()]:
        assert ("q", "z") in terms(model, estimators.use(guide, {"z": q}))

    def with_prior(wrap):
        def program():
            with numpyro.plate("data", SIZE, subsample_size=ROWS):
                numpyro.sample("z", wrap(TwoLayers(jnp.zeros((ROWS, 2)), 0.1, 0.2)))

        return program

    assert ("q", "z") in terms(with_prior(lambda d: dist.Normal(jnp.zeros((ROWS, 2, 2)), 1.0).to_event(2)), guide)
    assert ("q", "z") in terms(with_prior(lambda d: d.mask(jnp.array([True, True, False]))), guide)
    assert terms(with_prior(lambda d: d), guide) == layers


@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_bound_is_the_one_of_log_p_and_log_q(num_particles):
    closed, drawn = (found(ELBO(num_particles, analytic_kl=of), PARAMS, observe=True)[0] for of in (True, False))
    near(closed - drawn, 0.0)
