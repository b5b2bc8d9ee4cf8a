"""What numpyro asks of its own distributions, asked of every row of the registry: laws, and a table of what they said.

    PYTHONPATH=. python tests/numpyro_laws.py        # the table of docs/reliability.md

The list of laws is that of numpyro's `test/test_distributions.py`, less the one of gradients, which
`test_gradients.py` holds in float64; those at the end are our own. A law looks at the facts of a row, which are
computed once, and either passes, raises AssertionError, or returns why it does not apply.
"""

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.distributions import biject_to
from numpyro.distributions.batch_util import promote_batch_shape
from registry import CONDITIONALS, DISTRIBUTIONS, KEY, density

from probgen import combine, partition
from probgen.distributions.conditionals import AtContext
from probgen.tables.support import Rows

STEP, DRAWS = 3e-3, 512
# of the conditionals; tests/test_distributions.py draws from all of them, also at contexts with an axis of one
FULL = "real_nvp", "nsf", "made", "vae", "gaussian_mixture"
CONTEXT = jnp.array([0.5, -0.3, 1.0])


def models():
    """name → a constructor: the registry's distributions, and its conditionals at one context."""
    found = {row.name: row.make for row in DISTRIBUTIONS}
    for name, make in CONDITIONALS.items():
        if name in FULL:
            found[f"{name} | context"] = lambda make=make: make()(CONTEXT)
    return found


class Facts:
    """All that the laws look at of one model, in one compilation."""

    def __init__(self, model):
        self.model, self.closed, self.why = model, {}, {}
        stir, params, rest = _directions(model)
        self.__dict__.update(jax.jit(lambda stir, params: self._compute(stir, params, rest))(stir, params))

    def _compute(self, stir, params, rest):
        d = combine(params, rest)
        exact = d.exact
        at = lambda h: combine({p: v + h * stir[p] for p, v in params.items()}, rest)
        many = jax.vmap(at)(jnp.array([0.0, STEP, -STEP]))  # three models, the first of them d
        single = jax.tree.map(lambda leaf: leaf[:1], many)
        draws, seen = d.sample_with_intermediates(KEY, (DRAWS,))
        x = draws[:2]
        assert many.batch_shape == (3,) and single.batch_shape == (1,), many.batch_shape
        found: dict[str, Any] = {"draws": draws, "x": x}
        if isinstance(d, AtContext):
            found["at a context"] = type(d)(d.model, d.context[None], d.context_ndims, d.network).log_prob_bound(KEY, x)
        if exact:
            found |= {
                "seen": d.log_prob(draws, seen) if seen else None,
                "log_prob": d.log_prob(draws),
                "many": many.log_prob(x[:, None]),
                "single": single.log_prob(x),
                "wrapped": self._wrapped(many, x),
            }
        for name, ask in CLOSED.items():
            try:
                found[name] = ask(d, x)
            except NotImplementedError as error:
                self.why[name] = str(error)
        self._wide(d, x)
        return found

    def _wide(self, d, x):
        """Shapes of draws, densities and intermediates after an axis of one became three, and one the event's."""
        wide = d.expand([2, 1]).expand([2, 3]).to_event(1)
        sampled, seen = wide.sample_with_intermediates(KEY, (4,))
        self.wide = wide.batch_shape, wide.event_shape, sampled.shape
        if d.exact:
            self.wide += (wide.log_prob(sampled, seen or None).shape, wide.log_prob(x[0]).shape)

    def _wrapped(self, many, x):
        """Expanded, masked and read as an event, below `vmap`: [3], the sum over two rows, one of them masked."""
        mask = jnp.array([True, False])
        wrap = lambda d: d.expand([2]).mask(mask).to_event(1)
        wrapped = promote_batch_shape(jax.vmap(wrap)(many))
        assert (wrapped.batch_shape, wrapped.event_shape) == ((3,), (2, *many.event_shape))
        return wrapped.log_prob(x)


def _directions(model):
    """A random direction in the numbers of a model, each on its leaf's own scale; those, and what is left of it."""
    params, rest = partition(model)
    draw = np.random.default_rng(0).normal
    own = {p: float(np.std(v)) or 1.0 for p, v in params.items()}
    return {p: jnp.asarray(own[p] * draw(size=v.shape), v.dtype) for p, v in params.items()}, params, rest


CLOSED = {
    "mean": lambda d, x: d.mean,
    "variance": lambda d, x: d.variance,
    "mode": lambda d, x: d.mode,
    "entropy": lambda d, x: d.entropy(),
    "cdf": lambda d, x: d.cdf(x),
    "its slope": lambda d, x: jax.grad(lambda x: d.cdf(x).sum())(x) if not d.is_discrete else d.cdf(x),
    "icdf": lambda d, x: d.icdf(d.cdf(x)),
    "enumerate_support": lambda d, x: d.enumerate_support(),
    "divergence": lambda d, x: dist.kl_divergence(d, d),
}


@functools.cache
def facts(name):
    return Facts(models()[name]())


# -- laws: None where it holds, else why it does not apply


def _bound(f):
    return None if f.model.exact else "it has no exact density"


def shapes(f):
    d, event = f.model, f.model.event_shape
    assert f.draws.shape == (DRAWS, *event) == d.shape((DRAWS,)) and d.batch_shape == ()
    one = jax.eval_shape(lambda: d.sample(KEY))
    assert one.shape == event and jax.eval_shape(lambda x: density(d, x), one).shape == ()
    assert not d.exact or f.log_prob.shape == (DRAWS,)


def infer_shapes(f):
    try:
        type(f.model).infer_shapes()
    except NotImplementedError as error:
        assert "read its shapes" in str(error)
        return "shapes of a model do not follow from those of a few arrays"


def has_rsample(f):
    d = f.model
    for wrapped in (d.mask(False), d.expand_by([2]), d.expand_by([2]).to_event(1)):
        assert wrapped.has_rsample == d.has_rsample
        if d.has_rsample:
            assert not d.is_discrete
        else:
            _says(lambda w=wrapped: w.rsample(KEY))


def expand(f):
    d, event = f.model, f.model.event_shape
    some = d.expand([2, 1])
    for wide, shape in ((d.expand([4]), (4,)), (some.expand([2, 3]), (2, 3)), (some.expand([3, 2, 1]), (3, 2, 1))):
        assert wide.batch_shape == shape and wide.event_shape == event and wide.expand(shape) is wide
    assert f.wide[2] == (4, 2, 3, *event)
    assert not d.exact or f.wide[3:] == ((4, 2), (2,))
    try:
        some.expand([3, 1])
    except ValueError:
        return
    raise AssertionError("an axis of two became one of three")


def independent(f):
    d = f.model.expand([3, 2])
    for ndims in (1, 2):
        e = d.to_event(ndims)
        assert e.batch_shape == (3, 2)[: 2 - ndims] and e.event_shape == (3, 2, *f.model.event_shape)[2 - ndims :]
        assert e.support.event_dim == e.event_dim and e.is_discrete == d.is_discrete
    assert f.wide[:2] == ((2,), (3, *f.model.event_shape))
    try:
        d.to_event(3)
    except ValueError:
        return
    raise AssertionError("three of two batch axes became the event's")


def mask(f):
    d = f.model
    assert d.mask(True) is d
    none = d.mask(False)
    assert (none.batch_shape, none.event_shape) == (d.batch_shape, d.event_shape)
    masked = jax.jit(lambda x: none.log_prob(x))(f.x)
    assert not np.any(masked) and masked.shape == (2,)
    if not d.exact:
        return
    # the wrapped stack masks the second of two rows
    np.testing.assert_allclose(f.wrapped, f.many[0], rtol=1e-3, atol=1e-3)


def vmap(f):
    if not f.model.exact:
        return _bound(f)
    np.testing.assert_allclose(f.many[:, 0], f.log_prob[:2], rtol=1e-4, atol=1e-4)


def pytree(f):
    d = f.model
    flat, structure = jax.tree.flatten(d)
    for again in (jax.tree.unflatten(structure, flat), jax.eval_shape(lambda: d)):
        assert type(again) is type(d) and again.shape() == d.shape()
        assert jax.tree.structure(again) == structure
    for wrapped in (d.expand([2]), d.expand([2]).to_event(1), d.mask(False)):
        again = jax.tree.unflatten(*jax.tree.flatten(wrapped)[::-1])
        assert type(again) is type(wrapped) and again.shape() == wrapped.shape()


def promotion(f):
    return None if f.model.exact and f.wrapped.shape == (3,) else _bound(f)


def intermediates(f):
    d = f.model
    if not d.exact or f.seen is None:
        return _bound(f) or "its draws leave nothing behind that its density needs"
    np.testing.assert_allclose(f.seen, f.log_prob, rtol=1e-3, atol=1e-3)


def support(f):
    d = f.model
    where, draws = d.support, np.asarray(f.draws)
    assert where.event_dim == d.event_dim and where.is_discrete == d.is_discrete
    assert np.shape(where(draws)) == (DRAWS,) and np.all(where(draws))
    assert np.all(where(where.feasible_like(draws[:2])))
    if d.is_discrete:
        assert jnp.issubdtype(f.draws.dtype, jnp.integer)
        return
    if isinstance(where, Rows):
        return "rows of a table have categories and places on grids beside reals: no map from ℝᴰ has them"
    bijection = biject_to(where)
    back = jax.jit(lambda x: bijection(bijection._inverse(x)))(f.x)
    np.testing.assert_allclose(back, f.x, rtol=1e-3, atol=1e-3)


def _closed(f, name, shape):
    """Why there is no such closed form, or None after its shape was looked at."""
    if name in f.why:
        assert len(f.why[name]) > 20, f.why[name]
        return "no closed form, and the error says what to do"
    assert f.__dict__[name].shape == shape, (name, f.__dict__[name].shape)


def mean(f):
    reason = _closed(f, "mean", f.model.shape())
    if reason is None:
        draws = np.asarray(f.draws, float)
        np.testing.assert_array_less(np.abs(draws.mean(0) - f.mean), 5 * draws.std(0) / DRAWS**0.5 + 1e-2)
    return reason


def variance(f):
    reason = _closed(f, "variance", f.model.shape())
    if reason is None:
        squares = (np.asarray(f.draws, float) - np.asarray(f.mean)) ** 2
        np.testing.assert_array_less(np.abs(squares.mean(0) - f.variance), 5.5 * squares.std(0) / DRAWS**0.5 + 2e-2)
    return reason


def mode(f):
    return _closed(f, "mode", f.model.shape())


def entropy(f):
    reason = _closed(f, "entropy", ())
    if reason is None:
        costs = -np.asarray(f.log_prob)
        assert abs(costs.mean() - f.entropy) < 5 * costs.std() / DRAWS**0.5 + 1e-3
    return reason


def cdf(f):
    if "cdf" in f.why:
        return _closed(f, "cdf", ())
    assert f.cdf.shape == (2,) and np.all((f.cdf >= 0) & (f.cdf <= 1))
    if not f.model.is_discrete:
        np.testing.assert_allclose(f.__dict__["its slope"].reshape(2), np.exp(f.log_prob[:2]), rtol=1e-3, atol=1e-3)
    below = (np.asarray(f.draws).reshape(DRAWS) <= np.asarray(f.x).reshape(2, 1)).mean(1)
    np.testing.assert_allclose(below, f.cdf, atol=0.11)  # 5 standard errors


def icdf(f):
    if "icdf" in f.why:
        return _closed(f, "icdf", ())
    np.testing.assert_allclose(f.icdf, f.x, rtol=1e-3, atol=1e-3)


def enumerate_support(f):
    d = f.model
    if "enumerate_support" in f.why:
        assert not d.has_enumerate_support
        return _closed(f, "enumerate_support", ())
    values, event = f.enumerate_support, d.event_shape
    assert d.has_enumerate_support and values.shape[1:] == event and np.all(d.support(values))
    assert len(np.unique(np.asarray(values).reshape(len(values), -1), axis=0)) == len(values)
    wide = d.expand([3, 2])
    assert wide.has_enumerate_support
    assert wide.enumerate_support().shape == (len(values), 3, 2, *event)
    assert wide.enumerate_support(expand=False).shape == (len(values), 1, 1, *event)


def divergence(f):
    reason = _closed(f, "divergence", ())
    if reason is None:
        assert abs(f.divergence) < 1e-5
    return reason


# -- and of our own


def axes_of_one(f):
    """A batch axis of size one broadcasts against the values'."""
    d = f.model
    if d.exact:
        np.testing.assert_allclose(f.single, f.log_prob[:2], rtol=1e-4, atol=1e-4)
        if "at a context" in f.__dict__:
            np.testing.assert_allclose(f.__dict__["at a context"], f.log_prob[:2], rtol=1e-4, atol=1e-4)
        return
    bound = lambda: density(jax.vmap(lambda _: d)(jnp.zeros(1)), jnp.stack([f.x[0]] * 5), 2)
    assert jax.eval_shape(bound).shape == (5,)


def zero_rows(f):
    event, dtype = f.model.event_shape, f.x.dtype

    def none(d):
        pair, x = d.expand([2]).to_event(1), jnp.zeros((0, *event), dtype)
        exact = (d.log_prob(x), pair.log_prob(jnp.zeros((0, 2, *event), dtype))) if d.exact else ()
        return (d.sample(KEY, (3, 0)), pair.sample(KEY, (0,)), density(d, x), d.mask(False).log_prob(x), *exact)

    draws, pairs, *densities = jax.jit(none)(f.model)
    assert draws.shape == (3, 0, *event) and draws.dtype == dtype and pairs.shape == (0, 2, *event)
    assert all(found.shape == (0,) for found in densities)


def in_a_scan(f):
    """The site in a plate has one axis of time in front of the plate's."""
    d, event = f.model, f.model.event_shape

    def step(carry, _):
        with numpyro.plate("rows", 2):
            return carry, numpyro.sample("x", d)

    def site():
        program = numpyro.handlers.seed(lambda: scan(step, jnp.zeros(()), None, length=3), KEY)
        found = numpyro.handlers.trace(program).get_trace()["x"]
        assert found["fn"].batch_shape == (3, 2), found["fn"].batch_shape
        return found["value"], found["fn"].log_prob(found["value"]) if d.exact else jnp.zeros((3, 2))

    value, density = jax.eval_shape(site)
    assert value.shape == (3, 2, *event) and density.shape == (3, 2)


def _says(call):
    try:
        call()
    except NotImplementedError as error:
        assert len(str(error)) > 20, error
        return
    raise AssertionError("it was not refused")


NUMPYRO = [
    shapes, infer_shapes, has_rsample, expand, independent, mask, vmap, pytree, promotion, intermediates,
    support, mean, variance, mode, entropy, cdf, icdf, enumerate_support, divergence,
]  # fmt: skip
OURS = [axes_of_one, zero_rows, in_a_scan]
LAWS = NUMPYRO + OURS


def ask(law, name):
    """None where the law holds for the row, else why it does not apply."""
    return law(facts(name))


def table():
    """Lines of Markdown: law, how many rows passed, how many it does not apply to, why."""
    yield "| law | passed | does not apply |"
    yield "|---|---|---|"
    whole = collections.Counter()
    for law in LAWS:
        said = collections.Counter(ask(law, name) for name in models())
        passed = said.pop(None, 0)
        whole.update(passed=passed, other=sum(said.values()))
        yield f"| {law.__name__} | {passed} | {'; '.join(f'{n}: {why}' for why, n in said.most_common()) or '0'} |"
    yield f"| all | {whole['passed']} | {whole['other']} |"


if __name__ == "__main__":
    print(*table(), sep="\n")
