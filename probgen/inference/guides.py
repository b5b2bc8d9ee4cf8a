"""Automatic guides: the posterior of a numpyro program as a flow over its unconstrained latent numbers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.distributions.transforms import AffineTransform, ComposeTransform, Transform
from numpyro.infer import init_to_median
from numpyro.infer.autoguide import AutoContinuous

from probgen.core import module, partition
from probgen.distributions import Distribution, Transformed, as_transform


class Placed(Distribution):
    """A flow put to a place: x = loc + exp(log_scale) ⊙ y, y ~ flow. All three learn.

    Args:
        flow: over vectors [D].
        loc: [D], where it is put.
        log_scale: [D], the logarithm of how much wider it is made.

    >>> import jax, jax.numpy as jnp, probgen
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> Placed(flow, jnp.array([3.0, 5.0]), jnp.full(2, -9.0)).sample(jax.random.key(1)).round(2)
    Array([3., 5.], dtype=float32)
    """

    pytree_data_fields = ("flow", "loc", "log_scale")
    learnable_fields = ("loc", "log_scale")
    fused = True
    has_rsample = True

    def __init__(self, flow: Transformed, loc: Array, log_scale: Array):
        self.flow, self.loc, self.log_scale = flow, loc, log_scale
        super().__init__((), flow.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        """The space of all vectors."""
        return constraints.real_vector

    @property
    def transform(self) -> Transform:
        """The map from the flow's base to x, as a numpyro transform."""
        return ComposeTransform([as_transform(self.flow.bijector), AffineTransform(self.loc, jnp.exp(self.log_scale))])

    def _log_prob(self, value: Array) -> Array:
        return self.flow.log_prob((value - self.loc) * jnp.exp(-self.log_scale)) - self.log_scale.sum()

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._sample_and_log_prob(key, sample_shape)[0]

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        y, log_prob = self.flow.sample_and_log_prob(key, sample_shape)
        return self.loc + jnp.exp(self.log_scale) * y, log_prob - self.log_scale.sum()


class AutoFlow(AutoContinuous):
    """A guide that is any flow, over all latent numbers of a program at once.

        θ = constrain(x),   x = a + b ⊙ f(z),   z ~ base,   log q(x) = log p_base(z) − log|det ∂x/∂z|

    f is what the recipe builds. a starts at the initial location and b at `init_scale`, so that a flow which starts
    near the identity is a narrow guide there at first; a, b and f learn, at one param site `{prefix}_flow$params`, and
    a fresh guide with the params of a trained one is that guide. The density of a draw comes with it, and no flow is
    inverted. It goes wherever numpyro's guides go: `SVI`, `probgen.fit`, `Predictive`,
    `NeuTraReparam`; `get_posterior(params)` is the flow in unconstrained space.

    Args:
        model: a numpyro program, of continuous latent sites.
        recipe: `recipe(dim, *, key)` returns a `Transformed` over vectors [dim], such as
            `functools.partial(probgen.flows.real_nvp, layers=4, hidden=(32,), inverse=False)`. Maps that lead from
            noise to data serve best, as here and in an `iaf`: a guide learns by its draws.
        prefix: of the names of the guide's sites.
        init_loc_fn: where to start, one of numpyro's `init_to_…`.
        init_scale: how wide to start, in unconstrained space.
        key: draws the weights of the flow.

    Raises ValueError, when it first runs, where the recipe refuses the number of latent numbers (a coupling needs two)
    or what it returns is no such flow.

    References: Variational Inference with Normalizing Flows (Rezende, Mohamed 2015), arXiv:1505.05770; Automatic
    Differentiation Variational Inference (Kucukelbir, Tran, Ranganath, Gelman, Blei 2017), arXiv:1603.00788; NeuTra:
    Hoffman, Sountsov, Dillon, Langmore, Tran, Vasudevan 2019, arXiv:1903.03704.

    >>> import functools, jax, numpyro, optax, probgen
    >>> import numpyro.distributions as dist
    >>> from numpyro.infer import SVI, Trace_ELBO
    >>> def model():
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.LogNormal(x, 0.5))
    >>> recipe = functools.partial(probgen.flows.real_nvp, layers=2, hidden=(8,), inverse=False)
    >>> guide = AutoFlow(model, recipe, key=jax.random.key(0))
    >>> params = SVI(model, guide, optax.adam(0.01), Trace_ELBO()).run(jax.random.key(1), 3, progress_bar=False).params
    >>> {name: x.shape for name, x in guide.sample_posterior(jax.random.key(2), params, sample_shape=(5,)).items()}
    {'x': (5,), 'y': (5,)}

    How far a guide may be trusted is said by k̂ (`probgen.evaluation.psis`), and not by its ELBO. On a banana, b around
    a + a²/2, independent normals collapse onto a short piece of it: k̂ is 1.0, and 2000 draws are worth 27 of the
    posterior. A flow bends: k̂ is 0.4, they are worth 1400, and the log evidence comes out as the 0 that it is.

    >>> from numpyro.infer.autoguide import AutoNormal
    >>> from probgen.evaluation import psis
    >>> def banana():
    ...     a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("b", dist.Normal(a + a**2 / 2, 0.3))
    >>> recipe = functools.partial(probgen.flows.real_nvp, layers=2, hidden=(16,), inverse=False)
    >>> for guide in (AutoNormal(banana), AutoFlow(banana, recipe, key=jax.random.key(0))):
    ...     svi = SVI(banana, guide, optax.adam(0.01), Trace_ELBO(num_particles=4))
    ...     result = svi.run(jax.random.key(1), 1000, progress_bar=False)
    ...     found = psis(banana, guide, params=result, key=jax.random.key(3))
    ...     print(found.trusted, abs(found.log_evidence) < 0.1, found.effective_size > 1000)
    False False False
    True True True
    """

    def __init__(
        self,
        model: Callable,
        recipe: Callable[..., Transformed],
        *,
        prefix: str = "auto",
        init_loc_fn: Callable = init_to_median,
        init_scale: float = 0.1,
        key: Array,
    ):
        if not 0 < init_scale < math.inf:
            raise ValueError(f"init_scale: expected a positive number, got {init_scale}")
        self.recipe, self.init_scale, self.key = recipe, init_scale, key
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        with jax.ensure_compile_time_eval():  # what does not learn must be numbers, where a jitted function runs first
            flow = self._build()
        self._flow = Placed(flow, self._init_latent, jnp.full(self.latent_dim, jnp.log(self.init_scale)))

    def _build(self) -> Transformed:
        dim = int(self.latent_dim)
        numbers = f"the program has {dim} latent number{'s' * (dim != 1)}"
        try:
            flow = self.recipe(dim, key=self.key)
        except ValueError as error:
            raise ValueError(f"recipe: {numbers}, and {error}") from error
        if not isinstance(flow, Transformed):
            raise ValueError(f"recipe: expected it to return a Transformed, got {type(flow).__name__}")
        if flow.event_shape != (dim,) or flow.batch_shape:
            raise ValueError(
                f"recipe: {numbers}, so expected batch shape () and event shape ({dim},), "
                f"got {flow.batch_shape} and {flow.event_shape}"
            )
        if not flow.has_rsample:
            raise ValueError("recipe: expected a flow whose samples carry gradients; those of its base do not")
        return flow

    def _get_posterior(self) -> Placed:
        return module(f"{self.prefix}_flow", self._flow)

    def get_posterior(self, params: dict[str, Any]) -> Placed:
        """Return the trained flow: the posterior in unconstrained space, [latent_dim]."""
        return handlers.substitute(self._get_posterior, params)()

    def get_base_dist(self) -> dist.Distribution:
        """Return the base, for NeuTra; raise NotImplementedError where it learns and so is not the same for all
        params."""
        if partition(self._flow.flow.base)[0]:
            raise NotImplementedError("the base of this flow learns: use get_posterior(params).flow.base")
        return self._flow.flow.base

    def get_transform(self, params: dict[str, Any]) -> Transform:
        """Return the map from the base to unconstrained space, as a numpyro transform."""
        return self.get_posterior(params).transform

    def quantiles(
        self,
        params: dict[str, Any],
        quantiles: Sequence[float] | float,
        *,
        num_samples: int = 10_000,
        key: Array | None = None,
    ) -> dict[str, Array]:
        """Return quantiles [Q, ...] of every number of every site: estimates, from `num_samples` draws (of a fixed
        key)."""
        draws = self.sample_posterior(jax.random.key(0) if key is None else key, params, sample_shape=(num_samples,))
        return jax.tree.map(lambda x: jnp.quantile(x.astype(float), jnp.asarray(quantiles), axis=0), draws)

    def median(
        self, params: dict[str, Any], *, num_samples: int = 10_000, key: Array | None = None
    ) -> dict[str, Array]:
        """Return the median of every number of every site: estimates, as `quantiles`."""
        return self.quantiles(params, 0.5, num_samples=num_samples, key=key)
