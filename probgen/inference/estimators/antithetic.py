"""Two coupled draws of one site."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax

from probgen.distributions.wrapped import elementwise, unmasked
from probgen.inference.estimators.base import Estimator, Signal, detached, is_bernoulli


@dataclasses.dataclass(frozen=True)
class DisARM(Estimator):
    """Bits with their antithetic twins: two evaluations of the program a gradient, whatever their number.

        ½ (f(b) − f(b̃)) Σ_i (b_i − b̃_i) σ(|α_i|) ∇_θ α_i,   b = 1[α + ε > 0],  b̃ = 1[α − ε > 0]

    with logits α and logistic noise ε. Where the twins agree a bit has no gradient, and no variance. Bits given by
    probabilities of exactly 0 or 1 have no gradient, as their logits are infinite: give logits.

    References: DisARM: An Antithetic Gradient Estimator for Binary Latent Variables (Dong, Mnih, Tucker 2020),
    arXiv:2006.10680; the same in Yin, Ho, Yan, Qian, Zhou 2020, arXiv:2007.02912.

    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> from probgen.inference import expectation
    >>> d = lambda logits: dist.Bernoulli(logits=logits).to_event(1)
    >>> f = lambda x: expectation(jax.random.key(0), d(x), lambda b: b.sum() ** 2, DisARM(), num_samples=10_000)
    >>> jax.grad(f)(jnp.zeros(2)).round(1)  # E = p₁ + p₂ + 2 p₁ p₂, and each slope is ¼ (1 + 1)
    Array([0.5, 0.5], dtype=float32)
    """

    scored: ClassVar[bool] = True
    copies: ClassVar[int] = 2
    needs: ClassVar[str] = "a Bernoulli distribution"
    reference: ClassVar[str] = "Dong, Mnih, Tucker 2020, arXiv:2006.10680"

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why not, where it is no Bernoulli."""
        return None if is_bernoulli(fn) else "its values are no bits"

    def draw(self, key: Array, fn: dist.Distribution, sample_shape: tuple[int, ...]) -> Array:
        """Draw (b, b̃), [2, *shape]."""
        logits = _logits(detached(fn))
        noise = jax.random.logistic(key, (*sample_shape, *logits.shape), logits.dtype)
        return jnp.stack([logits + noise > 0, logits - noise > 0]).astype(jnp.int32)

    def observe(self, fn: dist.Distribution, value: Array) -> Any:
        """Return Σ_i b_i σ(|α_i|) α_i, over the axes of the event."""
        logits = _logits(fn)
        reach = value * logits * lax.stop_gradient(jax.nn.sigmoid(jnp.abs(logits)))
        return jnp.sum(reach, tuple(range(len(fn.batch_shape), reach.ndim)))

    def surrogate(self, signal: Signal) -> tuple[Array, None]:
        """Return the difference of the costs times that of what moves them, a mean over particles."""
        apart = lambda x: jnp.diff(x, axis=-1 if signal.axis is None else signal.axis)
        return jnp.sum(signal.weight * apart(signal.cost) * apart(signal.extra)) / len(signal.cost), None


def _logits(fn: dist.Distribution) -> Array:
    """Return log q(1) − log q(0), of every bit."""
    bits = elementwise(unmasked(fn))
    return bits.log_prob(jnp.ones(bits.batch_shape)) - bits.log_prob(jnp.zeros(bits.batch_shape))
