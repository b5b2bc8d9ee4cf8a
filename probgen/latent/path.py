"""The path of a top-down hierarchy: equal layers of latents between deterministic states, run by scans."""

from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import is_random, static_functions, with_key, with_keys
from probgen.distributions.heads import Head
from probgen.distributions.wrapped import elementwise
from probgen.networks.layers import scan_layers


class Layer(Protocol):
    """One layer of a top-down hierarchy; equal ones are stacked, with the layers on axis 0 of every array."""

    latent_shape: tuple[int, ...]

    def prior(self, h: Array) -> Array:
        """Return the raw numbers of p(z_l | h), [*latent_shape, num_params]."""
        ...

    def residual(self, h: Array, features: Array) -> Array:
        """Return what the posterior's raw numbers have more than the prior's, given features of x."""
        ...

    def down(self, h: Array, z: Array) -> Array:
        """Return the path's state below the layer."""
        ...


class Stage(eqx.Module):
    """Equal layers, one after another, of one resolution.

    Args:
        layers: a `Layer` whose arrays have the layers on axis 0 (made under `jax.vmap`).
        into: what the path's state goes through before the first of them, such as an up-sampling; None for nothing.
    """

    layers: Any
    into: Any = eqx.field(default=None, converter=lambda f: None if f is None else static_functions(f))

    @property
    def depth(self) -> int:
        """The number of layers."""
        return int(jax.tree.leaves(self.layers)[0].shape[0])

    @property
    def size(self) -> int:
        """The latent numbers of all its layers."""
        return self.depth * int(jnp.zeros(self.layers.latent_shape).size)

    @property
    def is_random(self) -> bool:
        """Whether there is dropout in it."""
        return is_random((self.layers, self.into))

    def bind_key(self, key: Array) -> "Stage":
        """Return the same stage, each layer with a key of its own."""
        layers_key, key = jax.random.split(key)
        return Stage(with_keys(self.layers, layers_key), with_key(self.into, key))


class Walk(NamedTuple):
    """What one way down the path has seen, in nats: z, log p(z), log q(z), the KL of each number, the last state."""

    z: Array
    log_p: Array
    log_q: Array
    kl: Array | None
    h: Array


class Path(eqx.Module):
    """h_0 = start, then for each layer: z_l ~ p(z_l | h_{l−1}) or q(z_l | h_{l−1}, x), h_l = down(h_{l−1}, z_l).

        p(z_l | h) = head(r),   r = prior_l(h);   q(z_l | h, x) = head(r + residual_l(h, e_l(x)))

    With raw numbers (μ, log σ) that is the residual posterior N(μ + Δμ, σ² Δσ²).

    Args:
        start: the state above the top layer, [*state]; or what makes it of a context, a `Contextual`.
        stages: from the top to the bottom.
        head: raw numbers → distribution of a latent number, of all layers.
    """

    start: Any
    stages: tuple[Stage, ...]
    head: Head

    @property
    def size(self) -> int:
        """The numbers of z, of all layers."""
        return sum(stage.size for stage in self.stages)

    @property
    def depth(self) -> int:
        """The number of layers."""
        return sum(stage.depth for stage in self.stages)

    def walk(self, features: tuple[Array, ...] | None, *, z: Array | None = None, key: Array | None = None) -> Walk:
        """Go down with z as it is given, [size], or drawn with the key, or with each layer at its mean given those
        above, where there is neither.

        Args:
            features: of x, for each stage, [layers, …]; None for the prior alone, whose log q is that of p.
            z: the latents.
            key: the randomness of a draw.
        """
        h, first, parts = self.top(), 0, []
        for i, stage in enumerate(self.stages):
            h = h if stage.into is None else stage.into(h)
            here = None if z is None else z[first : first + stage.size].reshape(stage.depth, *stage.layers.latent_shape)
            keys = None if key is None else jax.random.split(jax.random.fold_in(key, i), stage.depth)
            xs = (stage.layers, None if features is None else features[i], here, keys)
            h, part = scan_layers(lambda h, x: self._layer(h, *x), h, xs)
            parts.append(part)
            first += stage.size
        flat = lambda i: jnp.concatenate([part[i].ravel() for part in parts])
        return Walk(flat(0), flat(1).sum(), flat(2).sum(), None if parts[0][3] is None else flat(3), h)

    def below(self, z: Array) -> Array:
        """Return the state below the last layer, without anybody's densities."""
        h, first = self.top(), 0
        for stage in self.stages:
            h = h if stage.into is None else stage.into(h)
            here = z[first : first + stage.size].reshape(stage.depth, *stage.layers.latent_shape)
            h, _ = scan_layers(lambda h, x: (x[0].down(h, x[1]), None), h, (stage.layers, here))
            first += stage.size
        return h

    @property
    def of_one(self) -> dist.Distribution:
        """The distribution of one latent number at raw zeros, of which support and gradients are read."""
        return self.head(jnp.zeros(self.head.num_params))

    def holds(self, other: "Path") -> bool:
        """Return whether the other path has the very same arrays."""
        ours, theirs = jax.tree.leaves(self), jax.tree.leaves(other)
        same: bool = jax.tree.structure(self) == jax.tree.structure(other)  # type: ignore[operator]
        return same and all(x is y for x, y in zip(ours, theirs, strict=True))

    def of_layers(self, each: Array) -> Array:
        """Return the sum of each layer's numbers, [..., size] → [..., depth]."""
        first, sums = 0, []
        for stage in self.stages:
            part = each[..., first : first + stage.size]
            sums.append(part.reshape(*part.shape[:-1], stage.depth, -1).sum(-1))
            first += stage.size
        return jnp.concatenate(sums, -1)

    def top(self) -> Array:
        """Return the state above the top layer."""
        return self.start(jnp.zeros(0)) if callable(self.start) else self.start

    def _layer(
        self, h: Array, layer: Layer, features: Array | None, z: Array | None, key: Array | None
    ) -> tuple[Array, tuple[Array, Array, Array, Array | None]]:
        raw = layer.prior(h)
        p = self.head(raw)
        q = p if features is None else self.head(raw + layer.residual(h, features))
        if z is None:
            z = q.mean if key is None else q.sample(key)
        log_p = p.log_prob(z)
        log_q = log_p if features is None else q.log_prob(z)
        kl = None if features is None else _kl(q, p)
        return layer.down(h, z), (z, log_p, log_q, kl)


def _kl(q: dist.Distribution, p: dist.Distribution) -> Array | None:
    try:
        return dist.kl_divergence(elementwise(q), elementwise(p))
    except NotImplementedError:
        return None
