"""A distribution around another one: what it does not change, the other says."""

from jax import Array
from numpyro.distributions import constraints

from probgen.core import DensityKind
from probgen.distributions.base import Distribution


class Delegate(Distribution):
    """The base of distributions that hold one in a field `model` and have its support and its kind of density."""

    pytree_data_fields: tuple[str, ...] = ("model",)
    model: Distribution

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The model's kind of density."""
        return self.model.kind

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        """The model's tolerance, in nats."""
        return self.model.tolerance

    @property
    def random_bound(self) -> bool:  # type: ignore[override]
        """Whether the model's bound is the mean of draws."""
        return self.model.random_bound

    @property
    def loss_is_bound(self) -> bool:  # type: ignore[override]
        """Whether the model is trained on its density."""
        return self.model.loss_is_bound

    @property
    def fused(self) -> bool:  # type: ignore[override]
        """Whether the model draws and evaluates in one pass."""
        return self.model.fused

    @property
    def has_rsample(self) -> bool:
        """Whether the model's samples carry gradients."""
        return self.model.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """The model's support."""
        return self.model.support


class Guise(Delegate):
    """The base of distributions that are the same as their model, otherwise trained or otherwise observed."""

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.model.sample(key, sample_shape)

    def _mean(self) -> Array:
        return self.model.mean

    def _variance(self) -> Array:
        return self.model.variance
