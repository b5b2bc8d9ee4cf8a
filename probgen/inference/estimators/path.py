"""Estimators that differentiate the value itself."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax

from probgen.inference.estimators.base import Estimator, draw_cut, is_bernoulli


@dataclasses.dataclass(frozen=True)
class Pathwise(Estimator):
    """Reparameterization: z = g(ε; θ) with ε free of θ, and ∇_θ E[f(z)] = E[∇_z f(z) ∇_θ g(ε; θ)].

    It takes one evaluation a gradient. It needs a distribution with `has_rsample`, and an f that is differentiable in
    z.

    References: Auto-Encoding Variational Bayes (Kingma, Welling 2014), arXiv:1312.6114; Stochastic Backpropagation
    (Rezende, Mohamed, Wierstra 2014), arXiv:1401.4082. Gamma, Beta, Dirichlet: Implicit Reparameterization Gradients
    (Figurnov, Mohamed, Mnih 2018), arXiv:1805.08498.

    >>> import jax, numpyro.distributions as dist
    >>> f = lambda loc: expectation(jax.random.key(0), dist.Normal(loc, 1.0), lambda z: 3 * z, Pathwise())
    >>> from probgen.inference import expectation
    >>> float(jax.grad(f)(0.5))
    3.0
    """

    needs: ClassVar[str] = "a reparameterized sampler (has_rsample)"
    reference: ClassVar[str] = "Kingma and Welling 2014, arXiv:1312.6114"

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why not, where samples carry no gradients."""
        return None if fn.has_rsample else "its samples carry no gradient"

    def draw(self, key: Array, fn: dist.Distribution, sample_shape: tuple[int, ...]) -> None:
        """Return None: the distribution's own draw is its path."""
        return None


@dataclasses.dataclass(frozen=True)
class StickingTheLanding(Pathwise):
    """Pathwise, without the score of q in −log q(z; θ): the gradient is that of the path alone.

        ∇_θ [log p(z) − log q(z; stop(θ))],   z = g(ε; θ)

    What is left out has mean zero. Where q is the posterior, every single gradient is exactly zero; far from it the
    variance can be larger than that of `Pathwise`. The guide runs a second time with its params held, on the values
    that were drawn, so that in a guide of several sites each log q still depends on the sites before it.

    References: Sticking the Landing (Roeder, Wu, Duvenaud 2017), arXiv:1703.09194.
    """

    closed_form: ClassVar[bool] = False
    holds_params: ClassVar[bool] = True
    reference: ClassVar[str] = "Roeder, Wu, Duvenaud 2017, arXiv:1703.09194"


@dataclasses.dataclass(frozen=True)
class StraightThrough(Estimator):
    """The hard draw forwards, the mean backwards: z = stop(b − p) + p for a Bernoulli b. BIASED, with one evaluation.

    The gradient takes f for its linear extension at the draw: for f(b) = (b − t)² it is 2(b − t) ∂p, with mean
    2(p − t) ∂p, instead of (1 − 2t) ∂p. Bias: (2p − 1) ∂p.

    References: Estimating or Propagating Gradients Through Stochastic Neurons (Bengio, Léonard, Courville 2013),
    arXiv:1308.3432.
    """

    unbiased: ClassVar[bool] = False
    needs: ClassVar[str] = "a Bernoulli distribution"
    reference: ClassVar[str] = "Bengio, Léonard, Courville 2013, arXiv:1308.3432"

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why not, where it is no Bernoulli."""
        return None if is_bernoulli(fn) else "its values are no bits whose mean is a value between them"

    def draw(self, key: Array, fn: dist.Distribution, sample_shape: tuple[int, ...]) -> Array:
        """Draw a bit as a floating-point number, with the gradient of its mean."""
        mean = jnp.broadcast_to(fn.mean, (*sample_shape, *fn.batch_shape, *fn.event_shape))
        bits = draw_cut(key, fn, sample_shape).astype(mean.dtype)
        return bits + (mean - lax.stop_gradient(mean))
