"""Unmasking: which masked numbers become known at which step of a draw, and so which bound they have."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import check_functions, check_sizes

Share = Callable[[Array], Array]  # t ↦ α(t), the share of numbers that noise has left as they are


def linear_share(t: Array) -> Array:
    """Return α(t) = 1 − t.

    Args:
        t: times in [0, 1].

    References: Structured Denoising Diffusion Models in Discrete State-Spaces (Austin, Johnson, Ho, Tarlow, van den
    Berg 2021), arXiv:2107.03006, section 3.1: that of a mutual information which falls linearly.

    >>> linear_share(jnp.array([0.0, 0.25])).tolist()
    [1.0, 0.75]
    """
    return 1.0 - jnp.asarray(t, float)


def cosine_share(t: Array) -> Array:
    """Return α(t) = 1 − sin(π t / 2): fewer numbers become known in the first steps of a draw than in the last.

    Args:
        t: times in [0, 1].

    References: MaskGIT (Chang, Zhang, Jiang, Liu, Freeman 2022), arXiv:2202.04200, section 3.3; Simplified and
    Generalized Masked Diffusion for Discrete Data (Shi, Han, Wang, Doucet, Titsias 2024), arXiv:2406.04329, table 1.

    >>> cosine_share(jnp.array([0.0, 1.0])).tolist()
    [1.0, 0.0]
    """
    return 1.0 - jnp.sin(0.5 * jnp.pi * jnp.asarray(t, float))


@dataclass(frozen=True)
class Unmasking:
    """A distribution of the steps at which numbers become known, each seeing those of earlier steps: the base of those
    below, and of users' own.

        log p(x) ≥ E_k E_τ w_k Σ_{i: τ_i ≥ k} log p(x_i | x_j, τ_j < k)

    where k and w_k are such that a number counts, of all steps, at its own: w_k P(k) is the chance that a number which
    is masked before step k becomes known at it. So one call of a network serves all numbers that are masked. A subclass
    writes `length`, `times` and `step`; no number may be unlike another to it.
    """

    def length(self, unknown: Array) -> int | Array:
        """Return how many steps a draw of the numbers takes that are unknown, [D] of booleans."""
        raise NotImplementedError(f"{type(self).__name__} has no length")

    def times(self, key: Array, unknown: Array) -> Array:
        """Return the step τ at which each number becomes known, [D]; of those that are known already, any."""
        raise NotImplementedError(f"{type(self).__name__} has no times")

    def step(self, u: Array, unknown: Array) -> tuple[Array, Array]:
        """Return a step k, drawn by u ~ Uniform(0, 1), and its weight w_k."""
        raise NotImplementedError(f"{type(self).__name__} has no step")


@dataclass(frozen=True)
class OneByOne(Unmasking):
    """One number at each step, in an order that is drawn uniformly: an any-order autoregressive model.

        P(k) = 1 / U,   w_k = U / (U − k),   k = 0..U−1,   U unknown numbers

    Its bound is that of masked diffusion in continuous time, whatever the schedule.

    References: Autoregressive Diffusion Models (Hoogeboom, Gritsenko, Bastings, Poole, van den Berg, Salimans 2022),
    arXiv:2110.02037, algorithm 2; Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of
    Clean Data (Ou et al. 2024), arXiv:2406.03736, theorem 2.

    >>> OneByOne().times(jax.random.key(0), jnp.array([True, True, False, True])).tolist()
    [1, 2, 3, 0]
    """

    def length(self, unknown: Array) -> Array:
        """Return U."""
        return jnp.sum(unknown)

    def times(self, key: Array, unknown: Array) -> Array:
        """Return the place of each number in the order."""
        noise = jnp.where(unknown, jax.random.uniform(key, unknown.shape), 1.0)
        return jnp.argsort(jnp.argsort(noise))

    def step(self, u: Array, unknown: Array) -> tuple[Array, Array]:
        """Return the place k and U / (U − k); all are as likely."""
        count = jnp.sum(unknown)
        masked = jnp.minimum(1 + jnp.floor(u * count).astype(count.dtype), count)
        return count - masked, count / jnp.maximum(masked, 1)


@dataclass(frozen=True)
class InSteps(Unmasking):
    """Several numbers at each of T steps, independent of one another given those of earlier steps.

        c_k = α(1 − k/T),   P(τ_i = k) = P(k) = c_{k+1} − c_k,   w_k = 1 / (1 − c_k),   k = 0..T−1

    The fewer steps, the looser the bound: with one step it is that of independent numbers, with ever more of them it
    rises to that of `OneByOne`.

    Args:
        steps: T, how many.
        share: α(t), how many numbers are known at t: `linear_share`, `cosine_share`, or one's own, falling from 1 at
            t = 0 to 0 at t = 1.

    Raises ValueError where there is no step, or `share` does not fall from 1 to 0.

    References: Structured Denoising Diffusion Models in Discrete State-Spaces (Austin et al. 2021), arXiv:2107.03006;
    Simple and Effective Masked Diffusion Language Models (Sahoo et al. 2024), arXiv:2406.07524.

    >>> InSteps(4).known.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    steps: int
    share: Share = linear_share

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps)
        check_share(self.share, last=0.0)

    @property
    def known(self) -> Array:
        """The share of numbers that are known after each step, c [T + 1]."""
        return jnp.clip(self.share(1.0 - jnp.arange(self.steps + 1) / self.steps), 0.0, 1.0)

    def length(self, unknown: Array) -> int:
        """Return T."""
        return self.steps

    def times(self, key: Array, unknown: Array) -> Array:
        """Return independent steps."""
        return self._step_at(jax.random.uniform(key, unknown.shape))

    def step(self, u: Array, unknown: Array) -> tuple[Array, Array]:
        """Return the step at which a number with the time u becomes known, and 1 / (1 − c_k)."""
        k = self._step_at(u)
        return k, 1.0 / (1.0 - self.known[k])

    def _step_at(self, u: Array) -> Array:
        return jnp.searchsorted(self.known[1:-1], u, side="right")


def check_share(share: Share, *, last: float = 1.0) -> None:
    """Raise ValueError where a share does not fall from 1 at t = 0, at nine times, or ends above `last`; one whose
    numbers are not known yet passes.

    Args:
        share: t ↦ α(t).
        last: the largest that α(1) may be.
    """
    check_functions("α(t)", share=share)
    with jax.ensure_compile_time_eval():
        values = share(jnp.linspace(0.0, 1.0, 9))
    if isinstance(values, jax.core.Tracer):
        return
    alpha = np.asarray(values, float)
    ends = abs(alpha[0] - 1.0) < 1e-5 and -1e-5 < alpha[-1] < last + 1e-5
    if not (ends and (np.diff(alpha) < 0).all()):
        raise ValueError(f"share: expected numbers that fall from 1 at t = 0 to {last} at 1, got {alpha.tolist()}")
