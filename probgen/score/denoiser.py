"""Denoisers: z = α x + σ ε ↦ E[x | z], with α² + σ² = 1. The noise level is λ = log α²/σ² to them, not a time."""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import as_integer, as_number, check_functions, check_positive, check_sizes, static_functions
from probgen.networks import place
from probgen.score.dropped_context import Conditioned
from probgen.score.sde import SDE, coefficients
from probgen.score.targets import Data, Preconditioned, Target

Denoise = Callable[[Array, Array], Array]  # x_t, t ↦ E[x | x_t]


class Denoiser(eqx.Module):
    """A function z, λ ↦ x̂ = E[x | z], of one event: the base of those below, and of users' own.

    A subclass writes `__call__(z, log_snr)`; the noise ε̂ and the score follow from it,

        ε̂ = (z − α x̂) / σ,   ∇ log p(z) = −ε̂ / σ        (Tweedie's formula)

    z is at unit scale, α² + σ² = 1, whatever the SDE; `under` makes it a function of an SDE's x_t and t. A wrapper of a
    denoiser (guidance, say) is a denoiser: what data are is known to the score model's `Decoder`. It says
    `coherent = False` where its scores, at all λ, are not meant as those of one law of x: `ScoreModel.exact_by`, whose
    derivative is the score, refuses it.

    References: Tweedie's Formula and Selection Bias (Efron 2011), JASA 106.
    """

    coherent: ClassVar[bool] = True

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z]."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def noise(self, z: Array, log_snr: Array) -> Array:
        """Return E[ε | z]."""
        return Data().noise(self(z, log_snr), z, log_snr)

    def score(self, z: Array, log_snr: Array) -> Array:
        """Return ∇ log p(z)."""
        return -self.noise(z, log_snr) / coefficients(log_snr)[1]

    def without_context(self) -> "Denoiser":
        """Return the denoiser of all data, whatever their context. Raises ValueError where there is none: guidance
        needs it."""
        raise ValueError(f"denoiser: expected a conditional one, got a {type(self).__name__}, which takes no context")

    def under(self, sde: SDE) -> Denoise:
        """Return x_t, t ↦ E[x | x_t] along an SDE."""
        return lambda x, t: self.checked(x / sde.scale(t), sde.log_snr(t))

    def checked(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z]. Raises ValueError where it has another shape than z."""
        x = self(z, log_snr)
        if jnp.shape(x) != z.shape:
            raise ValueError(f"denoiser: expected E[x | z] of the event's shape {z.shape}, got {jnp.shape(x)}")
        return x


def check_coherent(denoiser: Denoiser) -> None:
    """Raise ValueError where a denoiser, or one that it wraps, is guided: its scores are not those of one law of x."""
    guided = lambda node: isinstance(node, Denoiser) and not node.coherent
    found = [node for node in jax.tree.leaves(denoiser, is_leaf=guided) if guided(node)]
    if found:
        raise ValueError(
            f"exact_by: expected a denoiser whose score is the derivative of its density, got a "
            f"{type(found[0]).__name__}; log_prob_ode is the density of what its ODE draws"
        )


def _of_event(said: Array, shape: tuple[int, ...]) -> Array:
    """Return what a network said, in the shape of the event. Raises ValueError where these are other numbers."""
    if said.size != math.prod(shape):
        raise ValueError(f"network: expected {math.prod(shape)} numbers for an event, {shape}, got shape {said.shape}")
    return said.reshape(shape)


class NetworkDenoiser(Conditioned, Denoiser):
    """The base of denoisers that call a network of (event, context) with the noise level's features as context.

    A condition, bound by `core.bind`, is appended to those features. With `drop_context` a number follows it, 1 where
    there is a condition; without, there are zeros for both, so that a condition of zeros is not mistaken for none. In
    training, where `core.with_key` has bound a key, each row loses its condition at that rate: the network learns to
    denoise with and without, and `without_context` is the latter.

    Args:
        network: of (event, context); it takes events as they are (images have three axes; `networks.Reshaped` makes
            vectors of them for a dense one).
        embedding: λ ↦ features.
        context_dim: the size of the condition, if there is one.
        drop_context: the rate, below 1, at which training drops it; the network's context is longer by one where it
            is not 0.
        context: the condition and the number after it, once they are bound; `core.bind` sets them.
        key: the randomness of one training step; `core.with_key` sets it.

    Raises ValueError where `drop_context` is no rate, or there is no condition to drop.

    References: Classifier-Free Diffusion Guidance (Ho, Salimans 2022), arXiv:2207.12598, algorithm 1.
    """

    name: ClassVar[str] = "denoiser"
    embedding: Callable[[Array], Array] = eqx.field(converter=static_functions)

    def __check_init__(self) -> None:
        check_functions("features", embedding=self.embedding)

    def features(self, z: Array, log_snr: Array) -> Array:
        """Return the network's output."""
        features = self.embedding(log_snr)
        if self.context_dim is not None:
            features = jnp.concatenate([features, self._context_of_row()])
        return self.network(z, features)


class RealDenoiser(NetworkDenoiser):
    """A denoiser of reals: a network of z at unit variance, whose output is a `Target`, from which x̂ follows.

        x̂ = target.data(F(z / √(α² s² + σ²), λ), z, λ)

    By default the target is what the best linear denoiser misses (`targets.Preconditioned`).

    Args:
        network: F, as for `NetworkDenoiser`.
        embedding: λ ↦ features.
        scale: s, the standard deviation of the (centred) data.
        target: what F says.
        context_dim: the size of the condition, if there is one.
        drop_context: the rate at which training drops it.
        context: the condition, once it is bound; `core.bind` sets it.
        key: the randomness of one training step; `core.with_key` sets it.

    Raises ValueError where the target is none, or the scale is not positive.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, table 1.
    """

    scale: float = eqx.field(static=True, default=1.0, converter=as_number)
    target: Target | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_positive(scale=self.scale)
        if self.target is not None and not isinstance(self.target, Target):
            raise ValueError(f"target: expected a score.targets.Target, got {type(self.target).__name__}")

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z]."""
        return self._target.data(self._said(z, log_snr), z, log_snr)

    def noise(self, z: Array, log_snr: Array) -> Array:
        """Return E[ε | z], which does not go by way of x̂."""
        return self._target.noise(self._said(z, log_snr), z, log_snr)

    @property
    def _target(self) -> Target:
        return Preconditioned(self.scale) if self.target is None else self.target

    def _said(self, z: Array, log_snr: Array) -> Array:
        return _of_event(self.features(z / Preconditioned(self.scale).root(log_snr), log_snr), z.shape)


class LevelDenoiser(NetworkDenoiser):
    """A denoiser of integers 0..L−1, put at v_k evenly from −1 to 1: a posterior over the levels at every position.

        log P(x_d = k | z) = F_dk(z, λ) + log N(z_d; α v_k, σ²) + const,   x̂_d = Σ_k v_k P(x_d = k | z)

    By Bayes' rule the likelihood of z_d is known, so the network F (D·L numbers) has only to say what is expected at a
    position; with F = 0 this is the exact denoiser of uniform levels. At little noise x̂ is exact whatever F is.

    Args:
        network: F, as for `NetworkDenoiser`, to D·L numbers.
        embedding: λ ↦ features.
        levels: L.
        context_dim: the size of the condition, if there is one.
        drop_context: the rate at which training drops it.
        context: the condition, once it is bound; `core.bind` sets it.
        key: the randomness of one training step; `core.with_key` sets it.
    """

    levels: int = eqx.field(static=True, default=2, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    def log_posterior(self, z: Array, log_snr: Array) -> Array:
        """Return log P(x_d = k | z), [*event, levels]."""
        alpha, sigma = coefficients(log_snr)
        expected = _of_event(self.features(z, log_snr), (*z.shape, self.levels))
        likelihood = -0.5 * ((z[..., None] - alpha * self._values) / sigma) ** 2
        return jax.nn.log_softmax(expected + likelihood)

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z], in [−1, 1]."""
        return jnp.exp(self.log_posterior(z, log_snr)) @ self._values

    @property
    def _values(self) -> Array:
        return place(jnp.arange(self.levels), self.levels)
