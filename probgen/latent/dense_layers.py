"""Layers and encoder of a top-down hierarchy whose states are vectors."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes, is_random, with_keys
from probgen.networks import MLP, Linear
from probgen.networks.layers import normed

_GAIN = 2**0.5


class DenseLayer(eqx.Module):
    """A layer of `latent_dim` numbers in a path of vectors h [width], by three MLPs of one hidden layer.

        r = P(h/rms(h)),   Δr = Q(h/rms(h), e(x)),   h' = u + D(u/rms(u)),   u = h + V z

    Args:
        width: of h, and of the features e(x).
        latent_dim: the size of z.
        num_params: the raw numbers of each, as the path's head takes them.
        hidden: the width of the hidden layers.
        key: draws the first weights.
    """

    to_prior: MLP
    to_residual: MLP
    into: Linear
    to_state: MLP
    latent_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, width: int, latent_dim: int, num_params: int, *, hidden: int, key: Array):
        check_sizes(width=width, latent_dim=latent_dim, num_params=num_params, hidden=hidden)
        keys = jax.random.split(key, 4)
        out, mlp = latent_dim * num_params, functools.partial(MLP, hidden=(hidden,), gain=_GAIN)
        self.to_prior = mlp(width, out, key=keys[0])
        self.to_residual = mlp(width, out, context_dim=width, key=keys[1])
        self.into = Linear(latent_dim, width, key=keys[2])  # as large as h: beside h in a network z would be faint
        self.to_state = mlp(width, width, out_scale=0.5, key=keys[3])
        self.latent_shape = (latent_dim,)

    def prior(self, h: Array) -> Array:
        """Return the raw numbers of p(z | h), [latent_dim, num_params]."""
        return self.to_prior(normed(h)).reshape(*self.latent_shape, -1)

    def residual(self, h: Array, features: Array) -> Array:
        """Return what q's raw numbers have more, [latent_dim, num_params]."""
        return self.to_residual(normed(h), features).reshape(*self.latent_shape, -1)

    def down(self, h: Array, z: Array) -> Array:
        """Return the state below."""
        h = h + self.into(z)
        return h + self.to_state(normed(h))


class DenseEncoder(eqx.Module):
    """A residual network of vectors, which hands out its state after every block: features of each layer, from the top.

        e_1 = φ(W x),   e_{k+1} = e_k + B_k(e_k/rms(e_k));   the top layer sees the last

    Args:
        in_dim: the size of x.
        width: of the states.
        depth: how many blocks, one for each layer of latents.
        hidden: the width of the blocks' hidden layer.
        context_dim: the size of a context, if it takes one.
        key: draws the first weights.
    """

    into: Linear
    blocks: MLP

    def __init__(self, in_dim: int, *, width: int, depth: int, hidden: int, context_dim: int | None = None, key: Array):
        check_sizes(in_dim=in_dim, width=width, depth=depth, hidden=hidden)
        in_key, key = jax.random.split(key)
        self.into = Linear(in_dim + (context_dim or 0), width, scale=_GAIN, key=in_key)
        block = lambda key: MLP(width, width, hidden=(hidden,), gain=_GAIN, out_scale=0.5, key=key)
        self.blocks = jax.vmap(block)(jax.random.split(key, depth))

    @property
    def is_random(self) -> bool:
        """Whether there is dropout in the blocks."""
        return is_random(self.blocks)

    def bind_key(self, key: Array) -> "DenseEncoder":
        """Return the same network, each block with a key of its own."""
        return eqx.tree_at(lambda net: net.blocks, self, with_keys(self.blocks, key))

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array]:
        """Return the features of one stage, [layers, width], each of mean square one."""
        x = x if context is None else jnp.concatenate([x, context])

        def one(e: Array, block: MLP) -> tuple[Array, Array]:
            e = e + block(normed(e))
            return e, normed(e)

        _, features = lax.scan(one, jax.nn.silu(self.into(x)), self.blocks)
        return (features[::-1],)
