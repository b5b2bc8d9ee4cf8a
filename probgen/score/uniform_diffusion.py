"""Uniform diffusion: integers that noise replaces by others, all as likely."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import as_integer, check_sizes, given, static_functions
from probgen.distributions.heads import Head
from probgen.score.discrete_diffusion import DiscreteDiffusion
from probgen.score.unmasking import Share, check_share, linear_share


class UniformDiffusion(DiscreteDiffusion):
    """A diffusion of T steps whose noise puts uniform integers in the place of numbers (D3PM's uniform one).

        q(z_t | x) = α_t δ_x + (1 − α_t) / L,   q(z_t | z_s) = a δ_{z_s} + (1 − a) / L,   a = α_t / α_s
        q(z_s | z_t, x) ∝ (a δ_{z_t} + (1 − a) / L) (α_s δ_x + (1 − α_s) / L)
        p(z_s | z_t)    ∝ (a δ_{z_t} + (1 − a) / L) (α_s π  + (1 − α_s) / L),   π = head(network(z_t, α_t))
        log p(x) ≥ −KL(q(z_T | x) ‖ uniform) − Σ_{t=1}^T E_q KL(q(z_{t−1} | z_t, x) ‖ p(z_{t−1} | z_t))

    independently at every position; z_0 = x, so that the last term of the sum is −log p(x | z_1). π is what the other
    positions let expect at one, before z_t there is looked at: with independent numbers it is their distribution, and
    the bound is then exact up to its first term, however few steps there are. The KLs are sums over L, in closed form;
    one t, spread evenly over rows and particles, stands for all of them.

    The network is told α_t and not t, so that `model.replace(steps=…, share=…)` changes both after training. More steps
    make a tighter bound.

    Args:
        network: any callable pytree of (z, α_t), one event of integers and one number → raw numbers [*event_shape,
            head.num_params] (or of that size); `AtShare` makes one of a network of (event, context).
        head: raw numbers [..., num_params] → distribution of integers 0..L−1.
        event_shape: the shape of one event.
        steps: T.
        share: α(t), α_t = α(t / T): `linear_share`, `cosine_share`, or one's own, falling from 1 at t = 0.

    Raises ValueError where the head is of other numbers, the network's output has another size, `share` does not fall
    from 1, or data are no integers 0..L−1.

    References: Argmax Flows and Multinomial Diffusion (Hoogeboom, Nielsen, Jaini, Forré, Welling 2021),
    arXiv:2102.05379; Structured Denoising Diffusion Models in Discrete State-Spaces (Austin et al. 2021),
    arXiv:2107.03006.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import integer_head
    >>> model = UniformDiffusion(lambda z, share: jnp.zeros((4, 3)), integer_head(3), (4,), steps=10)
    >>> model.log_prob_bound(jax.random.key(0), jnp.zeros((5, 4), int)).shape
    (5,)
    """

    pytree_aux_fields = ("steps", "share")

    def __init__(
        self,
        network: Callable[[Array, Array], Array],
        head: Head,
        event_shape: Sequence[int],
        *,
        steps: int = 100,
        share: Share = linear_share,
        validate_args: bool | None = None,
    ):
        self.steps, self.share = as_integer(steps), share
        super().__init__(network, head, event_shape, validate_args=validate_args)

    def _check_fields(self) -> None:
        super()._check_fields()
        check_sizes(steps=self.steps)
        check_share(self.share)

    # -- one event

    def bound_event(self, key: Array, u: Array, x: Array) -> Array:
        """Return the bound of one event with one of the KLs, at the step that u says."""
        t = jnp.minimum(1 + jnp.floor(u * self.steps).astype(int), self.steps)
        return -self.prior_mismatch() - self.steps * self.kl_of_step(t, self.noised(key, t, x), x)

    def sample_event(self, key: Array) -> Array:
        """Draw one event: uniform numbers, and T steps."""
        start = jax.random.randint(jax.random.fold_in(key, 0), self.event_shape, 0, self.levels)

        def one(i: Array, z: Array) -> Array:
            logits = self.log_step(self.steps - i, z, self.log_expected(self.steps - i, z))
            return jax.random.categorical(jax.random.fold_in(key, i + 1), logits).astype(z.dtype)

        return lax.fori_loop(0, self.steps, one, start)

    def noised(self, key: Array, t: Array, x: Array) -> Array:
        """Return z_t ~ q(z_t | x)."""
        replaced_key, key = jax.random.split(key)
        replaced = jax.random.uniform(replaced_key, x.shape) >= self.kept(t)
        return jnp.where(replaced, jax.random.randint(key, x.shape, 0, self.levels, x.dtype), x)

    def kept(self, t: Array) -> Array:
        """Return α_t at the step t of 0..T."""
        return jnp.clip(self.share(jnp.asarray(t, float) / self.steps), 0.0, 1.0)

    def log_expected(self, t: Array, z: Array) -> Array:
        """Return log π, what the network expects at every position, [*event_shape, levels]."""
        expected, levels = self.head(self._raw_of(z, self.kept(t))), jnp.arange(self.levels)
        return jnp.moveaxis(expected.log_prob(levels.reshape(-1, *[1] * z.ndim)), 0, -1)

    def log_step(self, t: Array, z: Array, log_expected: Array) -> Array:
        """Return log p(z_{t−1} | z_t = z), [*event_shape, levels], where this log π is expected."""
        before, a = self.kept(t - 1), self.kept(t) / self.kept(t - 1)
        from_here = jnp.log(a * jax.nn.one_hot(z, self.levels) + (1.0 - a) / self.levels)
        return jax.nn.log_softmax(from_here + _mixed(before, log_expected, self.levels))

    def kl_of_step(self, t: Array, z: Array, x: Array) -> Array:
        """Return KL(q(z_{t−1} | z_t = z, x) ‖ p(z_{t−1} | z_t = z)) of one event, in nats."""
        true = self.log_step(t, z, jnp.log(jax.nn.one_hot(x, self.levels)))
        ours = self.log_step(t, z, self.log_expected(t, z))
        # at t = 1 the true one is x for certain, and 0 · (−∞ − log p) has to be 0, with a finite gradient
        likely = jnp.isfinite(true)
        return jnp.sum(jnp.where(likely, jnp.exp(true) * (jnp.where(likely, true, 0.0) - ours), 0.0))

    def prior_mismatch(self) -> Array:
        """Return KL(q(z_T | x) ‖ uniform) of one event, in nats, the same for all: 0 where α(1) = 0."""
        left, size = self.kept(jnp.array(self.steps)), float(jnp.zeros(self.event_shape).size)
        same, other = left + (1.0 - left) / self.levels, (1.0 - left) / self.levels
        terms = jax.scipy.special.xlogy(jnp.stack([same, other]), self.levels * jnp.stack([same, other]))
        return size * (terms[0] + (self.levels - 1) * terms[1])


class AtShare(eqx.Module):
    """A network of (event, context) as one of (event, α): features of α, and a condition if there is one, are its
    context.

    Args:
        network: of (event, context).
        embedding: α ↦ features.
        context_dim: the size of the condition, if there is one.
        context: the condition, once it is bound; `core.bind` sets it.

    >>> AtShare(lambda x, c: x + c, lambda share: share[None])(jnp.zeros(2), jnp.array(0.5)).tolist()
    [0.5, 0.5]
    """

    network: Any = eqx.field(converter=static_functions)
    embedding: Callable[[Array], Array] = eqx.field(converter=static_functions)
    context_dim: int | None = eqx.field(static=True, default=None)
    context: Array | None = given(default=None)

    def bind_context(self, context: Array) -> "AtShare":
        """Return the same network with its condition filled in."""
        if self.context_dim is None:
            return self
        return AtShare(self.network, self.embedding, self.context_dim, context)

    def __call__(self, x: Array, share: Array) -> Array:
        """Apply the network to one event, at one α."""
        features = self.embedding(share)
        if self.context_dim is not None:
            if self.context is None:
                raise ValueError("this model is conditional: call the ConditionalModel with a context first")
            features = jnp.concatenate([features, self.context])
        return self.network(x, features)


def _mixed(share: Array, log_probs: Array, levels: int) -> Array:
    """Return log(α p + (1 − α) / L); at α = 1 it is log p, however small p is."""
    return jnp.logaddexp(jnp.log(share) + log_probs, jnp.log1p(-share) - jnp.log(levels))
