"""Masked diffusion: integers that noise hides one after another, and a network that says what is hidden."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core.even_times import even
from probgen.distributions import lifted, verb
from probgen.distributions.coding import Message, Table, over_lanes
from probgen.distributions.heads import Head
from probgen.score.completion import Completion
from probgen.score.discrete_diffusion import DiscreteDiffusion
from probgen.score.unmasking import OneByOne, Unmasking


class MaskedDiffusion(DiscreteDiffusion):
    """A diffusion whose noise masks numbers; it is an any-order autoregressive model.

        log p(x) ≥ ∫ −α'(t) / (1 − α(t)) E_{M ~ q_t} Σ_{i∈M} log p(x_i | x_{∖M}) dt
                 = E_σ Σ_i log p(x_{σ_i} | x_{σ_1}, …, x_{σ_{i−1}})
                 = Σ_{m=1}^D E_{|M|=m} 1/m Σ_{i∈M} log p(x_i | x_{∖M})

    q_t masks each number with probability 1 − α(t); the schedule α, falling from 1 to 0, drops out, and the network
    need not know t. The last line is what is computed, with one call of the network: the number m of masked positions
    is spread evenly, which has less variance than times have. Draws, and the bound with them, go by `unmasking`:
    `OneByOne` is this, exactly; `InSteps(T)` takes T calls of the network for a draw, and has the bound of that model.

    In one order the same weights have an exact density: `InOrder` makes the network of an autoregressive model.

    Args:
        network: any callable pytree, one event of integers 0..L, of which L stands for a masked number → raw numbers
            [*event_shape, head.num_params] (or of that size); `networks.MaskedLevels` makes reals of them. A network
            of the autoregressive family takes L + 1 symbols; one that is causal does not see what comes after.
        head: raw numbers [..., num_params] → distribution of integers 0..L−1.
        event_shape: the shape of one event.
        unmasking: which numbers of a draw become known when; `OneByOne()` by default. `model.replace(unmasking=…)`
            changes it, after training too.

    Raises ValueError where the head is of other numbers, the network's output has another size, or data are no integers
    0..L−1.

    References: Structured Denoising Diffusion Models in Discrete State-Spaces (Austin et al. 2021), arXiv:2107.03006;
    Autoregressive Diffusion Models (Hoogeboom et al. 2022), arXiv:2110.02037; Simple and Effective Masked Diffusion
    Language Models (Sahoo et al. 2024), arXiv:2406.07524; Simplified and Generalized Masked Diffusion for Discrete Data
    (Shi et al. 2024), arXiv:2406.04329; Ou et al. 2024, arXiv:2406.03736.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import integer_head
    >>> model = MaskedDiffusion(lambda x: jnp.zeros((4, 3)), integer_head(3), (4,))
    >>> model.log_prob_bound(jax.random.key(0), jnp.array([0, 2, 1, 1])).round(4)  # 4 log 1/3
    Array(-4.3944, dtype=float32)
    """

    pytree_aux_fields = ("unmasking",)

    def __init__(
        self,
        network: Callable[[Array], Array],
        head: Head,
        event_shape: Sequence[int],
        *,
        unmasking: Unmasking | None = None,
        validate_args: bool | None = None,
    ):
        self.unmasking = OneByOne() if unmasking is None else unmasking
        super().__init__(network, head, event_shape, validate_args=validate_args)

    def _check_fields(self) -> None:
        super()._check_fields()
        if not isinstance(self.unmasking, Unmasking):
            raise ValueError(f"unmasking: expected a score.Unmasking, such as OneByOne(), got {self.unmasking!r}")

    @verb
    def conditionals(self, x: Array, mask: Any) -> dist.Distribution:
        """Return the distribution of every position given those numbers of x that are known.

        Its batch shape is that of x; of a known position it says nothing of use.

        Args:
            x: events of integers, [..., *event_shape]; what is unknown may be any, such as −1.
            mask: booleans, [..., *event_shape], True where a number is known.

        Raises ValueError where `mask` is of another dtype or shape, or a known number is none of 0..levels−1.
        """
        mask = self.as_mask(mask)
        return self.head(self.raw(self.fill(x, mask), mask))

    @verb
    def given(self, x: Array, mask: Any) -> Completion:
        """Return the distribution of whole events of which those numbers of x are known where `mask` is True, any of
        them.

        The others become known by `unmasking`, after those.

        Args:
            x: events of integers, [..., *event_shape]; what is unknown may be any, such as −1.
            mask: booleans, [..., *event_shape].

        Raises ValueError where `mask` is of another dtype or shape, or a known number is none of 0..levels−1.
        """
        mask = self.as_mask(mask)
        return Completion(self, *jnp.broadcast_arrays(self.fill(x, mask), mask))

    def fill(self, x: Array, mask: Array) -> Array:
        """Return x with zeros for its unknown numbers, which may be any integers, such as −1, and count for nothing."""
        return self._as_events(jnp.where(mask, jnp.asarray(x), 0))

    def as_mask(self, mask: Any) -> Array:
        """Return a mask as an array; raise ValueError where it holds no booleans or is of another shape."""
        known = jnp.asarray(mask)
        shape = known.shape[max(0, known.ndim - self.event_dim) :]
        if known.dtype != bool or shape != self.event_shape:
            raise ValueError(f"mask: expected booleans of shape {self.event_shape}, got {known.dtype}{known.shape}")
        return known

    # -- codes

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, *event_shape], step by step of `unmasking`, at the same steps in all lanes."""
        x, codes = np.asarray(x).astype(np.int32), []
        flat = x.reshape(message.lanes, -1)
        for before, here in _steps(self):
            log_p = np.asarray(_log_p(self, x, before))
            codes.append((here, Table(log_p.reshape(*flat.shape, -1)[:, here], 0)))  # type: ignore[arg-type]
        for here, code in reversed(codes):
            code.push(message, flat[:, here])

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape]."""
        x = np.zeros((message.lanes, *self.event_shape), np.int32)
        flat = x.reshape(message.lanes, -1)
        for before, here in _steps(self):
            log_p = np.asarray(_log_p(self, x, before))
            flat[:, here] = Table(log_p.reshape(*flat.shape, -1)[:, here], 0).pop(message)  # type: ignore[arg-type]
        return x

    # -- one event

    def bound_event(self, key: Array, u: Array, x: Array) -> Array:
        """Return the bound of one event, at the step that u says."""
        return self._bound_from(key, u, x, jnp.zeros(x.shape, bool))

    def sample_event(self, key: Array) -> Array:
        """Draw one event."""
        return self._draw_from(key, jnp.zeros(self.event_shape, int), jnp.zeros(self.event_shape, bool))

    def _bound_from(self, key: Array, u: Array, x: Array, known: Array) -> Array:
        unknown = ~known.reshape(-1)
        step, weight = self.unmasking.step(u, unknown)
        masked = (unknown & (self.unmasking.times(key, unknown) >= step)).reshape(x.shape)
        log_probs = self.head(self._raw_where(x, ~masked)).log_prob(x)
        return weight * jnp.sum(jnp.where(masked, log_probs, 0.0))

    def _draw_from(self, key: Array, x: Array, known: Array) -> Array:
        times_key, key = jax.random.split(key)
        unknown = ~known.reshape(-1)
        times = self.unmasking.times(times_key, unknown).reshape(x.shape)

        def one(step: Array, x: Array) -> Array:
            before = known | (times < step)
            drawn = self.head(self._raw_where(x, before)).sample(key)  # each position counts once: one key will do
            return jnp.where(~before & (times == step), drawn, x)

        return lax.fori_loop(0, self.unmasking.length(unknown), one, x)

    def _raw_where(self, x: Array, known: Array) -> Array:
        return self._raw_of(jnp.where(known, x, self.levels))

    # -- one event, or many, at one context, or many

    @lifted("event", "event")
    def raw(self, x: Array, mask: Array) -> Array:
        """Return the raw numbers of every position, [..., *event_shape, head.num_params], where a mask says what of x
        is known."""
        return self._raw_where(x, mask)

    @lifted("key", "event", "event", "event")
    def bound_after(self, key: Array, known: Array, mask: Array, x: Array, *, num_particles: int) -> Array:
        """Return the bound of log p(x | the numbers of `known` where `mask` is True); −∞ where x has others there."""
        u_key, noise_key = jax.random.split(key)
        bound = jax.vmap(self._bound_from, (0, 0, None, None))
        keys = jax.random.split(noise_key, num_particles)
        bounds = bound(keys, even(u_key, (), num_particles), x, mask)
        return jnp.where(jnp.all(~mask | (known == x)), jnp.mean(bounds), -jnp.inf)

    @lifted("keys", "event", "event")
    def draw_after(self, key: Array, known: Array, mask: Array) -> Array:
        """Draw events which have the numbers of `known` where `mask` is True; there is a key for each."""
        return self._draw_from(key, known, mask)


def _steps(d: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which numbers are known before a step, booleans [*event_shape], and which become known, flat places."""
    unknown = jnp.ones(math.prod(d.event_shape), bool)
    times = np.asarray(d.unmasking.times(jax.random.key(0), unknown))
    for step in np.unique(times):
        yield (times < step).reshape(d.event_shape), np.flatnonzero(times == step)


@jax.jit
def _log_p(d: Any, x: Array, known: Array) -> Array:
    """Return what each number costs at each level where those are known, [lanes, *event_shape, levels]."""

    def one(d: Any, x: Array) -> Array:
        here = d.head(d._raw_where(x, known))
        levels = jnp.arange(d.levels).reshape(-1, *(1,) * x.ndim)
        return jnp.moveaxis(here.log_prob(jnp.broadcast_to(levels, (d.levels, *x.shape))), 0, -1)

    log_p: Array = over_lanes(d, one, x)
    return log_p
