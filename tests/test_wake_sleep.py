"""Wake–sleep against enumeration: values and gradients of its three parts, whose data the dreams replace, and what is
refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.infer import SVI

import probgen
from probgen.distributions import observe
from probgen.inference import estimators, fit
from probgen.inference.objectives import Beta, ReweightedWakeSleep, WakeSleep

N = 20_000
LIMIT = 4.7  # standard errors: for some 200 components together, less than one false alarm in a thousand

# -- two latent bits, three observed ones, a minibatch of two rows out of four; one dict of params for both programs

PARAMS = {
    "prior": jnp.array([0.3, -0.8]),
    "decoder": jnp.array([[1.0, -0.5, 0.4], [-1.2, 0.7, 1.5]]),
    "bias": jnp.array([0.2, -0.3, 0.1]),
    "encoder": jnp.array([[0.5, -1.0], [0.3, 0.8], [-0.6, 0.4]]),
    "shared": jnp.array(0.4),  # of both
}
X = jnp.array([[1, 0, 1], [0, 0, 1]])
ROWS = 4


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


def prior(p):
    return bits(p["prior"] + p["shared"])


def likelihood(p, z):
    return bits(z @ p["decoder"] + p["bias"])


def posterior(p, x):
    return bits(x @ p["encoder"] + p["shared"])


def model(x):
    p = numpyro.param("net")
    with numpyro.plate("data", ROWS, subsample_size=len(x)):
        z = numpyro.sample("z", prior(p))
        numpyro.sample("x", likelihood(p, z), obs=x)


def guide(x):
    p = numpyro.param("net")
    with numpyro.plate("data", ROWS, subsample_size=len(x)):
        numpyro.sample("z", posterior(p, x))


Z = jnp.array(list(itertools.product([0, 1], repeat=2)))
EVERY_X = jnp.array(list(itertools.product([0, 1], repeat=3)))


def log_joint(p, x):
    """[4]: log p(x, z) at every z."""
    return prior(p).log_prob(Z) + likelihood(p, Z).log_prob(x)


def exact(params, particles, insomnia, rows=X):
    """The expected loss, and the expected gradient, by the sums over all tuples of z, and over all dreams."""
    chosen = jnp.array(list(itertools.product(range(4), repeat=particles)))  # [4^K, K]
    dreams = jnp.exp(jnp.stack([log_joint(params, x) for x in EVERY_X]))  # [8, 4]

    def row(p, x):
        joint, log_q = log_joint(params, x)[chosen], posterior(params, x).log_prob(Z)[chosen]
        probability = jnp.exp(log_q.sum(-1))
        weights = probability[:, None] * jax.nn.softmax(joint - log_q)
        log_p, wake = log_joint(p, x)[chosen], posterior(p, x).log_prob(Z)[chosen]
        sleep = jnp.sum(dreams * jnp.stack([posterior(p, x).log_prob(Z) for x in EVERY_X]))
        bound = probability @ (jax.nn.logsumexp(joint - log_q, -1) - jnp.log(particles))
        return bound, jnp.sum(weights * (log_p + insomnia * wake)) + (1 - insomnia) * sleep

    scale = ROWS / len(rows)
    gradient = jax.grad(lambda p: -scale * sum(row(p, x)[1] for x in rows))(params)
    return -scale * sum(row(params, x)[0] for x in rows), gradient


def draws(objective, params, programs, *args, count=N, **kwargs):
    one = lambda key: jax.value_and_grad(lambda p: objective.loss(key, p, *programs, *args, **kwargs))(params)
    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), count))


def near(found, want):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        error = a.std(0) / math.sqrt(len(a)) + 1e-5 * (1 + abs(b))
        assert np.max(abs(a.mean(0) - b) / error) < LIMIT, (a.mean(0), b)


@pytest.mark.parametrize(("particles", "insomnia"), [(1, 0.0), (1, 1.0), (2, 0.0), (2, 0.25), (3, 1.0)])
def test_the_value_and_the_three_gradients_are_those_of_enumeration(particles, insomnia):
    objective = WakeSleep() if (particles, insomnia) == (1, 0.0) else ReweightedWakeSleep(particles, insomnia)
    loss, gradient = draws(objective, {"net": PARAMS}, (model, guide), X)
    want = jax.jit(lambda p: exact(p, particles, insomnia))(PARAMS)
    near(loss, want[0])
    near(gradient["net"], want[1])


def test_many_particles_follow_the_likelihood_and_the_posterior():
    """For K → ∞ wake-θ is ∇ log p(x), and wake-φ −∇ KL(p(z | x) ‖ q(z | x))."""
    _, gradient = draws(ReweightedWakeSleep(2000), {"net": PARAMS}, (model, guide), X, count=100)

    def loss(p):
        log_p = [jax.nn.logsumexp(log_joint(p, x)) for x in X]
        held = [jax.lax.stop_gradient(jax.nn.softmax(log_joint(p, x))) for x in X]
        log_q = [h @ posterior(p, x).log_prob(Z) for h, x in zip(held, X, strict=True)]
        return -ROWS / len(X) * sum(log_p + log_q)

    want = jax.jit(jax.grad(loss))(PARAMS)
    for name, found in gradient["net"].items():
        np.testing.assert_allclose(found.mean(0), want[name], atol=0.02)


@pytest.mark.parametrize("how", [False, jax.lax.map])
def test_particles_may_be_mapped(how):
    make = lambda how: draws(ReweightedWakeSleep(3, 0.5, how), {"net": PARAMS}, (model, guide), X, count=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), make(True), make(how))


# -- where the dreams go


def in_another_shape(x, *, flat):
    p = numpyro.param("net")
    with numpyro.plate("data", ROWS, subsample_size=len(x)):
        z = numpyro.sample("z", prior(p))
        numpyro.sample("x", likelihood(p, z), obs=flat.reshape(-1, 3).astype(int))


def guide_of_flat(x, *, flat):
    guide(flat.reshape(-1, 3))


def test_data_are_found_in_another_shape_and_dtype_among_keyword_arguments():
    _, gradient = draws(
        ReweightedWakeSleep(2, 0.25), {"net": PARAMS}, (in_another_shape, guide_of_flat), X, flat=X.ravel() * 1.0
    )
    near(gradient["net"], jax.jit(lambda p: exact(p, 2, 0.25))(PARAMS)[1])


def subsampled(x):
    p = numpyro.param("net")
    with numpyro.plate("data", ROWS, subsample_size=2) as index:
        z = numpyro.sample("z", prior(p))
        numpyro.sample("x", likelihood(p, z), obs=x[index])


def guide_of_subsample(x):
    p = numpyro.param("net")
    with numpyro.plate("data", ROWS, subsample_size=2) as index:
        numpyro.sample("z", posterior(p, x[index]))


def test_a_plate_may_draw_its_own_minibatch_where_it_is_said_where_dreams_go():
    rows = jnp.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]])
    dream = lambda args, kwargs, drawn: ((args[0].at[drawn["data"]].set(drawn["x"]),), kwargs)
    programs = subsampled, guide_of_subsample
    loss, gradient = draws(ReweightedWakeSleep(2, 0.25, dream=dream), {"net": PARAMS}, programs, rows)
    want = jax.jit(lambda p: exact(p, 2, 0.25, rows))(PARAMS)
    near(loss, want[0])
    near(gradient["net"], want[1])
    with pytest.raises(ValueError, match=r"site 'x': it was not found which argument .* dream=lambda"):
        WakeSleep().loss(jax.random.key(0), {"net": PARAMS}, *programs, rows)


# -- continuous values, several sites, training


def two_sites(x, y):
    a = numpyro.param("a", 1.0)
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        c = numpyro.sample("c", dist.Bernoulli(0.3))
        numpyro.sample("x", dist.Normal(a * z, 1.0), obs=x)
        numpyro.sample("y", dist.Normal(3.0 * c, 1.0), obs=y)


def guide_of_two_sites(x, y):
    slope, log_scale = numpyro.param("slope", 0.0), numpyro.param("log_scale", 0.0)
    w, v = numpyro.param("w", 0.0), numpyro.param("v", 0.0)
    with numpyro.plate("data", len(x)):
        numpyro.sample("z", dist.Normal(slope * x, jnp.exp(log_scale)))
        numpyro.sample("c", dist.Bernoulli(logits=w * y + v))


@pytest.mark.parametrize(("objective", "by_fit"), [(WakeSleep(), True), (ReweightedWakeSleep(8), False)])
def test_a_guide_learns_the_exact_posterior(objective, by_fit):
    """z | x ~ Normal(x / 2, 1/2) for a = 1, and the logit of c is 3 y − 4.5 + logit(0.3), up to the
    noise of the data and, for wake-φ, the bias of eight particles."""
    key = jax.random.key(0)
    with numpyro.handlers.seed(rng_seed=key), numpyro.handlers.trace() as trace:
        numpyro.handlers.uncondition(two_sites)(jnp.zeros(1000), jnp.zeros(1000))
    data = trace["x"]["value"], trace["y"]["value"]
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 800))
    if by_fit:
        found = fit(
            two_sites,
            data,
            guide=guide_of_two_sites,
            objective=objective,
            optimizer=optimizer,
            steps=800,
            batch_size=250,
            key=key,
            progress=False,
        ).params
    else:
        found = SVI(two_sites, guide_of_two_sites, optimizer, objective).run(key, 800, *data, progress_bar=False).params
    want = {"a": 1.0, "slope": 0.5, "log_scale": math.log(0.5) / 2, "w": 3.0, "v": -4.5 + math.log(0.3 / 0.7)}
    for name, value in want.items():
        assert abs(found[name] - value) < (0.6 if name in ("w", "v") else 0.12), (name, found)


def test_a_latent_variable_model_of_bits_learns_by_fit():
    """Its program and its guide share one dict of params."""
    networks = [probgen.networks.MLP(*sizes, hidden=(), key=jax.random.key(0)) for sizes in ((2, 3), (3, 2))]
    likelihood, posterior = (
        probgen.distributions.Conditional(network, probgen.distributions.integer_head(2, components=0), (size,))
        for network, size in zip(networks, (3, 2), strict=True)
    )
    model = probgen.latent.LatentVariableModel(bits(jnp.zeros(2)), likelihood, posterior)
    x = jnp.tile(jnp.array([[0, 0, 1], [1, 1, 0]]), (32, 1))
    for objective in (WakeSleep(), ReweightedWakeSleep(5, 0.5)):
        result = fit(
            model,
            x,
            objective=objective,
            optimizer=optax.adam(0.05),
            steps=400,
            batch_size=16,
            validation=x,
            key=jax.random.key(1),
            progress=False,
        )
        assert result.best.loss < 1.0 < 1.8 < result.history["validation"][0]  # the entropy is log 2


def test_a_bound_is_weighed_and_dreamt_of():
    uniform = lambda z: probgen.distributions.Dequantized(
        dist.Uniform(jnp.zeros(()), 2.0 + z).expand((1,)).to_event(1), levels=4
    )

    def model(x):
        with numpyro.plate("data", 1):
            z = numpyro.sample("z", dist.Bernoulli(0.4))
        observe("x", uniform(2.0 * z[0]), x[0])

    def guide(x):
        with numpyro.plate("data", 1):
            numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logits")[x[0, 0]]))

    def program(x):  # the observed value is the argument, in another shape
        model(x)

    params = {"logits": jnp.zeros(4)}
    _, gradient = draws(WakeSleep(), params, (program, guide), jnp.array([[1]]), count=4000)
    # x is 0 or 1 with probability ½ where z = 0, and one of four where z = 1
    want = jnp.array([0.4, 0.4, 0.1, 0.1]) * 0.5 - jnp.array([0.1, 0.1, 0.1, 0.1])
    near(gradient["logits"], want)


def test_sites_within_a_scan():
    def model(y):
        loc = numpyro.param("loc")
        z = scan(lambda carry, _: (carry, numpyro.sample("z", dist.Normal(loc, 1.0))), 0.0, jnp.arange(3))[1]
        numpyro.sample("y", dist.Normal(z.sum(), 1.0), obs=y)

    def guide(y):
        shift = numpyro.param("shift")
        scan(lambda carry, _: (carry, numpyro.sample("z", dist.Normal(shift * y, 0.7))), 0.0, jnp.arange(3))

    params = {"loc": jnp.array(0.3), "shift": jnp.array(0.4)}
    _, gradient = draws(WakeSleep(), params, (model, guide), jnp.array(2.0))
    # z ~ q: −Σ (z − loc); in dreams E[−Σ (z − s y) y] / 0.49 with y = Σ z + ε
    first, second = 3 * 0.3, (3 * 0.3) ** 2 + 4.0
    cross = 3 * (0.3 * first + 1.0)  # E[Σ z y]
    near(gradient, {"loc": -3 * (0.4 * 2.0 - 0.3), "shift": -(cross - 3 * 0.4 * second) / 0.49})


def test_one_particle_needs_no_plate_around_all_sites():
    def model(x):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", 6, subsample_size=len(x)):
            numpyro.sample("x", dist.Normal(mu + numpyro.param("c"), 1.0), obs=x)

    def guide(x):
        numpyro.sample("mu", dist.Normal(numpyro.param("m") * x.sum(), 1.0))

    params, x = {"c": jnp.array(0.5), "m": jnp.array(0.2)}, jnp.array([1.0, 2.5, 0.5])
    _, gradient = draws(WakeSleep(), params, (model, guide), x)
    # −2 Σ (x − 0.2 Σ x − c); in dreams S = Σ x ~ Normal(3 c, 3 + 9), E[μ S] = 3: −(E[μ S] − m E[S²])
    near(gradient, {"c": -2 * (4.0 - 3 * (0.8 + 0.5)), "m": -(3 - 0.2 * (12 + 1.5**2))})


def test_a_guide_is_scored_with_the_randomness_with_which_it_drew():
    """As dropout has it: another mask would give log q of another q."""

    def guide():
        for name in ("a", "b"):
            loc = 1000 * jax.random.normal(numpyro.prng_key())
            numpyro.sample(name, dist.Normal(loc, numpyro.param("scale", 1.0)))

    def model():
        for name in ("a", "b"):
            numpyro.sample(name, dist.Normal(0.0, 1e6))

    loss, _ = draws(ReweightedWakeSleep(1), {"scale": jnp.array(1.0)}, (model, guide), count=1000)
    near(loss, 2 * math.log(1e6) - 1 + 1e-6)  # E[log q] = −½ log 2πe of each


# -- what is refused


def test_bad_input():
    loss = lambda objective, *programs, params=None: objective.loss(
        jax.random.key(0), {"net": PARAMS} if params is None else params, *programs, X
    )
    for wrong in (-0.1, 1.5, float("nan"), True, "1"):
        with pytest.raises(ValueError, match=r"insomnia: expected a number in \[0, 1\]"):
            ReweightedWakeSleep(2, wrong)
    with pytest.raises(ValueError, match="num_particles"):
        ReweightedWakeSleep(0)
    with pytest.raises(ValueError, match=r"dream: expected a function .* got insomnia=1"):
        ReweightedWakeSleep(2, 1.0, dream=lambda args, kwargs, drawn: (args, kwargs))
    with pytest.raises(ValueError, match=r"dream: expected a function .* got 3"):
        WakeSleep(dream=3)
    with pytest.raises(ValueError, match=r"dream: expected it to return \(args, kwargs\)"):
        loss(WakeSleep(dream=lambda args, kwargs, drawn: args), model, guide)
    with pytest.raises(ValueError, match=r"site 'z' names LeaveOneOut.*leave it out"):
        loss(WakeSleep(), model, estimators.use(guide, {"z": estimators.LeaveOneOut()}))
    with pytest.raises(ValueError, match="estimators: WakeSleep has no gradient through draws"):
        with estimators.use({"z": estimators.LeaveOneOut()}):
            loss(WakeSleep(), model, guide)
    with pytest.raises(ValueError, match=r"expected an objectives\.ELBO to wrap, got WakeSleep"):
        Beta(WakeSleep(), 2.0)


def with_x(name, fn, more=lambda: None):
    def program(x):
        with numpyro.plate("data", ROWS, subsample_size=len(x)):
            z = numpyro.sample("z", prior(PARAMS))
            numpyro.sample(name, fn(x, z), obs=x)
        more()

    return program


class NoSampler(dist.BernoulliProbs):
    def sample(self, key, sample_shape=()):
        raise NotImplementedError("no sampler")


def test_what_cannot_be_dreamt_of():
    loss = lambda program, guide=guide, objective=None: (objective or WakeSleep()).loss(
        jax.random.key(0), {"net": PARAMS}, program, guide, X
    )
    fed = lambda x, z: bits(jnp.roll(x, 1, -1) + 0.5 * z.sum(-1, keepdims=True))
    with pytest.raises(ValueError, match="site 'x' is drawn from the data that site 'x' observes"):
        loss(with_x("x", fed))
    with pytest.raises(ValueError, match=r"site 'x' cannot be dreamt of: .*no sampler"):
        loss(with_x("x", lambda x, z: NoSampler(jnp.full(x.shape, 0.5)).to_event(1)))
    flat = dist.ImproperUniform(dist.constraints.real_vector, (), (3,))
    with pytest.raises(ValueError, match=r"'x' .*it has no sampler\); ReweightedWakeSleep\(…, insomnia=1.0\) dreams"):
        loss(with_x("x", lambda x, z: flat))
    with pytest.raises(ValueError, match=r"site 'f' cannot be dreamt of: .*it is a factor"):
        loss(with_x("x", lambda x, z: likelihood(PARAMS, z), lambda: numpyro.factor("f", 0.0)))

    def scanned(x):
        with numpyro.plate("data", ROWS, subsample_size=len(x)):
            numpyro.sample("z", prior(PARAMS))
        scan(lambda c, row: (c, numpyro.sample("x", bits(jnp.zeros(3)), obs=row)), 0.0, x)

    with pytest.raises(ValueError, match="site 'x' is observed inside a scan"):
        loss(scanned)

    def auxiliary(x):
        guide(x)
        numpyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})

    with pytest.raises(ValueError, match="site 'u' of the guide is not the model's"):
        loss(model, auxiliary)
    assert np.isfinite(loss(model, auxiliary, ReweightedWakeSleep(1)))

    def wide(x):
        p = numpyro.param("net")
        numpyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        with numpyro.plate("data", ROWS, subsample_size=len(x)):
            numpyro.sample("z", posterior(p, x))

    with pytest.raises(ValueError, match=r"plate 'data' .* draws minibatches and does not enclose all sites"):
        loss(model, wide, ReweightedWakeSleep(2))
