"""Autoregressive flows: MAF, IAF, mixtures of densities, and Bayes nets."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from probgen.bijectors import (
    ActNorm,
    AffineTransformer,
    Chain,
    Composed,
    Inverse,
    MixtureCDFTransformer,
    SplineTransformer,
)
from probgen.core import Dependence, recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.flows.layers import (
    Nets,
    autoregressive_layer,
    flow_of_layers,
    masked_layer,
    standard_normal,
)


@recipe
def maf(
    dim: int,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (256, 256),
    passes: int | None = None,
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    permute: bool = False,
    linear: bool = False,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Masked autoregressive flow: affine conditionals, the order reversed between layers; density in one pass.

        z_i = exp(s_i(x_<i)) x_i + t_i(x_<i)   in each layer,   z ~ Normal(0, I)

    Draws take D steps in the work of about one pass (`bijectors.step_by_step`).

    Args:
        dim: D, the size of an event.
        layers: L, run as one scan, so that compilation does not grow with L.
        hidden: widths of the conditioners' hidden layers.
        passes: sequential steps of a layer, from 2 (a coupling) to D (the default).
        dropout: the rate in the conditioners, in training.
        activation: of the conditioners' hidden layers.
        permute: whether the order is shuffled between layers, and not reversed.
        linear: whether a learned LU matrix stands between layers, in place of an order.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    References: Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou, Murray 2017),
    arXiv:1705.07057.

    >>> import jax, jax.numpy as jnp
    >>> maf(3, layers=2, hidden=(16,), key=jax.random.key(0)).log_prob(jnp.zeros((5, 3))).shape
    (5,)
    """
    nets = Nets(hidden, dropout, activation, context_dim)
    layer = autoregressive_layer(dim, AffineTransformer(), nets, passes=passes, permute=permute, linear=linear)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)


@recipe
def iaf(
    dim: int,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (256, 256),
    passes: int | None = None,
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.silu,
    permute: bool = False,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Inverse autoregressive flow: the bijector of `maf` the other way round; draws and their density in one pass.

        x_i = exp(s_i(z_<i)) z_i + t_i(z_<i)   in each layer,   z ~ Normal(0, I)

    It is for guides, which only score what they drew; the density of other points takes D steps.

    Args:
        dim: D, the size of an event.
        layers: L, run as one scan, so that compilation does not grow with L.
        hidden: widths of the conditioners' hidden layers.
        passes: sequential steps of a layer, from 2 (a coupling) to D (the default).
        dropout: the rate in the conditioners, in training.
        activation: of the conditioners' hidden layers; smooth by default, as posteriors are.
        permute: whether the order is shuffled between layers, and not reversed.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    References: Improved Variational Inference with Inverse Autoregressive Flow (Kingma, Salimans, Jozefowicz, Chen,
    Sutskever, Welling 2016), arXiv:1606.04934.

    >>> import jax
    >>> x, log_prob = iaf(3, layers=2, hidden=(16,), key=jax.random.key(0)).sample_and_log_prob(jax.random.key(1), (5,))
    >>> x.shape, log_prob.shape
    ((5, 3), (5,))
    """
    nets = Nets(hidden, dropout, activation, context_dim)
    layer = autoregressive_layer(dim, AffineTransformer(), nets, passes=passes, inverse=False, permute=permute)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)


@recipe
def mixture_flow(
    dim: int,
    *,
    layers: int = 1,
    components: int = 8,
    hidden: Sequence[int] = (256, 256),
    passes: int | None = None,
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Autoregressive flow by the distribution functions of logistic mixtures: with one layer a product of mixtures.

        z_i = G⁻¹(Σ_k π_k(x_<i) G((x_i − μ_k(x_<i)) / σ_k(x_<i))),   then affine,   z ~ Normal(0, I)

    Draws solve each conditional's quantile (`bijectors.MixtureCDF`).

    Args:
        dim: D, the size of an event.
        layers: L, run as one scan, so that compilation does not grow with L.
        components: K, of every conditional.
        hidden: widths of the conditioners' hidden layers.
        passes: sequential steps of a layer, from 2 (a coupling) to D (the default).
        dropout: the rate in the conditioners, in training.
        activation: of the conditioners' hidden layers.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    References: Flow++ (Ho, Chen, Srinivas, Duan, Abbeel 2019), arXiv:1902.00275; MADE with mixtures of Gaussians:
    Papamakarios et al. 2017, arXiv:1705.07057.

    >>> import jax, jax.numpy as jnp
    >>> mixture_flow(2, components=3, hidden=(16,), key=jax.random.key(0)).log_prob(jnp.zeros((5, 2))).shape
    (5,)
    """
    transformer = Composed([AffineTransformer(), MixtureCDFTransformer(components)])
    layer = autoregressive_layer(dim, transformer, Nets(hidden, dropout, activation, context_dim), passes=passes)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)


@recipe
def bayes_net_flow(
    adjacency: Any,
    *,
    bins: int = 8,
    interval: tuple[float, float] = (-4.0, 4.0),
    hidden: Sequence[int] = (256, 256),
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """A Bayes net of spline conditionals: sampling from it, sorted topologically, is a flow.

        z_i = τ(x_i; h_i(x_pa(i))),   p(x) = Π_i p(x_i | x_pa(i)),   ∂z_i/∂x_j = 0 unless j = i or j ∈ pa(i)

    One layer, since the parents of two would be the ancestors; its transformers are a spline between affine maps. The
    longest path of the graph is the number of steps that a draw takes.

    Args:
        adjacency: [D, D], true at (i, j) where j is a parent of i (of a networkx graph `to_numpy_array(G).T`).
        bins: how many a spline has.
        interval: (low, high) of the splines, which are the identity outside.
        hidden: widths of the conditioner's hidden layers.
        dropout: the rate in the conditioner, in training.
        activation: of the conditioner's hidden layers.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where the graph has a cycle, which is named, or `hidden` fewer units than it has sets of parents.

    References: Graphical Normalizing Flows (Wehenkel, Louppe 2021), arXiv:2006.02548; Probabilistic Graphical Models
    (Koller, Friedman 2009).

    >>> import jax, jax.numpy as jnp
    >>> chain = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]  # x₀ → x₁ → x₂
    >>> flow = bayes_net_flow(chain, hidden=(16,), key=jax.random.key(0))
    >>> jax.jacobian(flow.bijector.inverse)(jnp.ones(3)) != 0
    Array([[ True, False, False],
           [ True,  True, False],
           [False,  True,  True]], dtype=bool)
    """
    dependence = Dependence.of_graph(adjacency)
    transformer = Composed([AffineTransformer(), SplineTransformer(bins, interval), AffineTransformer()])
    layer = masked_layer(dependence, transformer, Nets(hidden, dropout, activation, context_dim), out_scale=0.1)
    bijector = Chain([ActNorm(dependence.dim), Inverse(layer(key))])
    flow = Transformed(standard_normal(dependence.dim), bijector)
    return ConditionalModel(flow, (context_dim,)) if context_dim else flow
