"""Models inside numpyro programs: one param site for a model, or a random draw of all its weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.primitives import Messenger

from probgen.core.binding import is_random, with_key
from probgen.core.leaves import combine, partition

M = TypeVar("M")
Learnable = Callable[[str, Any], bool]


def module(name: str, model: M, *, learnable: Learnable | None = None) -> M:
    """Register a model's params at one `numpyro.param` site, `name$params`, and return it with their current values.

    The site holds `partition`'s flat `{path: array}`. A model with dropout gets a fresh key from the program's seed,
    but for `evaluating`. Outside a program the model comes back as it is.

    Args:
        name: of the model; that of the site is `name$params`.
        model: any model.
        learnable: `(path, leaf) -> bool`, narrows what learns.

    >>> import jax, numpyro, optax, probgen
    >>> from numpyro.infer import SVI, Trace_ELBO
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> def program(x):
    ...     q = probgen.module("flow", flow)
    ...     with numpyro.plate("data", len(x)):
    ...         numpyro.sample("x", q, obs=x)
    >>> svi = SVI(program, lambda x: None, optax.adam(1e-3), Trace_ELBO())
    >>> x = jax.random.normal(jax.random.key(1), (16, 2))
    >>> result = svi.run(jax.random.key(2), 3, x, progress_bar=False)
    >>> probgen.from_params(result.params, "flow", flow).log_prob(x).shape
    (16,)
    """
    params, rest = partition(model, learnable)
    if params:
        learned = numpyro.param(f"{name}$params", params)
        model = combine(learned, rest)  # type: ignore[arg-type]
    noisy = is_random(model) and not _is_evaluating()
    key = numpyro.prng_key() if noisy else None
    return model if key is None else with_key(model, key)


class evaluating(Messenger):
    """A numpyro handler under which `module` binds no randomness: the program runs without dropout.

    `evaluating(program)` is that program; `with evaluating(): …` does the same for what runs within. Everything else
    (sample sites, their keys, a key that was bound by `with_key`) is untouched.

    Args:
        fn: a program; none where it is a context manager.

    >>> import jax, numpyro, probgen
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), dropout=0.5, key=jax.random.key(0))
    >>> program = lambda: probgen.module("flow", flow)
    >>> with numpyro.handlers.seed(rng_seed=0):
    ...     noisy, quiet = program(), evaluating(program)()
    >>> x = jax.numpy.ones(2)
    >>> bool(quiet.log_prob(x) == flow.log_prob(x))
    True
    """


def _is_evaluating() -> bool:
    return any(isinstance(handler, evaluating) for handler in numpyro.primitives._PYRO_STACK)


def from_params(params: dict[str, Any], name: str, model: M, *, learnable: Learnable | None = None) -> M:
    """Return the learned model out of `svi_result.params`, where `module(name, model)` registered it.

    Args:
        params: of SVI, `{site: value}`.
        name: as it was registered.
        model: of the same structure, such as the one before training.
        learnable: as it was registered.

    Raises ValueError where there is no such site.
    """
    site = f"{name}$params"
    mine, rest = partition(model, learnable)
    if not mine:
        return model
    if site not in params:
        raise ValueError(f"params have no site {site!r}; they have {sorted(params)}")
    return combine(params[site], rest)


def random_module(
    name: str,
    model: M,
    prior: dist.Distribution | Callable[[str, Array], dist.Distribution | None],
) -> M:
    """Draw a model's params at `numpyro.sample` sites `name.path`: a Bayesian model.

    Args:
        name: of the model, the beginning of the sites' names.
        model: any model.
        prior: a distribution, expanded to each leaf's shape, or a function `(path, leaf) -> distribution | None` (None
            leaves that leaf at its value).

    >>> import jax, numpyro, probgen
    >>> import numpyro.distributions as dist
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> with numpyro.handlers.seed(rng_seed=0):
    ...     drawn = probgen.random_module("flow", flow, dist.Normal(0.0, 0.1))
    >>> drawn.event_shape
    (2,)
    """
    params, rest = partition(model)
    drawn = {}
    for path, leaf in params.items():
        chosen = prior if isinstance(prior, dist.Distribution) else prior(path, leaf)
        if chosen is None:
            drawn[path] = leaf
            continue
        batch = leaf.shape[: leaf.ndim - chosen.event_dim]
        drawn[path] = numpyro.sample(f"{name}.{path}", chosen.expand(batch).to_event(len(batch)))
    return combine(drawn, rest)
