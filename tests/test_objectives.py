"""Laws of objectives on whole programs, against quadrature, enumeration and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.handlers import mask, scale, seed, substitute, trace
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from numpyro.primitives import mutable

import probgen
from probgen.inference import estimators, expectation, objectives
from probgen.inference.estimators import Enumerate, LeaveOneOut, Pathwise, ScoreFunction, StickingTheLanding, use
from probgen.inference.laboratory import three_sites
from probgen.inference.objectives import ELBO
from probgen.inference.objectives.divergence import closed_kl

N = 20_000
LIMIT = 4.7  # two-sided, some 400 components together at one in a thousand


def flat(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradients(objective, params, model, guide, *args, count=N, key=0):
    """Losses [count] and gradients [count, P]."""

    def one(key):
        loss, gradient = jax.value_and_grad(lambda p: objective.loss(key, p, model, guide, *args))(params)
        return loss, flat(gradient)

    found = jax.jit(lambda keys: jax.vmap(one)(keys))(jax.random.split(jax.random.key(key), count))
    return tuple(np.asarray(x, float) for x in found)


def check_unbiased(found, exact, rounding=3e-6):
    exact = np.asarray(exact, float)
    error = found.std(0) / np.sqrt(len(found)) + rounding * (1 + np.abs(exact).max())
    z = np.abs(found.mean(0) - exact) / error
    assert np.max(z) < LIMIT, (np.max(z), found.mean(0), exact)


# -- three sites

PROBLEM = three_sites()
EXACT = jax.jit(jax.value_and_grad(PROBLEM.loss))(PROBLEM.params)
MU = (Pathwise(), StickingTheLanding(), LeaveOneOut())
DISCRETE = (ScoreFunction(), LeaveOneOut(), Enumerate())


@pytest.mark.parametrize(("mu", "c", "z"), itertools.product(MU, DISCRETE, DISCRETE), ids=str)
def test_every_combination_of_estimators_is_unbiased(mu, c, z):
    guide = use(PROBLEM.guide, {"mu": mu, "c": c, "z": z})
    loss, found = gradients(ELBO(), PROBLEM.params, PROBLEM.model, guide)
    check_unbiased(found, flat(EXACT[1]))
    check_unbiased(loss[:, None], EXACT[0][None])


@pytest.mark.parametrize("objective", [ELBO(), ELBO(3), ELBO(3, False), ELBO(2, analytic_kl=False)], ids=range(4))
def test_the_default_is_unbiased(objective):
    loss, found = gradients(objective, PROBLEM.params, PROBLEM.model, PROBLEM.guide, count=N // objective.num_particles)
    check_unbiased(found, flat(EXACT[1]))
    check_unbiased(loss[:, None], EXACT[0][None])


def test_vectorized_and_mapped_particles_agree():
    a = gradients(ELBO(4), PROBLEM.params, PROBLEM.model, PROBLEM.guide, count=3)
    b = gradients(ELBO(4, False), PROBLEM.params, PROBLEM.model, PROBLEM.guide, count=3)
    c = gradients(ELBO(4, jax.lax.map), PROBLEM.params, PROBLEM.model, PROBLEM.guide, count=3)
    for other in (b, c):
        for x, y in zip(a, other, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


def test_the_default_does_half_the_work_of_numpyros_and_the_best_a_quarter():
    from numpyro.infer import TraceGraph_ELBO

    work = {}
    best = use(PROBLEM.guide, {"mu": StickingTheLanding(), "c": LeaveOneOut(), "z": LeaveOneOut()})
    for name, objective, guide in [
        ("numpyro", TraceGraph_ELBO(), PROBLEM.guide),
        ("default", ELBO(), PROBLEM.guide),
        ("best", ELBO(), best),
    ]:
        variance = gradients(objective, PROBLEM.params, PROBLEM.model, guide)[1].var(0).sum()
        count = 1
        if isinstance(objective, ELBO):
            plan = objective.plan(jax.random.key(0), PROBLEM.params, PROBLEM.model, guide)
            count = plan.evaluations(objective.num_particles)
        work[name] = variance * count
    assert work["default"] < 0.5 * work["numpyro"]
    assert work["best"] < 0.25 * work["numpyro"]


# -- plates, scales, masks

X = jnp.array([-1.0, 0.2, 1.5, 3.0])
LOGITS = jnp.array([-1.0, 0.3, 0.5, 0.0])


def rows_model(size=None):
    with numpyro.plate("rows", len(X), subsample_size=size) as index:
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        numpyro.sample("x", dist.Normal(1.5 * z, 1.0), obs=X[index])


def rows_guide(size=None):
    logits = numpyro.param("logits", LOGITS)
    with numpyro.plate("rows", len(X), subsample_size=size) as index:
        numpyro.sample("z", dist.Bernoulli(logits=logits[index]))


def rows_loss(logits, weights=1.0, log_prior_weight=1.0):
    """The exact loss, row by row."""
    total = 0.0
    for z in (0.0, 1.0):
        log_q = z * logits - jax.nn.softplus(logits)
        log_prior = z * jnp.log(0.3) + (1 - z) * jnp.log(0.7)
        log_x = -0.5 * (X - 1.5 * z) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
        total += jnp.exp(log_q) * (log_prior_weight * (log_q - log_prior) - log_x)
    return jnp.sum(weights * total)


ROWS = {"logits": LOGITS}
ROWS_GRADIENT = jax.grad(rows_loss)(LOGITS)


@pytest.mark.parametrize("analytic_kl", [True, False])
def test_all_minibatches_together_are_the_full_gradient(analytic_kl):
    """Exactly, by enumeration: every minibatch of two rows in turn."""
    objective = ELBO(analytic_kl=analytic_kl)

    @jax.jit
    def at(index):
        fix = lambda program: substitute(program, {"rows": index})
        loss = lambda p: objective.loss(
            jax.random.key(0), p, fix(rows_model), fix(use(rows_guide, {"z": Enumerate()})), 2
        )
        return jax.grad(loss)(ROWS)["logits"]

    every = jnp.stack([at(jnp.array(index)) for index in itertools.combinations(range(4), 2)])
    np.testing.assert_allclose(every.mean(0), ROWS_GRADIENT, atol=1e-5)


@pytest.mark.parametrize("estimator", [LeaveOneOut(), ScoreFunction(), Enumerate()], ids=str)
@pytest.mark.parametrize("size", [2, None])
def test_drawn_minibatches_are_unbiased(estimator, size):
    """numpyro's TraceGraph_ELBO multiplies by the scale twice, its TraceEnum_ELBO draws two different minibatches."""
    _, found = gradients(ELBO(2), ROWS, rows_model, use(rows_guide, {"z": estimator}), size)
    check_unbiased(found, ROWS_GRADIENT)


def test_all_particles_and_the_model_see_one_minibatch():
    draws = []

    def recording():
        with numpyro.plate("rows", 100, subsample_size=3) as index:
            z = numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("w", 0.0) * jnp.ones(3)))
            jax.debug.callback(lambda i, z: draws.append((tuple(np.asarray(i)), tuple(np.asarray(z)))), index, z)

    def likelihood():
        with numpyro.plate("rows", 100, subsample_size=3) as index:
            z = numpyro.sample("z", dist.Bernoulli(0.5))
            jax.debug.callback(lambda i, z: draws.append((tuple(np.asarray(i)), tuple(np.asarray(z)))), index, z)

    ELBO(6).loss(jax.random.key(3), {"w": jnp.zeros(())}, likelihood, use(recording, {"z": LeaveOneOut()}))
    jax.effects_barrier()
    assert len({index for index, _ in draws}) == 1 and len({z for _, z in draws}) > 1


@pytest.mark.parametrize("estimator", [LeaveOneOut(), Enumerate()], ids=str)
def test_a_scale_scales_the_gradient_by_itself(estimator):
    guide = use(rows_guide, {"z": estimator})
    plain = gradients(ELBO(2), ROWS, rows_model, guide, count=5)
    scaled = gradients(ELBO(2), ROWS, scale(rows_model, 3.0), scale(guide, 3.0), count=5)
    traced = gradients(ELBO(2), ROWS, scale(rows_model, jnp.array(3.0)), scale(guide, jnp.array(3.0)), count=5)
    for x, y, z in zip(plain, scaled, traced, strict=True):
        np.testing.assert_allclose(3 * x, y, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(3 * x, z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimator", [LeaveOneOut(), ScoreFunction(), Enumerate()], ids=str)
def test_a_mask_hides_terms_and_not_the_score(estimator):
    """Prior and q of two rows are masked, their likelihoods are not: numpyro's TraceGraph_ELBO gives them 0."""
    weights = jnp.array([True, False, True, False])

    def model():
        with numpyro.plate("rows", len(X)):
            with mask(mask=weights):
                z = numpyro.sample("z", dist.Bernoulli(0.3))
            numpyro.sample("x", dist.Normal(1.5 * z, 1.0), obs=X)

    def guide():
        logits = numpyro.param("logits", LOGITS)
        with numpyro.plate("rows", len(X)), mask(mask=weights):
            numpyro.sample("z", dist.Bernoulli(logits=logits))

    exact = jax.grad(lambda x: rows_loss(x, log_prior_weight=jnp.where(weights, 1.0, 0.0)))(LOGITS)
    _, found = gradients(ELBO(2), ROWS, model, use(guide, {"z": estimator}))
    check_unbiased(found, exact)
    assert abs(exact[1]) > 0.1


def test_masked_rows_count_for_nothing():
    keep = jnp.array([True, False, True, True])
    whole = lambda program: mask(program, mask=keep)
    _, found = gradients(ELBO(2), ROWS, whole(rows_model), use(whole(rows_guide), {"z": LeaveOneOut()}))
    check_unbiased(found, jax.grad(lambda x: rows_loss(x, jnp.where(keep, 1.0, 0.0)))(LOGITS))


def test_costs_are_taken_plate_by_plate():
    """The variance of one row's gradient does not grow with the number of rows."""

    def pair(size):
        def model():
            with numpyro.plate("rows", size):
                z = numpyro.sample("z", dist.Bernoulli(0.3))
                numpyro.sample("x", dist.Normal(z, 1.0), obs=jnp.ones(size))

        def guide():
            with numpyro.plate("rows", size):
                numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logits", jnp.full(size, 0.4))))

        return model, use(guide, {"z": ScoreFunction()}), {"logits": jnp.full(size, 0.4)}

    variances = []
    for size in (2, 50):
        model, guide, params = pair(size)
        variances.append(gradients(ELBO(), params, model, guide)[1].var(0).mean())
    assert variances[1] == pytest.approx(variances[0], rel=0.1)


def test_two_plates_and_a_global_cost():
    """Costs are summed to the site's plates, also where plates cross and a term lies outside of one."""
    a, b = 2, 3
    y = jnp.array([[0.3, -0.2, 1.0], [0.8, 0.1, -1.0]])

    def model():
        with numpyro.plate("a", a, dim=-2):
            u = numpyro.sample("u", dist.Bernoulli(0.4))
            with numpyro.plate("b", b, dim=-1):
                v = numpyro.sample("v", dist.Bernoulli(0.6))
                numpyro.sample("y", dist.Normal(u + v, 1.0), obs=y)
        numpyro.factor("total", -0.1 * (jnp.sum(u) + jnp.sum(v) - 2.0) ** 2)

    params = {"u": jnp.array([[0.2], [-0.4]]), "v": jnp.linspace(-1, 1, 6).reshape(2, 3)}

    def guide():
        with numpyro.plate("a", a, dim=-2):
            numpyro.sample("u", dist.Bernoulli(logits=numpyro.param("u_logit", params["u"])))
            with numpyro.plate("b", b, dim=-1):
                numpyro.sample("v", dist.Bernoulli(logits=numpyro.param("v_logit", params["v"])))

    def exact(p):
        bit = lambda z, logit: z * logit - jax.nn.softplus(logit)
        every = jnp.array(list(itertools.product((0.0, 1.0), repeat=8)))

        def joint(bits):
            u, v = bits[:2].reshape(2, 1), bits[2:].reshape(2, 3)
            log_q = bit(u, p["u_logit"]).sum() + bit(v, p["v_logit"]).sum()
            log_p = bit(u, jnp.log(0.4 / 0.6)).sum() + bit(v, jnp.log(0.6 / 0.4)).sum()
            log_p += jnp.sum(-0.5 * (y - u - v) ** 2 - 0.5 * jnp.log(2 * jnp.pi)) - 0.1 * (u.sum() + v.sum() - 2.0) ** 2
            return jnp.exp(log_q) * (log_q - log_p)

        return jnp.sum(jax.vmap(joint)(every))

    at = {"u_logit": params["u"], "v_logit": params["v"]}
    loss, found = gradients(ELBO(2), at, model, guide)
    right = jax.jit(jax.value_and_grad(exact))(at)
    check_unbiased(found, flat(right[1]))
    check_unbiased(loss[:, None], right[0][None])
    with pytest.raises(ValueError, match=r"site 'v'.*lock-step.*'total' depends on them.*LeaveOneOut\(\) would serve"):
        ELBO().loss(jax.random.key(0), at, model, use(guide, {"v": Enumerate()}))


def test_plates_are_told_apart_by_name():
    """x in plate B hangs on all elements of z in plate A, which lies on the same axis."""
    order, y = jnp.array([2, 0, 1]), jnp.arange(3.0)

    def model():
        with numpyro.plate("A", 3):
            z = numpyro.sample("z", dist.Bernoulli(0.3))
        with numpyro.plate("B", 3):
            numpyro.sample("x", dist.Normal(z[order], 1.0), obs=y)

    params = {"logits": jnp.array([0.4, -0.2, 0.3])}

    def guide():
        logits = numpyro.param("logits", params["logits"])
        with numpyro.plate("A", 3):
            numpyro.sample("z", dist.Bernoulli(logits=logits))

    def exact(logits):
        q, mean = jax.nn.sigmoid(logits), y[jnp.argsort(order)]
        kl = q * jnp.log(q / 0.3) + (1 - q) * jnp.log((1 - q) / 0.7)
        return jnp.sum(kl + 0.5 * (q * (mean - 1) ** 2 + (1 - q) * mean**2))

    for chosen in ({}, {"z": LeaveOneOut()}, {"z": ScoreFunction()}):
        _, found = gradients(ELBO(2), params, model, use(guide, chosen))
        check_unbiased(found, jax.grad(exact)(params["logits"]))


# -- what numpyro does wrong, one by one


def test_sites_without_a_path_get_their_gradient():
    """Defects 1 and 2: Trace_ELBO's gradient of a Bernoulli is zero, of a mixture silently biased."""

    def model():
        z = numpyro.sample("z", dist.Normal(0.0, 2.0))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=0.7)

    params = {"logits": jnp.array([0.3, -0.2])}

    def guide():
        weights = dist.Categorical(logits=numpyro.param("logits", params["logits"]))
        numpyro.sample("z", dist.MixtureSameFamily(weights, dist.Normal(jnp.array([-1.0, 1.0]), 0.5)))

    grid = jnp.linspace(-6, 6, 4001)

    def exact(logits):
        q = dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(jnp.array([-1.0, 1.0]), 0.5))
        log_q = q.log_prob(grid)
        log_p = dist.Normal(0.0, 2.0).log_prob(grid) + dist.Normal(grid, 1.0).log_prob(0.7)
        return jnp.sum(jnp.exp(log_q) * (log_q - log_p)) * (grid[1] - grid[0])

    right = jax.jit(jax.grad(exact))(params["logits"])
    for chosen in ({}, {"z": LeaveOneOut()}):
        _, found = gradients(ELBO(), params, model, use(guide, chosen))
        check_unbiased(found, right, rounding=1e-4)


def test_a_von_mises_guide_trains():
    """Defect 8: Trace_ELBO cannot differentiate its sampler."""

    def model():
        angle = numpyro.sample("angle", dist.VonMises(0.0, 0.1))
        numpyro.sample("x", dist.VonMises(angle, 4.0).expand([5]).to_event(1), obs=jnp.full(5, 1.2))

    def guide():
        loc = numpyro.param("loc", 0.0)
        numpyro.sample("angle", dist.VonMises(loc, jnp.exp(numpyro.param("log_concentration", 0.0))))

    implicit = use(guide, {"angle": estimators.Implicit()})
    result = SVI(model, implicit, optax.adam(optax.cosine_decay_schedule(0.1, 500)), ELBO(4)).run(
        jax.random.key(0), 500, progress_bar=False
    )
    assert result.params["loc"] == pytest.approx(1.2, abs=0.05)
    assert 12 < jnp.exp(result.params["log_concentration"]) < 28  # the posterior's is near 20


def test_mutable_state_is_carried():
    """Defect 7: dropped with several particles, or refused, by numpyro's objectives."""

    def model(x):
        running = mutable("mean", {"value": jnp.zeros(())})
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        running["value"] = 0.5 * running["value"] + 0.5 * (x + z)
        numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logit", 0.1)))

    for objective in (ELBO(), ELBO(5), ELBO(3, False)):
        for estimator in (LeaveOneOut(), Enumerate()):
            svi = SVI(model, use(guide, {"z": estimator}), optax.sgd(0.0), objective)
            state, update = svi.init(jax.random.key(0), 2.0), jax.jit(svi.update)
            for _ in range(12):
                state, _ = update(state, 2.0)
            assert 2.0 < state.mutable_state["mean"]["value"] < 3.0


def test_logits_of_exactly_zero():
    """A plain initialization: numpyro gets the derivative of log_prob wrong there, in guide and likelihood."""
    params = {"q": jnp.zeros(()), "p": jnp.zeros(())}

    def model():
        z = numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("p", 0.0)))
        numpyro.sample("x", dist.Bernoulli(logits=0.0 * z + numpyro.param("p", 0.0)), obs=1)

    def guide():
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("q", 0.0)))

    for estimator in (LeaveOneOut(), ScoreFunction(), Enumerate()):
        for kl in (True, False):
            _, found = gradients(ELBO(2, analytic_kl=kl), params, model, use(guide, {"z": estimator}))
            check_unbiased(found, jnp.array([-0.5, 0.0]))


WEIGHTED = [LeaveOneOut(), ScoreFunction(), ScoreFunction(estimators.Constant(-3.0))]


@pytest.mark.parametrize("estimator", WEIGHTED, ids=str)
@pytest.mark.parametrize(("size", "count"), [(None, 2), (2, 2), (None, 3)])
def test_importance_weights_with_discrete_sites(estimator, size, count):
    """Defect 6: RenyiELBO has no score term. Here against the sum over all tuples of bits."""

    def exact(logits):
        total = 0.0
        for bits in itertools.product((0.0, 1.0), repeat=count):
            z = jnp.array(bits)[:, None]
            log_q = z * logits - jax.nn.softplus(logits)
            log_p = z * jnp.log(0.3) + (1 - z) * jnp.log(0.7) + dist.Normal(1.5 * z, 1.0).log_prob(X)
            total += jnp.exp(log_q.sum(0)) * (jax.nn.logsumexp(log_p - log_q, 0) - jnp.log(count))
        return -jnp.sum(total)

    objective = objectives.ImportanceWeighted(count)
    loss, found = gradients(objective, ROWS, rows_model, use(rows_guide, {"z": estimator}), size)
    right = jax.jit(jax.value_and_grad(exact))(LOGITS)
    check_unbiased(found, right[1])
    check_unbiased(loss[:, None], right[0][None])


def test_importance_weights_on_a_path_and_their_refusals():
    from numpyro.infer import RenyiELBO

    def model():
        with numpyro.plate("rows", len(X)):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=X)

    def guide():
        loc = numpyro.param("logits", LOGITS)
        with numpyro.plate("rows", len(X)):
            numpyro.sample("z", dist.Normal(loc, 1.0))

    ours = gradients(objectives.ImportanceWeighted(4), ROWS, model, guide)
    theirs = gradients(RenyiELBO(0.0, 4), ROWS, model, guide, key=1)
    for a, b in zip(ours, theirs, strict=True):
        assert np.max(np.abs(a.mean(0) - b.mean(0)) / np.hypot(a.std(0), b.std(0)) * np.sqrt(N)) < LIMIT
    loss = lambda m, g: objectives.ImportanceWeighted(2).loss(jax.random.key(0), ROWS, m, g)
    for estimator in (Enumerate(), ScoreFunction(estimators.OptimalCoefficient())):
        with pytest.raises(ValueError, match=r"site 'z'.*wrong under importance weights.*LeaveOneOut\(\) would serve"):
            loss(rows_model, use(rows_guide, {"z": estimator}))
    with pytest.raises(ValueError, match=r"site 'z'.*StickingTheLanding.*Pathwise\(\) would serve"):
        loss(model, use(guide, {"z": StickingTheLanding()}))

    def hierarchical(program):
        def run():
            numpyro.sample("mu", dist.Normal(0.0, 1.0))
            program(2)

        return run

    with pytest.raises(ValueError, match=r"plate 'rows' of site '.' draws minibatches and does not enclose all sites"):
        loss(hierarchical(rows_model), hierarchical(rows_guide))


# -- closed forms


def test_sticking_the_landing_has_no_variance_at_the_posterior():
    """y ~ Normal(μ, 1), μ ~ Normal(0, 1): q = Normal(y/2, 1/√2) is the posterior."""

    def model():
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=3.0)

    params = {"loc": jnp.array(1.5), "scale": jnp.array(np.sqrt(0.5))}

    def guide():
        numpyro.sample("mu", dist.Normal(numpyro.param("loc", 0.0), numpyro.param("scale", 1.0)))

    def flow():
        affine = dist.transforms.AffineTransform(numpyro.param("loc", 0.0), numpyro.param("scale", 1.0))
        numpyro.sample("mu", dist.TransformedDistribution(dist.Normal(0.0, 1.0), affine))

    for fn in (guide, flow):
        loss, found = gradients(ELBO(), params, model, use(fn, {"mu": StickingTheLanding()}), count=1000)
        assert np.abs(found).max() < 2e-6 and loss.std() < 1e-6
        _, other = gradients(ELBO(), params, model, fn, count=1000)
        assert other.std(0).max() > 0.1
    evidence = dist.Normal(0.0, np.sqrt(2)).log_prob(3.0)
    np.testing.assert_allclose(loss, -evidence, rtol=1e-5)


def test_sticking_the_landing_in_a_guide_of_several_sites():
    """a ~ N(0, 1), b ~ N(a, 1), y ~ N(b, 1): the posterior as q(b) q(a | b), with a key drawn on the way."""

    def model():
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        b = numpyro.sample("b", dist.Normal(a, 1.0))
        numpyro.sample("y", dist.Normal(b, 1.0), obs=3.0)

    params = {"loc": jnp.array(2.0), "scale": jnp.array(np.sqrt(2 / 3)), "slope": jnp.array(0.5)}

    def guide():
        p = {name: numpyro.param(name, value) for name, value in params.items()}
        b = numpyro.sample("b", dist.Normal(p["loc"], p["scale"]))
        noise = jax.random.normal(numpyro.prng_key())  # a key that a second run must draw again
        numpyro.sample("a", dist.Normal(p["slope"] * b + 0.0 * noise, np.sqrt(0.5)))

    sticking = use(guide, {"a": StickingTheLanding(), "b": StickingTheLanding()})
    loss, found = gradients(ELBO(), params, model, sticking, count=1000)
    assert np.abs(found).max() < 1e-5
    np.testing.assert_allclose(loss, -dist.Normal(0.0, np.sqrt(3)).log_prob(3.0), rtol=1e-4)
    off = {**params, "loc": jnp.array(1.0), "slope": jnp.array(0.1)}
    a, b = (gradients(ELBO(analytic_kl=False), off, model, g)[1] for g in (sticking, guide))
    assert np.max(np.abs(a.mean(0) - b.mean(0)) / np.hypot(a.std(0), b.std(0)) * np.sqrt(N)) < LIMIT


def test_closed_kl_is_exact_or_none():
    pairs = [
        (dist.Bernoulli(logits=jnp.array([0.3, -2.0])), dist.Bernoulli(0.2)),
        (dist.Bernoulli(0.3), dist.Bernoulli(logits=0.0)),
        (dist.Categorical(logits=jnp.array([0.1, 0.5, -1.0])), dist.Categorical(jnp.array([0.2, 0.3, 0.5]))),
        (dist.Bernoulli(logits=jnp.array([0.3, -2.0])).to_event(1), dist.Bernoulli(0.2).expand([2]).to_event(1)),
        (dist.Binomial(3, 0.2), dist.Binomial(3, logits=0.4)),
    ]
    for q, p in pairs:
        values = Enumerate().support(q, tuple(range(-len(q.batch_shape), 0)))
        log_q, log_p = q.log_prob(values), p.log_prob(values)
        np.testing.assert_allclose(closed_kl(q, p), jnp.sum(jnp.exp(log_q) * (log_q - log_p), 0), rtol=1e-5)
    assert closed_kl(dist.Kumaraswamy(1.2, 0.8), dist.Beta(2.0, 2.0)) is None  # numpyro's is a truncated series
    assert closed_kl(dist.Delta(1.0), dist.Normal(0.0, 1.0)) is None
    assert closed_kl(dist.Normal(0.0, 1.0).mask(False), dist.Normal(0.0, 1.0).mask(True)) is None
    assert closed_kl(dist.Binomial(3, 0.2), dist.Binomial(4, 0.4)) is None
    sure = closed_kl(dist.Categorical(jnp.array([1.0, 0.0])), dist.Categorical(jnp.array([0.5, 0.5])))
    assert sure == pytest.approx(np.log(2), rel=1e-5)


def test_the_closed_kl_is_left_where_it_would_be_wrong():
    """The guide draws b before a, the model a before b: its parameters of a hang on nothing, those of b on a."""

    def model():
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        b = numpyro.sample("b", dist.Normal(a, 1.0))
        numpyro.sample("y", dist.Normal(b, 1.0), obs=1.0)

    params = {"loc_a": jnp.array(0.5), "loc_b": jnp.array(-0.3)}

    def guide():
        b = numpyro.sample("b", dist.Normal(numpyro.param("loc_b", 0.0), 1.0))
        numpyro.sample("a", dist.Normal(numpyro.param("loc_a", 0.0) + 0.5 * b, 1.0))

    plan = ELBO().plan(jax.random.key(0), params, model, guide)
    assert ("kl", "a") in ELBO().terms(plan) and ("kl", "b") not in ELBO().terms(plan)
    # E_q over b ~ N(β, 1), a ~ N(α + b/2, 1): all is quadratic
    alpha, beta = params["loc_a"], params["loc_b"]

    def exact(alpha, beta):
        mean_a = alpha + 0.5 * beta
        a2, ab, b2 = mean_a**2 + 1.25, mean_a * beta + 0.5, beta**2 + 1
        log_p = -0.5 * a2 - 0.5 * (b2 - 2 * ab + a2) - 0.5 * (b2 - 2 * beta + 1) - 1.5 * jnp.log(2 * jnp.pi)
        return -log_p - (jnp.log(2 * jnp.pi) + 1)

    loss, found = gradients(ELBO(), params, model, guide)
    check_unbiased(found, jnp.stack(jax.grad(exact, (0, 1))(alpha, beta)))
    check_unbiased(loss[:, None], exact(alpha, beta)[None])


def test_the_loss_is_the_bound_and_annealing_is_in_the_gradient():
    model, guide = rows_model, rows_guide
    beta = objectives.Beta(ELBO(), 0.25)
    loss, found = gradients(beta, ROWS, model, guide, count=100)
    np.testing.assert_allclose(loss, rows_loss(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(
        found.mean(0), jax.grad(lambda x: rows_loss(x, log_prior_weight=0.25))(LOGITS), atol=1e-5
    )
    _, scored = gradients(
        objectives.Beta(ELBO(2, analytic_kl=False), 0.25), ROWS, model, use(guide, {"z": LeaveOneOut()})
    )
    check_unbiased(scored, jax.grad(lambda x: rows_loss(x, log_prior_weight=0.25))(LOGITS))


def test_free_bits():
    """No gradient from a KL below λ per row, the whole above it, whatever the scale."""
    likelihood = jax.grad(lambda x: rows_loss(x, log_prior_weight=0.0))(LOGITS)
    kl = (rows_loss(LOGITS) - rows_loss(LOGITS, log_prior_weight=0.0)) / 4
    for nats, want in [(1.1 * float(kl), likelihood), (0.9 * float(kl), ROWS_GRADIENT), ({"z": 9.0}, likelihood)]:
        for factor in (1.0, 7.0):
            objective = objectives.FreeBits(ELBO(), nats)
            pair = scale(rows_model, factor), scale(rows_guide, factor)
            loss, found = gradients(objective, ROWS, *pair, count=2)
            np.testing.assert_allclose(found[0], factor * want, atol=1e-4)
            np.testing.assert_allclose(loss[0], factor * rows_loss(LOGITS), rtol=1e-5)
    both = objectives.FreeBits(objectives.Beta(ELBO(), 0.25), 0.0)
    np.testing.assert_allclose(
        gradients(both, ROWS, rows_model, rows_guide, count=1)[1][0],
        jax.grad(lambda x: rows_loss(x, log_prior_weight=0.25))(LOGITS),
        atol=1e-5,
    )


def test_annealing_knows_the_step():
    schedule = lambda step: jnp.where(step < 2, 0.0, 1.0)
    svi = SVI(rows_model, objectives.count_steps(rows_guide), optax.sgd(1.0), objectives.Beta(ELBO(), schedule))
    state, update = svi.init(jax.random.key(0)), jax.jit(svi.update)
    steps = []
    for _ in range(4):
        before = svi.get_params(state)["logits"]
        state, _ = update(state)
        steps.append((before, before - svi.get_params(state)["logits"]))
    for i, (at, moved) in enumerate(steps):
        want = jax.grad(lambda x, w=float(i >= 2): rows_loss(x, log_prior_weight=w))(at)
        np.testing.assert_allclose(moved, want, atol=1e-4)
    with pytest.raises(ValueError, match=r"objectives\.count_steps\(guide\)"):
        SVI(rows_model, rows_guide, optax.sgd(1.0), objectives.Beta(ELBO(), schedule)).run(
            jax.random.key(0), 1, progress_bar=False
        )
    with pytest.raises(ValueError, match=r"expected an objectives\.ELBO to wrap, got Trace_ELBO"):
        objectives.Beta(numpyro.infer.Trace_ELBO(), 0.5)


# -- control flow, auxiliary sites, vmap


def chain(length, sampler):
    def step(state, y):
        z = numpyro.sample("z", sampler(state))
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)
        return z, None

    return step


def test_discrete_sites_inside_a_scan_are_unbiased():
    y = jnp.array([0.5, 1.5, -0.5])

    def model():
        scan(chain(3, lambda z: dist.Bernoulli(logits=1.5 * z - 0.5)), 0, y)

    params = {"bias": jnp.array(0.2), "slope": jnp.array(-0.7)}

    def guide():
        bias, slope = numpyro.param("bias", 0.0), numpyro.param("slope", 0.0)

        def step(state, y):
            z = numpyro.sample("z", dist.Bernoulli(logits=bias + slope * state + 0.3 * y))
            return z, None

        scan(step, 0, y)

    def exact(p):
        bit = lambda z, logit: z * logit - jax.nn.softplus(logit)
        total = 0.0
        for path in itertools.product((0.0, 1.0), repeat=3):
            log_q = log_p = 0.0
            before = 0.0
            for z, x in zip(path, y, strict=True):
                log_q += bit(z, p["bias"] + p["slope"] * before + 0.3 * x)
                log_p += bit(z, 1.5 * before - 0.5) - 0.5 * (x - z) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
                before = z
            total += jnp.exp(log_q) * (log_q - log_p)
        return total

    loss, found = gradients(ELBO(2), params, model, guide)
    right = jax.jit(jax.value_and_grad(exact))(params)
    check_unbiased(found, flat(right[1]))
    check_unbiased(loss[:, None], right[0][None])
    with pytest.raises(ValueError, match=r"site 'z' is drawn inside a scan.*Enumerate.*LeaveOneOut\(\) serves there"):
        ELBO().loss(jax.random.key(0), params, model, use(guide, {"z": Enumerate()}))


def test_continuous_sites_inside_a_scan():
    def model():
        scan(chain(3, lambda z: dist.Normal(z, 1.0)), 0.0, jnp.ones(3))

    def program(make):
        def guide():
            loc = numpyro.param("loc", jnp.zeros(3))
            scan(lambda state, m: (numpyro.sample("z", make(m)), None), 0.0, loc)

        return guide

    params = {"loc": jnp.array([0.3, -0.2, 0.5])}
    _, found = gradients(ELBO(), params, model, program(lambda m: dist.Normal(m, 1.0)), count=2000)
    loc, y = params["loc"], 1.0
    before, after = jnp.append(0.0, loc[:-1]), jnp.append(loc[1:], loc[-1])
    check_unbiased(found, (loc - before) + (loc - after) + (loc - y))
    with pytest.raises(ValueError, match=r"site 'z' is drawn inside a scan.*no estimator \(unroll the loop\)"):
        mixture = lambda m: dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(m + jnp.ones(2), 1.0))
        ELBO().loss(jax.random.key(0), params, model, program(mixture))
    with pytest.raises(ValueError, match=r"site 'z' is drawn inside a scan.*Pathwise\(\) serves there"):
        ELBO().loss(jax.random.key(0), params, model, use(program(lambda m: dist.Normal(m, 1.0)), {"z": LeaveOneOut()}))


def test_auxiliary_sites_count_for_the_guide_alone():
    def model():
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=1.0)

    def guide():
        u = numpyro.sample("u", dist.Bernoulli(logits=numpyro.param("logit", 0.4)), infer={"is_auxiliary": True})
        numpyro.sample("z", dist.Normal(jnp.where(u, 1.0, -1.0), 0.5))

    def exact(p):
        probs = jnp.stack([jax.nn.sigmoid(-p["logit"]), jax.nn.sigmoid(p["logit"])])
        grid = jnp.linspace(-5, 5, 2001)
        total = 0.0
        for u, loc in enumerate((-1.0, 1.0)):
            log_q = jnp.log(probs[u]) + dist.Normal(loc, 0.5).log_prob(grid)
            log_p = dist.Normal(0.0, 1.0).log_prob(grid) + dist.Normal(grid, 1.0).log_prob(1.0)
            total += jnp.sum(jnp.exp(log_q) * (log_q - log_p)) * (grid[1] - grid[0])
        return total

    params = {"logit": jnp.array(0.4)}
    right = jax.jit(jax.value_and_grad(exact))(params)
    for estimator in (Enumerate(), LeaveOneOut()):
        loss, found = gradients(ELBO(), params, model, use(guide, {"u": estimator}))
        check_unbiased(found, flat(right[1]), rounding=1e-4)
        check_unbiased(loss[:, None], right[0][None], rounding=1e-4)


def test_losses_under_vmap_and_jit():
    losses = lambda logits, key: ELBO(2).loss(
        key, {"logits": logits}, rows_model, use(rows_guide, {"z": LeaveOneOut()})
    )
    logits, keys = jnp.stack([LOGITS, -LOGITS]), jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(jax.value_and_grad(losses)))(logits, keys)
    for i in range(2):
        alone = jax.value_and_grad(losses)(logits[i], keys[i])
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("auto", [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal])
def test_automatic_guides(auto):
    """A conjugate normal mean, whose posterior is known; the estimator is set from outside."""
    y = jnp.array([0.5, 1.5, 2.5])

    def model():
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    guide = auto(model)
    site = "mu" if auto is AutoNormal else "_auto_latent"
    svi = SVI(model, use(guide, {site: StickingTheLanding()}), optax.adam(0.05), ELBO())
    result = svi.run(jax.random.key(0), 600, progress_bar=False)
    draws = guide.sample_posterior(jax.random.key(1), result.params, sample_shape=(4000,))["mu"]
    assert draws.mean() == pytest.approx(4.5 / 4, abs=0.04) and draws.std() == pytest.approx(0.5, abs=0.03)
    evidence = dist.MultivariateNormal(jnp.zeros(3), jnp.ones((3, 3)) + jnp.eye(3)).log_prob(y)
    assert result.losses[-50:].mean() == pytest.approx(-float(evidence), abs=1e-3)


# -- choosing


def test_use_is_a_handler_and_a_context_and_the_outermost_wins():
    def estimator_of(guide):
        return ELBO().plan(jax.random.key(0), ROWS, rows_model, guide).choices["z"].estimator

    assert estimator_of(rows_guide) == Enumerate()  # the default
    inner = use(rows_guide, {"z": ScoreFunction()})
    assert estimator_of(inner) == ScoreFunction()
    assert estimator_of(use(inner, {"z": LeaveOneOut()})) == LeaveOneOut()
    with use({"z": LeaveOneOut()}):
        assert estimator_of(inner) == LeaveOneOut()
        with use({"z": ScoreFunction()}):
            assert estimator_of(rows_guide) == LeaveOneOut()
    assert estimator_of(inner) == ScoreFunction()

    infer = {"estimator": ScoreFunction(), "mine": 1}

    def written():
        logits = numpyro.param("logits", LOGITS)
        with numpyro.plate("rows", len(X)):
            numpyro.sample("z", dist.Bernoulli(logits=logits), infer=infer)

    assert estimator_of(written) == ScoreFunction()
    assert estimator_of(use(written, {"z": LeaveOneOut()})) == LeaveOneOut()
    assert infer == {"estimator": ScoreFunction(), "mine": 1}


def test_a_context_serves_svi_with_state():
    svi = SVI(rows_model, rows_guide, optax.adam(0.1), ELBO())
    with use({"z": ScoreFunction(estimators.MovingAverage())}):
        result = svi.run(jax.random.key(0), 20, progress_bar=False)
    assert result.state.mutable_state["z$estimator"]["weight"] > 0.8


def test_the_default_counts_what_enumeration_costs():
    def pair(sites):
        def model():
            for name, fn in sites.items():
                numpyro.sample(name, fn)
            numpyro.factor("x", -1.0)

        return model, model

    def chosen(**sites):
        plan = ELBO().plan(jax.random.key(0), {}, *pair(sites))
        return {name: str(choice.estimator) for name, choice in plan.choices.items()}, plan

    bit, three, ten = dist.Bernoulli(0.3), dist.Categorical(jnp.ones(3) / 3), dist.Categorical(jnp.ones(10) / 10)
    assert chosen(a=three)[0] == {"a": "Enumerate()"}
    assert chosen(a=bit, b=bit)[0] == {"a": "Enumerate()", "b": "Enumerate()"}
    found, plan = chosen(a=three, b=bit)
    assert found == {"a": "LeaveOneOut()", "b": "Enumerate()"}
    assert plan.particles == 2 and plan.evaluations(1) == 4
    assert "its 3 values would take 6 evaluations" in plan.choices["a"].reason
    assert chosen(a=ten)[0] == {"a": "LeaveOneOut()"}
    assert chosen(a=dist.Poisson(2.0))[0] == {"a": "LeaveOneOut()"}
    assert chosen(a=dist.Bernoulli(0.3).expand([2]).to_event(1))[0] == {"a": "Enumerate()"}
    assert chosen(a=dist.Bernoulli(0.3).expand([200]).to_event(1))[0] == {"a": "LeaveOneOut()"}
    assert chosen(a=dist.VonMises(0.0, 1.0), b=dist.Gamma(1.0, 1.0))[0] == {"a": "LeaveOneOut()", "b": "Pathwise()"}


def test_explain_tells_what_is_chosen_and_what_would_go_wrong():
    def model():
        with numpyro.plate("rows", 4, subsample_size=2), scale(scale=3.0):
            numpyro.sample("z", dist.Bernoulli(logits=jnp.zeros(2)))
        numpyro.sample("a", dist.Kumaraswamy(1.0, 1.0))
        mutable("count", {"n": 0})

    found = probgen.explain(model, model)
    text = str(found)
    assert [site.name for site in found.sites] == ["z", "a"] and found.evaluations == 2
    assert {d.objective.split(",")[0] for d in found.defects} >= {
        "Trace_ELBO",
        "TraceGraph_ELBO",
        "TraceEnum_ELBO",
        "all",
    }
    for part in (
        "Enumerate()",
        "different minibatches",
        "scaled too",
        "mutable",
        "truncated series",
        "exactly 0",
        "fix:",
    ):
        assert part in text
    plain = lambda: numpyro.sample("mu", dist.Normal(0.0, 1.0))
    assert "right on this program" in str(probgen.explain(plain, plain))


def test_explain_finds_plates_whose_elements_are_mixed():
    """x of one row hangs on z of the rows before it: score terms, summed plate by plate, would be false."""

    def program(mixes):
        def model():
            with numpyro.plate("rows", 4):
                z = numpyro.sample("z", dist.Bernoulli(0.4))
                numpyro.sample("x", dist.Normal(jnp.cumsum(z) if mixes else 1.0 * z, 1.0), obs=X)

        return model

    def guide():
        with numpyro.plate("rows", 4):
            numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logits", LOGITS)))

    for chosen in ({}, {"z": LeaveOneOut()}):
        found = probgen.explain(program(True), use(guide, chosen))
        assert found.mixed_plates == (("z", "rows", "x"),) and "WRONG: 'x' mixes the elements of plate 'rows'" in str(
            found
        )
        assert probgen.explain(program(False), use(guide, chosen)).mixed_plates == ()
    assert probgen.explain(PROBLEM.model, PROBLEM.guide).mixed_plates == ()


# -- errors, one sentence each


def one(fn, name="z"):
    def program():
        numpyro.sample(name, fn)

    return program


@pytest.mark.parametrize(("fn", "estimator", "message"), [
    (dist.Bernoulli(0.5), Pathwise(), r"site 'z': Pathwise\(\) does not serve Bernoulli.* no gradient; LeaveOne"),
    (dist.VonMises(0.0, 1.0), Pathwise(), r"site 'z'.*VonMises.*LeaveOneOut\(\) would"),
    (dist.Poisson(1.0), Enumerate(), r"site 'z'.*Poisson.*support is not finite; LeaveOneOut\(\) would"),
    (dist.Bernoulli(jnp.full(200, 0.5)).to_event(1), Enumerate(), r"site 'z'.*takes about 10\^60 values.*LeaveOneOut"),
    (dist.Normal(0.0, 1.0), Enumerate(), r"site 'z'.*Normal.*not finite; Pathwise\(\) would"),
    (dist.Normal(0.0, 1.0), estimators.StraightThrough(), r"site 'z'.*StraightThrough\(\) does not serve Normal"),
    (dist.Categorical(jnp.ones(3) / 3), estimators.Implicit(), r"site 'z'.*its values are discrete; LeaveOneOut"),
    (dist.Delta(1.0), ScoreFunction(), r"site 'z'.*point mass.*Pathwise\(\) would"),
    (dist.Bernoulli(0.5), "leave-one-out", r"site 'z': expected an estimator, such as LeaveOneOut\(\), got 'leave"),
    (dist.Bernoulli(0.5), ScoreFunction(estimators.MovingAverage()),
     r"site 'z'.*keeps something.*estimators\.use\("),
])  # fmt: skip
def test_an_estimator_that_does_not_fit_is_refused(fn, estimator, message):
    def guide():
        numpyro.sample("z", fn, infer={"estimator": estimator})

    with pytest.raises(ValueError, match=message):
        ELBO().loss(jax.random.key(0), {}, one(fn), guide)


def test_guide_and_model_must_match():
    z, normal = one(dist.Normal(0.0, 1.0)), dist.Normal(0.0, 1.0)
    loss = lambda model, guide: ELBO().loss(jax.random.key(0), {}, model, guide)
    with pytest.raises(ValueError, match=r"site 'z' of the model is neither observed nor drawn by the guide"):
        loss(z, lambda: None)
    with pytest.raises(ValueError, match=r"site 'y' of the guide is no latent site of the model, which has \['z'\]"):
        loss(z, lambda: (z(), numpyro.sample("y", normal)))
    with pytest.raises(
        ValueError, match=r"site 'z': the guide draws batch × event \[\] × \[2\], the model has \[\] × \[\]"
    ):
        loss(z, one(normal.expand([2]).to_event(1)))

    def plated(size, dim):
        def program():
            with numpyro.plate("rows", size, dim=dim):
                numpyro.sample("z", normal)

        return program

    with pytest.raises(ValueError, match=r"plate 'rows' is axis -2.*in the guide, axis -1"):
        loss(plated(3, -1), plated(3, -2))
    with pytest.raises(ValueError, match=r"the guide draws no site 'y'; it draws \['z'\]"):
        loss(z, use(z, {"y": Pathwise()}))
    with pytest.raises(ValueError, match=r"site 'z': expected an estimator"):
        use(z, {"z": "pathwise"})


def plated(size):
    def program(y=None):
        with numpyro.plate("rows", size):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
            if y is not None:
                numpyro.sample("y", dist.Normal(z, 1.0), obs=y)

    return program


@pytest.mark.parametrize("objective", [ELBO(), objectives.ImportanceWeighted(2)])
def test_plates_of_other_sizes_are_named(objective):
    loss = lambda guide, y: objective.loss(jax.random.key(0), {}, plated(6), lambda y: guide(), y)
    with pytest.raises(ValueError, match=r"^plate 'rows' has 3 elements in the guide, 6 in the model"):
        loss(plated(3), jnp.ones(6))
    with pytest.raises(ValueError, match=r"^plate 'rows' has 3 elements in the guide, 6 in the model"):
        objective.loss(jax.random.key(0), {}, plated(6), plated(3))
    with pytest.raises(
        ValueError, match=r"^site 'y' observes 2 values in plate 'rows', which has 6 elements: write plate"
    ):
        loss(plated(6), jnp.ones(2))


POINT, HALF = dist.Normal(0.0, 1.0), dist.HalfNormal(1.0)
SIMPLEX = dist.Dirichlet(jnp.ones(2))


@pytest.mark.parametrize(("prior", "drawn"), [
    (HALF, POINT),
    (dist.Bernoulli(0.5), POINT),
    (POINT, dist.Poisson(1.0)),
    (dist.Uniform(0.0, 1.0), POINT),
    (dist.Uniform(0.0, 1.0), dist.Uniform(0.0, 2.0)),
    (dist.Categorical(jnp.ones(3) / 3), dist.Categorical(jnp.ones(4) / 4)),
    (dist.Bernoulli(0.5), dist.Poisson(1.0)),
    (dist.Poisson(1.0), dist.DiscreteUniform(-1, 3)),
    (SIMPLEX, POINT.expand([2]).to_event(1)),
    (HALF.expand([2]).to_event(1), POINT.expand([2]).to_event(1)),
    (HALF.mask(True), POINT.mask(True)),
])  # fmt: skip
@pytest.mark.parametrize("objective", [ELBO(), objectives.ImportanceWeighted(2)])
def test_a_guide_that_draws_outside_of_the_models_support_is_refused(objective, prior, drawn):
    with pytest.raises(
        ValueError, match=r"^site 'z': the guide draws \w+ on .*, outside the support .* of the model's"
    ):
        objective.loss(jax.random.key(0), {}, one(prior), one(drawn))
    with pytest.raises(ValueError, match=r"^site 'z': the guide draws"):
        probgen.explain(one(prior), one(drawn))


@pytest.mark.parametrize(("prior", "drawn"), [
    (POINT, dist.LogNormal(0.0, 1.0)),
    (HALF, dist.LogNormal(0.0, 1.0)),
    (dist.Poisson(1.0), dist.Bernoulli(0.5)),
    (HALF, dist.Delta(1.0)),
    (dist.LogUniform(0.5, 2.0), dist.Uniform(0.5, 2.0)),
    (SIMPLEX, SIMPLEX),
    (dist.ImproperUniform(dist.constraints.real, (), ()), POINT),
])  # fmt: skip
def test_a_guide_within_the_models_support_is_taken(prior, drawn):
    """A narrower support is legal: the bound is looser."""
    assert jnp.isfinite(ELBO().loss(jax.random.key(0), {}, one(prior), one(drawn)))


def test_more_mistakes_are_one_sentence():
    from numpyro.contrib.control_flow import cond

    def branching():
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        cond(
            z == 1,
            lambda _: numpyro.sample("w", dist.Normal(1.0, 1.0)),
            lambda _: numpyro.sample("w", dist.Normal(-1.0, 1.0)),
            None,
        )

    def guide():
        numpyro.sample("z", dist.Bernoulli(logits=0.4))
        numpyro.sample("w", dist.Normal(0.3, 1.0))

    with pytest.raises(ValueError, match=r"site 'w' is drawn inside a cond.*jnp\.where"):
        ELBO().loss(jax.random.key(0), {}, branching, guide)
    moving = lambda: numpyro.sample("z", dist.Uniform(0.0, 1.0 + numpyro.param("a", 0.5)))
    with pytest.raises(ValueError, match=r"site 'z'.*Uniform.*support may move with a parameter.*Pathwise\(\) would"):
        ELBO().loss(
            jax.random.key(0), {"a": jnp.array(0.5)}, one(dist.Uniform(0.0, 3.0)), use(moving, {"z": LeaveOneOut()})
        )
    with use({"typo": LeaveOneOut()}), pytest.raises(ValueError, match=r"draws no site 'typo'; it draws \['z'\]"):
        ELBO().loss(jax.random.key(0), ROWS, rows_model, rows_guide)
    with pytest.raises(ValueError, match=r"no latent site 'zz'; there are \['z'\]"):
        objectives.FreeBits(ELBO(), {"zz": 1.0}).loss(jax.random.key(0), ROWS, rows_model, rows_guide)
    for wrong, message in [
        ({"estimators": {}}, "at least one contender"),
        ({"estimators": {"s": ScoreFunction()}}, "'s': expected {site: estimator}"),
        ({"num_replicates": 1}, "num_replicates: expected an integer of at least 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            probgen.gradient_report(jax.random.key(0), ROWS, rows_model, rows_guide, **wrong)
    with pytest.raises(ValueError, match="num_samples"):
        expectation(jax.random.key(0), dist.Bernoulli(0.3), lambda z: z, num_samples=0)


def test_old_keys_are_welcome_and_automatic_guides_keep_their_methods():
    old = expectation(jax.random.PRNGKey(0), dist.Bernoulli(0.3), lambda z: z, LeaveOneOut(), num_samples=10)
    assert 0 <= old <= 1
    assert callable(use(AutoNormal(rows_model)).sample_posterior)
    shifted = dist.TransformedDistribution(dist.VonMises(0.3, 1.0), dist.transforms.AffineTransform(1.0, 2.0))
    loss = lambda k: expectation(k, shifted, lambda z: jnp.cos(z / 2), num_samples=10_000)
    assert jnp.isfinite(jax.jit(loss)(jax.random.key(0)))


def test_programs_are_left_as_they_were():
    """Neither the handler stack nor the program's own dictionaries are changed by an error."""
    with pytest.raises(ValueError):
        ELBO().loss(jax.random.key(0), {}, one(dist.Poisson(1.0)), use(one(dist.Poisson(1.0)), {"z": Enumerate()}))
    assert numpyro.primitives._PYRO_STACK == []
    with seed(rng_seed=0), trace() as sites:
        one(dist.Normal(0.0, 1.0))()
    assert list(sites) == ["z"]
