"""A base distribution pushed through a bijector: what a flow is."""

import dataclasses
from typing import Any, TypeVar, cast

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.util import sum_rightmost

from probgen.bijectors import ActNorm, Affine, Bijector, Constant, as_bijector
from probgen.bijectors.support import UnknownSupport, is_real, require_within
from probgen.core import DensityKind, as_numbers, check_instances, weakest
from probgen.distributions import push_forward
from probgen.distributions.base import Distribution
from probgen.distributions.coding import Message
from probgen.distributions.conditionals import ConditionalModel, inner_model
from probgen.distributions.flow_codes import pop_flow, push_flow
from probgen.distributions.interop import from_distrax
from probgen.distributions.lifting import verb
from probgen.distributions.wrapped import family, kind_of


class Transformed(Distribution):
    """The distribution of f(z), z ~ base.

        log p(x) = log p_base(f⁻¹(x)) + log|det ∂f⁻¹/∂x|

    One pass each way: `log_prob` inverts once, `sample_and_log_prob` never does.

    Args:
        base: a distribution, ours, numpyro's or distrax's; trailing batch axes become event axes where the bijector's
            rank asks for it.
        bijector: f, ours, distrax's or a numpyro transform; batch axes of its parameters broadcast with the base's.

    Raises ValueError where ranks or shapes do not fit, or where the base is known to live outside the bijector's
    domain.

    References: Normalizing Flows for Probabilistic Modeling and Inference (Papamakarios, Nalisnick, Rezende, Mohamed,
    Lakshminarayanan 2021), arXiv:1912.02762.

    >>> import distrax, jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> flow = Transformed(dist.Normal(jnp.zeros(2)), distrax.Block(distrax.Tanh(), 1))
    >>> flow.event_shape, flow.support.base_constraint
    ((2,), Interval(lower_bound=-1.0, upper_bound=1.0))
    >>> x, log_prob = flow.sample_and_log_prob(jax.random.key(0), (5,))
    >>> bool(jnp.allclose(flow.log_prob(x), log_prob, atol=1e-4))
    True
    """

    pytree_data_fields = ("base", "bijector")
    base: dist.Distribution
    bijector: Bijector

    def __init__(self, base: Any, bijector: Any, *, validate_args: bool | None = None):
        check_instances(base=base, bijector=bijector)
        bijector = as_bijector(bijector)
        base = from_distrax(base) if isinstance(base, distrax.Distribution) else base
        missing = bijector.event_ndims_in - base.event_dim
        if missing > len(base.batch_shape):
            raise ValueError(
                f"bijector: takes events of {bijector.event_ndims_in} axes, but the base has batch shape "
                f"{base.batch_shape} and event shape {base.event_shape}"
            )
        self.base = base.to_event(missing) if missing > 0 else base
        self.bijector = bijector
        try:
            require_within(self.base.support, bijector.domain, f"bijector: {type(bijector).__name__}")
            bijector.image(self.base.support)  # the parts of a chain ask for themselves
        except (UnknownSupport, NotImplementedError):  # what is not known is taken
            pass
        event_shape, own = bijector.forward_shape(self.base.event_shape), bijector.batch_shape(self.base.event_shape)
        try:
            batch_shape = jnp.broadcast_shapes(self.base.batch_shape, own)
        except ValueError:
            raise ValueError(
                f"bijector: the batch shape of its parameters, {own}, and the base's, {self.base.batch_shape}, "
                "do not broadcast"
            ) from None
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The base's kind, or an estimate where the bijector's log-determinant is one."""
        return weakest(kind_of(self.base), self.bijector.kind)

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        """The base's and the bijector's tolerance together, in nats."""
        return getattr(self.base, "tolerance", 0.0) + self.bijector.tolerance

    @property
    def fused(self) -> bool:  # type: ignore[override]
        """Whether draws come with their density in one pass: where it is exact."""
        return self.exact

    @property
    def has_rsample(self) -> bool:
        """Whether samples carry gradients: where the base's do."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """The image of the base's support; of several models stacked, that of the first."""
        one = self._first()
        return one.bijector.image(one.base.support)

    def _sum(self, log_det: Array) -> Array:
        return sum_rightmost(log_det, self.base.event_dim - self.bijector.event_ndims_in)

    def _log_prob(self, value: Array) -> Array:
        z, log_det = self.bijector.inverse_and_log_det(value)
        base: Any = self.base
        log_prob = base.log_prob(z) if kind_of(base) == "exact" else base._log_prob(z)
        return log_prob + self._sum(log_det)

    def _log_weights(self, key: Array, value: Array) -> Array:
        z, log_det = self.bijector.inverse_and_log_det(value)
        return self.base.log_weights(key, z, 1)[0] + self._sum(log_det)

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        z, log_det = self.bijector.inverse_and_log_det(value)
        return self.base.log_prob_bound(key, z, num_particles) + self._sum(log_det)

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events of the message's grid, [lanes, *event_shape], by local bits-back."""
        push_flow(self, message, x)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events of the message's grid, [lanes, *event_shape]."""
        return pop_flow(self, message)

    def _mean(self) -> Array:
        return push_forward.mean(self)

    def _covariance(self) -> Array:
        return push_forward.covariance_of(self)

    def _variance(self) -> Array:
        return push_forward.variance(self)

    def _as_normal(self) -> dist.MultivariateNormal | None:
        return push_forward.as_normal(self)

    def _entropy(self) -> Array:
        return push_forward.entropy(self)

    def _cdf(self, value: Array) -> Array:
        return push_forward.cdf(self, value)

    def _icdf(self, q: Array) -> Array:
        return push_forward.icdf(self, q)

    def initialized(self, batch: Array, context: Array | None = None) -> "Transformed":
        """Return the flow with what can be set from a batch of data set, as `initialize` says."""
        bijector, z = self.bijector.initialize(jnp.asarray(batch, float), inverse=True, context=context)
        if not isinstance(z, jax.core.Tracer) and not np.all(np.isfinite(z)):
            raise ValueError(
                "batch: expected finite events within the support, got some that the inverse sends to no number"
            )
        base = self.base.initialized(z, context) if isinstance(self.base, Transformed) else self.base
        return self.replace(base=base, bijector=bijector)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.bijector.forward(self._base_of_batch().sample(key, sample_shape))

    def _base_of_batch(self) -> dist.Distribution:
        return self.base if self.base.batch_shape == self._batch_shape else self.base.expand(self._batch_shape)

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        base = self._base_of_batch()
        z, intermediates = base.sample_with_intermediates(key, sample_shape)
        x, log_det = self.bijector.forward_and_log_det(z)
        log_prob = base.log_prob(z, intermediates) if intermediates else base.log_prob(z)
        return x, log_prob - self._sum(log_det)


M = TypeVar("M", bound=Distribution | ConditionalModel)


def initialize(model: M, batch: Array, context: Array | None = None) -> M:
    """Return the model with what can be set from a batch of data set; call it once, before training.

    Of a flow those are its data-dependent layers (`ActNorm`): the batch goes through the bijector in the density
    direction, x → z, and each such layer sets itself so that what leaves it has mean 0 and standard deviation 1 by
    coordinate. A flow that is the base of another is set as well. Of an `Autoregressive` model of integers they are the
    last biases of its network: it starts near the histogram of every number (of every channel, or of all numbers,
    where its places share weights), in place of learning it first.

    Args:
        model: a `Transformed`, an `Autoregressive` with a Bernoulli or categorical head on one of our networks, or a
            `ConditionalModel` of one.
        batch: data, [N, *event], enough for means and standard deviations, or frequencies.
        context: [N, *context], of each row, for conditionals.

    Raises ValueError where the model or the shapes are others, or where the batch is not finite or lies outside the
    support.

    References: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal 2018), arXiv:1807.03039; biases
    of the last layer: Neural Networks for Pattern Recognition (Bishop 1995).

    >>> import jax, jax.numpy as jnp
    >>> from probgen.bijectors import ActNorm
    >>> flow = Transformed(dist.Normal(jnp.zeros(2), 1.0), ActNorm(2))
    >>> flow = initialize(flow, jnp.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> flow.bijector.shift, jnp.exp(flow.bijector.log_scale)
    (Array([ 2., 20.], dtype=float32), Array([ 1., 10.], dtype=float32))
    """
    batch = jnp.asarray(as_numbers("batch", batch))
    inner: Any = inner_model(model)
    if not hasattr(inner, "initialized"):
        what = "a Transformed, an Autoregressive or a ConditionalModel of one"
        raise ValueError(f"model: expected {what}, got a {type(inner).__name__}")
    if isinstance(model, ConditionalModel):
        want = (len(batch), *model.context_shape)
        if context is None or jnp.shape(context) != want:
            raise ValueError(f"context: expected shape {want}, got {None if context is None else jnp.shape(context)}")
    batch = jnp.asarray(batch)
    if batch.ndim != inner.event_dim + 1 or batch.shape[1:] != inner.event_shape or not len(batch):
        raise ValueError(f"batch: expected shape [N, {', '.join(map(str, inner.event_shape))}], got {batch.shape}")
    new = inner.initialized(batch, context)
    return cast(M, dataclasses.replace(model, model=new) if isinstance(model, ConditionalModel) else new)


def expects_standardized(model: Distribution) -> bool:
    """Return whether a model is a flow on ℝᴰ that begins near a standard normal: its `ActNorm`s have seen no data, or
    it has none, nor another layer that says where the data are.

    Args:
        model: any.
    """
    if not isinstance(model, Transformed) or not is_real(model.support):
        return False
    placing = lambda node: isinstance(node, Affine | Constant)
    placed = [node for node in jax.tree.leaves(model, is_leaf=placing) if placing(node)]
    if norms := [node for node in placed if isinstance(node, ActNorm)]:
        return not any(np.any(leaf) for leaf in jax.tree.leaves(norms))
    base = family(model.base)
    return not placed and isinstance(base, dist.Normal) and not np.any(base.loc)
