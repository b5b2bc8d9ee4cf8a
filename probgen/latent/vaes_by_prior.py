"""Variational autoencoders whose prior is learned: VampPrior, flow."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from probgen.bijectors import AffineTransformer, Chain, Coupling, Permute
from probgen.core import as_shape, check_sizes, recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.priors import VampPrior
from probgen.latent.vae import standard_normal, vae
from probgen.networks import MLP


@recipe
def vamp_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    pseudo_inputs: int = 500,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    data: Array | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A `vae` whose prior is its posterior at learned inputs (`VampPrior`).

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        pseudo_inputs: K, how many inputs are learned.
        latent_dim: the size of z.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: as `vae`'s.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`.
        data: rows [N ≥ K, *event_shape], of which the pseudo-inputs begin as K; random without.
        key: draws the first weights.

    Raises ValueError where there are fewer rows than pseudo-inputs, or of another shape.

    References: VAE with a VampPrior (Tomczak, Welling 2018), arXiv:1705.07120.

    >>> import jax
    >>> model = vamp_vae((4, 4), 17, pseudo_inputs=5, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> model.sample(jax.random.key(1), (3,)).shape
    (3, 4, 4)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(pseudo_inputs=pseudo_inputs)
    check_sizes(2, levels=levels)
    key, prior_key = jax.random.split(key)
    if data is None:
        first = jax.random.uniform(prior_key, (pseudo_inputs, *event_shape)) * (levels - 1)
    else:
        data = jnp.asarray(data)
        if data.shape[1:] != event_shape or len(data) < pseudo_inputs:
            raise ValueError(f"data: expected at least {pseudo_inputs} rows of shape {event_shape}, got {data.shape}")
        first = jax.random.permutation(prior_key, data)[:pseudo_inputs]
    return vae(
        event_shape, levels, latent_dim=latent_dim, hidden=hidden, components=components,
        prior=VampPrior(first, interval=(0.0, levels - 1.0)), dropout=dropout, input_dropout=input_dropout,
        context_dim=context_dim, key=key,
    )  # fmt: skip


@recipe
def flow_prior_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    layers: int = 6,
    width: int = 128,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A `vae` whose prior is a flow of affine couplings; any other flow is an argument, `vae(…, prior=flow)`.

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        layers: how many couplings the prior has.
        width: of their conditioners' two hidden layers.
        latent_dim: the size of z, at least 2.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: as `vae`'s.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, of one prior for all contexts.
        key: draws the first weights.

    References: On the Necessity and Effectiveness of Learning the Prior of Variational Auto-Encoder (Xu et al. 2019),
    arXiv:1905.13452; Variational Lossy Autoencoder (Chen et al. 2017), arXiv:1611.02731.

    >>> import jax, jax.numpy as jnp
    >>> model = flow_prior_vae((4,), 3, layers=2, width=8, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros(4, int)).shape
    ()
    """
    check_sizes(layers=layers, width=width)
    check_sizes(2, latent_dim=latent_dim)
    key, *keys = jax.random.split(key, layers + 1)
    seen = latent_dim // 2
    turn = Permute(tuple((i + seen) % latent_dim for i in range(latent_dim)))
    conditioner = lambda key: MLP(seen, 2 * (latent_dim - seen), hidden=(width, width), key=key)
    parts = [part for k in keys for part in (turn, Coupling(conditioner(k), AffineTransformer(), split=seen))]
    return vae(
        event_shape, levels, latent_dim=latent_dim, hidden=hidden, components=components,
        prior=Transformed(standard_normal(latent_dim), Chain(parts)), dropout=dropout, input_dropout=input_dropout,
        context_dim=context_dim, key=key,
    )  # fmt: skip
