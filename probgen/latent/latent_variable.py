"""The latent-variable model put together from a prior, a likelihood and an amortized posterior."""

from collections.abc import Callable
from typing import Any, Self, TypeAlias

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import DensityKind, bind, check_functions, check_instances, in_words, weakest
from probgen.distributions.wrapped import kind_of
from probgen.latent.model import Latent

_Conditional: TypeAlias = Callable[[Array], dist.Distribution]
_Prior: TypeAlias = dist.Distribution | Callable[[_Conditional], dist.Distribution]


class LatentVariableModel(Latent):
    """p(x) = ∫ p(z) p(x | z) dz, with an approximate posterior q(z | x) from which its bounds are drawn.

        log w = log p(z) + log p(x | z) − log q(z | x),   z ~ q(z | x),   E[w] = p(x)

    The parts may be anything: a flow or a mixture as the prior, an autoregressive likelihood, a flow posterior.

    Args:
        prior: the distribution of one z, of batch shape (), ours or numpyro's; or what makes it of the posterior, such
            as a `VampPrior`. One that has weights or a bound only will do, such as another latent-variable model: then
            this is a hierarchy, Markov from the bottom up, and each layer is a site of the program.
        likelihood: z [..., *latent_shape] → distribution of x (a `Conditional`, a `ConditionalModel`, any callable
            pytree).
        posterior: x [..., *event_shape] → distribution of z. Its draws are never inverted. Where they carry no
            gradient, as those of bits, the model learns by its `program` and `guide`, as `fit` does it; the gradient of
            a bound of it raises NotImplementedError.
        context_shape: the shape of one context where parts are `Contextual`; wrap the model in a `ConditionalModel`
            then.

    Raises ValueError where a part is of another kind, where the parts' shapes do not fit, or where the posterior is
    known to draw outside of the prior's support.

    References: Auto-Encoding Variational Bayes (Kingma, Welling 2014), arXiv:1312.6114; Stochastic Backpropagation and
    Approximate Inference in Deep Generative Models (Rezende, Mohamed, Wierstra 2014), arXiv:1401.4082.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> normal = lambda scale: lambda loc: dist.Normal(loc / 2, scale).to_event(1)
    >>> prior = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    >>> model = LatentVariableModel(prior, lambda z: dist.Normal(z, 1.0).to_event(1), normal(0.5**0.5))
    >>> bound = model.log_prob_bound(jax.random.key(0), jnp.ones(2))  # q is the exact posterior: the bound is tight
    >>> bool(jnp.allclose(bound, dist.Normal(0, 2**0.5).log_prob(jnp.ones(2)).sum()))
    True
    """

    pytree_data_fields = ("likelihood", "posterior", "prior")
    pytree_aux_fields: tuple[str, ...] = ("latent_shape", "part_kinds")

    def __init__(
        self,
        prior: _Prior,
        likelihood: _Conditional,
        posterior: _Conditional,
        *,
        context_shape: tuple[int, ...] | None = None,
        validate_args: bool | None = None,
    ):
        check_instances(prior=prior)
        check_functions("a distribution of x", likelihood=likelihood)
        check_functions("a distribution of z", posterior=posterior)
        self.prior, self.likelihood, self.posterior = prior, likelihood, posterior
        self.context_shape = context_shape
        of_z, given_z = self._looked_at()
        self.part_kinds: tuple[DensityKind, DensityKind] = kind_of(of_z), kind_of(given_z)
        super().__init__(given_z.event_shape, validate_args=validate_args)
        self._check_posterior(given_z)

    def _looked_at(self) -> tuple[dist.Distribution, dist.Distribution]:
        """Return the prior, and the likelihood at z = 0; set the shape of z."""
        one = self._at_zeros()
        prior = one.latent_prior
        if prior.batch_shape:
            raise ValueError(f"prior: expected batch shape (), got {prior.batch_shape}; use .to_event()")
        self.latent_shape = prior.event_shape
        try:
            given_z = _made("likelihood: expected a distribution of x", one.likelihood(jnp.zeros(prior.event_shape)))
        except TypeError as error:
            raise ValueError(
                f"likelihood: it takes no z of shape {prior.event_shape}: {str(error).splitlines()[0]}"
            ) from error
        if given_z.batch_shape:
            raise ValueError(
                f"likelihood: expected batch shape () for one z, got {given_z.batch_shape}; use .to_event()"
            )
        return prior, given_z

    def _at_zeros(self) -> Self:
        """Return the model at a context of zeros, where it takes one."""
        return self if self.context_shape is None else bind(self, jnp.zeros(self.context_shape))

    def _check_posterior(self, given_z: dist.Distribution) -> None:
        """Raise ValueError where the posterior of one x is known not to fit; nothing is computed."""
        try:
            discrete = getattr(given_z.support, "is_discrete", False)
        except (ValueError, NotImplementedError):  # its support is not known
            discrete = False
        zeros = jnp.zeros(given_z.event_shape, int if discrete else float)

        def look(x: Array) -> None:
            self._at_zeros()._posterior_of(x)

        wrong = []
        for x in (zeros, zeros.astype(float)):
            try:
                return jax.eval_shape(look, x)
            except (IndexError, jax.errors.JAXTypeError):
                return  # it looks at numbers: where it is used, it is judged
            except TypeError as error:
                wrong.append(error)
        raise ValueError(f"posterior: it takes no x of shape {zeros.shape}: {str(wrong[0]).splitlines()[0]}")

    def _posteriors(self, x: Array) -> dist.Distribution:
        return _made("posterior: expected a distribution of z", super()._posteriors(x))

    @property
    def latent_prior(self) -> dist.Distribution:
        """The distribution p(z): `prior`, or what that makes of the posterior."""
        if isinstance(self.prior, dist.Distribution):
            return self.prior
        expected = "prior: expected a distribution, or what makes one of the posterior, such as a VampPrior"
        return _made(expected, self.prior(self.posterior) if callable(self.prior) else self.prior)

    @property
    def prior_parts(self) -> Any:
        """The prior; and the posterior where the prior is made of it."""
        return self.prior if isinstance(self.prior, dist.Distribution) else (self.prior, self.posterior)

    @property
    def nested(self) -> Latent | None:
        """The prior, where that is a model with latent variables in its turn."""
        return self.prior if isinstance(self.prior, Latent) else None

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The kind "weights"; a bound where prior or likelihood have no more; an estimate where one of them is one."""
        return weakest("weights", *self.part_kinds)

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        """How far the estimates of prior and likelihood can move a bound of the model, in nats."""
        parts = self._first()._looked_at()
        return sum(getattr(part, "tolerance", 0.0) for part in parts)

    def replace(self, **fields: Any) -> Self:
        """Return the same model with other values of some fields."""
        new = super().replace(**fields)
        if fields.keys() & {"prior", "likelihood"}:  # known only by running them, which is asked for too often to do
            of_z, given_z = new._first()._looked_at()
            new.part_kinds = kind_of(of_z), kind_of(given_z)
        return new


def _made(expected: str, made: Any) -> dist.Distribution:
    if not isinstance(made, dist.Distribution):
        raise ValueError(f"{expected}, got {in_words(made)}")
    return made
