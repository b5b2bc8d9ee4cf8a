"""All learned numbers of a model as functions of a context."""

from typing import Any, cast

from jax import Array
from numpyro.distributions import constraints

from probgen.core import combine, partition
from probgen.distributions.base import Distribution


def _refuse(*_: Any) -> None:
    raise ValueError("this model is conditional: call the ConditionalModel with a context first")


class FromContext(Distribution):
    """A model whose learned numbers θ are moved by a network of the context, inside a `ConditionalModel`.

        p(x | c) = p(x; θ + network(c))

    A mixture becomes a mixture density network, a histogram a conditional one. θ still learns, and is what the model
    starts at.

    Args: `model`: a probgen distribution of batch shape (), whose support no learned number moves; `network`: one
    context → as many numbers as `probgen.count_parameters(model)`, in the order of `probgen.partition`. Raises
    ValueError where the network's output has another size.

    References: Mixture Density Networks (Bishop 1994), NCRG/94/004; HyperNetworks (Ha, Dai, Le 2017),
    arXiv:1609.09106.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import ConditionalModel, GaussianMixture
    >>> from probgen.networks import MLP
    >>> model = GaussianMixture(jnp.zeros(2), jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    >>> conditional = ConditionalModel(FromContext(model, MLP(3, 6, hidden=(8,), key=jax.random.key(0))), (3,))
    >>> conditional(jnp.ones((5, 3))).log_prob(jnp.zeros(1)).shape
    (5,)
    """

    pytree_data_fields = ("model", "network")
    model: Distribution

    def __init__(self, model: Distribution, network: Any):
        if model.batch_shape:
            raise ValueError(f"model: expected batch shape (), got {model.batch_shape}")
        self.model, self.network = model, network
        super().__init__((), model.event_shape)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """As the model's."""
        return self.model.exact

    @property
    def fused(self) -> bool:  # type: ignore[override]
        """As the model's."""
        return self.model.fused

    @property
    def has_rsample(self) -> bool:
        """As the model's."""
        return self.model.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """As the model's."""
        return self.model.support

    def bind_context(self, context: Array) -> Distribution:
        """The model at this context."""
        params, rest = partition(self.model)
        moves, size = self.network(context).reshape(-1), sum(value.size for value in params.values())
        if moves.size != size:
            raise ValueError(f"network: expected {size} numbers, one for each that the model learns, got {moves.size}")
        for path, value in params.items():
            move, moves = moves[: value.size], moves[value.size :]
            params[path] = value + move.reshape(value.shape)
        model: Distribution = combine(params, rest)
        return model

    _sample = _log_prob = _log_weights = _sample_and_log_prob = cast(Any, _refuse)
