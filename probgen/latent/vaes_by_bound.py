"""Variational autoencoders that are trained on another bound."""

from collections.abc import Sequence
from typing import Any

from jax import Array

from probgen.core import check_not_negative, check_sizes, recipe
from probgen.distributions import ConditionalModel
from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.vae import vae


@recipe
def beta_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    beta: float = 4.0,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A `vae` that `fit` trains on E[log p(x | z)] − β KL(q(z | x) ‖ p(z)); what is reported is the plain bound.

    It is what `fit(vae(…), objective=Beta(ELBO(), β))` does; a schedule of β is given there.

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        beta: β ≥ 0.
        latent_dim: the size of z.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: as `vae`'s.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`.
        key: draws the first weights.

    References: β-VAE (Higgins et al. 2017); Fixing a Broken ELBO (Alemi et al. 2018), arXiv:1711.00464.

    >>> import jax
    >>> beta_vae((4,), 3, beta=2.0, latent_dim=2, hidden=(8,), key=jax.random.key(0)).trained_on
    (2.0, 1)
    """
    check_not_negative(beta=beta)
    model = vae(
        event_shape, levels, latent_dim=latent_dim, hidden=hidden, components=components, dropout=dropout,
        input_dropout=input_dropout, context_dim=context_dim, key=key,
    )  # fmt: skip
    return _trained_on(model, float(beta), 1)


@recipe
def iwae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    num_particles: int = 5,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A `vae` that `fit` trains on the importance-weighted bound of K particles.

        L_K = E[log 1/K Σ_k p(x, z_k) / q(z_k | x)]

    It is the bound of `fit(vae(…), objective=ImportanceWeighted(K))`; but the gradient is that of log w_k of one
    particle, drawn with the chance of its weight, whose mean is the bound's. Only one has a backward pass: at K = 50 a
    step takes 0.27 of the time (`benchmarks/latent_speed.py`). With another posterior, whose draws carry no gradient,
    `fit` needs that objective.

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        num_particles: K, at least 2.
        latent_dim: the size of z.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: as `vae`'s.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`.
        key: draws the first weights.

    References: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov 2016), arXiv:1509.00519.

    >>> import jax
    >>> iwae((4,), 3, num_particles=5, latent_dim=2, hidden=(8,), key=jax.random.key(0)).trained_on
    (1.0, 5)
    """
    check_sizes(2, num_particles=num_particles)
    model = vae(
        event_shape, levels, latent_dim=latent_dim, hidden=hidden, components=components, dropout=dropout,
        input_dropout=input_dropout, context_dim=context_dim, key=key,
    )  # fmt: skip
    return _trained_on(model, 1.0, int(num_particles))


def _trained_on(model: Any, beta: float, num_particles: int) -> Any:
    if isinstance(model, ConditionalModel):
        return ConditionalModel(_trained_on(model.model, beta, num_particles), model.context_shape)
    return model.replace(trained_on=(beta, num_particles))
