"""Top-down hierarchies: the posterior goes down the path that the prior goes down."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import DensityKind, bind, check_instances, map_batch, vectorize, weakest
from probgen.distributions import Distribution, Model, lifted
from probgen.distributions.coding import Message, over_lanes
from probgen.distributions.wrapped import family, is_masked, kind_of, log_density
from probgen.latent.layer_codes import pop_layers, push_layers
from probgen.latent.model import ElboTerms, Latent, without_gradient
from probgen.latent.path import Path, Walk


class TopDownPrior(Model):
    """p(z) of a path: a product of conditionals from the top layer down, exact.

    Args:
        path: the path.
    """

    pytree_data_fields = ("path",)

    def __init__(self, path: Path, *, validate_args: bool | None = None):
        self.path = path
        super().__init__((path.size,), validate_args=validate_args)

    fused = True

    @property
    def has_rsample(self) -> bool:
        """Whether each layer's draws carry gradients."""
        return bool(self.path.of_one.has_rsample)

    @property
    def support(self) -> constraints.Constraint:
        """The support of the head, of each number."""
        return constraints.independent(self.path.of_one.support, 1)

    def sample_event(self, key: Array) -> Array:
        """Draw z, layer by layer."""
        return self.path.walk(None, key=key).z

    def log_prob_event(self, x: Array) -> Array:
        """Return log p(z)."""
        return self.path.walk(None, z=x).log_p

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write z [lanes, size], the top layer last."""
        push_layers(self, None, message, x)

    def pop(self, message: Message) -> np.ndarray:
        """Read z [lanes, size], from the top layer down."""
        return pop_layers(self, None, message)


class TopDownPosterior(Distribution):
    """q(z | x) of a path, given features of x, from the top layer down: exact, and drawn and weighed in one pass.

    Args:
        path: the path.
        features: of each stage, [*batch, layers, …].
        batch_shape: of the features.
    """

    pytree_data_fields = ("features", "path")
    fused = True

    def __init__(self, path: Path, features: tuple[Array, ...], batch_shape: tuple[int, ...] = ()):
        self.path, self.features = path, features
        super().__init__(batch_shape, (path.size,))

    @property
    def has_rsample(self) -> bool:
        """Whether each layer's draws carry gradients."""
        return bool(self.path.of_one.has_rsample)

    @property
    def support(self) -> constraints.Constraint:
        """The support of the head, of each number."""
        return constraints.independent(self.path.of_one.support, 1)

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write z [lanes, size], the top layer last."""
        push_layers(self, _features(self, message.lanes), message, x)

    def pop(self, message: Message) -> np.ndarray:
        """Read z [lanes, size], from the top layer down."""
        return pop_layers(self, _features(self, message.lanes), message)

    def _walk(self, z: Array) -> Walk:
        one = lambda features, z: self.path.walk(features, z=z)
        return map_batch(one, self.features, self._batch_shape, (z,), (1,))

    def _drawn(self, key: Array, sample_shape: tuple[int, ...]) -> Walk:
        keys = jax.random.split(key, (*sample_shape, *self._batch_shape))
        one = lambda features, key: self.path.walk(features, key=key)
        return map_batch(one, self.features, self._batch_shape, (keys,), (0,))

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._drawn(key, sample_shape).z

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        walk = self._drawn(key, sample_shape)
        return walk.z, walk.log_q

    def _sample_and_kl(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array, Array | None]:
        walk = self._drawn(key, sample_shape)
        return walk.z, walk.log_q, None if walk.kl is None else self.path.of_layers(walk.kl)

    def _log_prob(self, value: Array) -> Array:
        return self._walk(value).log_q

    def _kl_of_layers(self, value: Array) -> Array | None:
        kl = self._walk(value).kl
        return None if kl is None else self.path.of_layers(kl)

    def sample_with_intermediates(
        self, key: Array | None, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        """Draw values, and return them with log q and, where it is known, the KL of each layer from the path's own
        prior."""
        z, log_q, kl = self._draw("_sample_and_kl", key, sample_shape)
        return z, [log_q] if kl is None else [log_q, kl]

    def kl_of_layers(self, p: dist.Distribution, value: Array, intermediates: list[Array]) -> Array | None:
        """Return KL(q(z_l | z above, x) ‖ p(z_l | z above)) of each layer at a draw, [*batch, layers], in nats; None
        where p is not this path's prior, or the layers' KL is not known.

        Args:
            p: the prior.
            value: z, [*batch, size].
            intermediates: what `sample_with_intermediates` returned with it.
        """
        prior = family(p)
        if not isinstance(prior, TopDownPrior) or is_masked(p) or not self.path.holds(prior.path):
            return None
        if intermediates:
            return intermediates[1] if len(intermediates) > 1 else None
        kl: Array | None = self._each(lambda d, z: d._kl_of_layers(z), value, ranks=("event",))
        return kl


def _features(q: TopDownPosterior, lanes: int) -> tuple[Array, ...]:
    """Return the features of each lane's x, of each stage [lanes, layers, …]."""
    if q._family() is None:
        return q.features
    features: tuple[Array, ...] = over_lanes(q, lambda d, _: d.features, jnp.arange(lanes))
    return features


class TopDown(Latent):
    """A hierarchy whose posterior goes down the same path as its prior: upper layers see what lower ones know of x.

        p(x, z) = p(x | h_L) Π_l p(z_l | h_{l−1}),   q(z | x) = Π_l q(z_l | h_{l−1}, e_l(x)),   h_l = down(h_{l−1}, z_l)

    z is one vector, layer after layer, from the top down: one site of the program, whose KL has a term for each layer.
    Layers run in scans, so that compilation does not grow with their number.

    Args:
        path: the layers of prior and posterior.
        encoder: x [*event_shape] → features, for each stage [layers, …] from the top.
        decoder: the path's last state → distribution of x, such as a `Conditional`.
        context_shape: the shape of one context where parts are `Contextual`; wrap the model in a `ConditionalModel`
            then.

    References: Ladder Variational Autoencoders (Sønderby et al. 2016), arXiv:1602.02282; Improved Variational Inference
    with Inverse Autoregressive Flow (Kingma et al. 2016), arXiv:1606.04934; NVAE (Vahdat, Kautz 2020),
    arXiv:2007.03898; Very Deep VAEs (Child 2021), arXiv:2011.10650.
    """

    pytree_data_fields = ("decoder", "encoder", "path")
    pytree_aux_fields = ("decoder_kind", "latent_shape")

    def __init__(
        self,
        path: Path,
        encoder: Callable[[Array], tuple[Array, ...]],
        decoder: Callable[[Array], dist.Distribution],
        *,
        context_shape: tuple[int, ...] | None = None,
        validate_args: bool | None = None,
    ):
        check_instances(path=path, encoder=encoder, decoder=decoder)
        self.path, self.encoder, self.decoder, self.context_shape = path, encoder, decoder, context_shape
        self.latent_shape = (path.size,)
        given_z = jax.eval_shape(self._likelihood_of_zeros)  # nothing is computed
        if given_z.batch_shape:
            raise ValueError(f"decoder: expected batch shape () for one z, got {given_z.batch_shape}; use .to_event()")
        self.decoder_kind: DensityKind = kind_of(given_z)
        super().__init__(given_z.event_shape, validate_args=validate_args)
        self._check_features()

    def _check_features(self) -> None:
        one = self if self.context_shape is None else bind(self, jnp.zeros(self.context_shape))
        found = jax.eval_shape(one.encoder, jnp.zeros(self.event_shape))
        depths = tuple(stage.depth for stage in self.path.stages)
        if not isinstance(found, tuple) or tuple(x.shape[0] for x in found) != depths:
            raise ValueError(f"encoder: expected features of {depths} layers, got {jax.tree.map(jnp.shape, found)}")

    @property
    def latent_prior(self) -> TopDownPrior:
        """The distribution p(z) of all layers."""
        return TopDownPrior(self.path)

    @property
    def prior_parts(self) -> Path:
        """The path, which may take a context."""
        return self.path

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The kind "weights", or a bound where the decoder has no more."""
        return weakest("weights", self.decoder_kind)

    def likelihood(self, z: Array) -> dist.Distribution:
        """Return p(x | z) of rows [..., size]."""
        return self.decoder(vectorize(self.path.below, 1)(z))

    def posterior(self, x: Array) -> TopDownPosterior:
        """Return q(z | x) of rows [..., *event_shape]."""
        lead = x.shape[: x.ndim - self.event_dim]
        return TopDownPosterior(self.path, vectorize(self.encoder, self.event_dim)(x), lead)

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """Return log p(z) + log p(x | z) − log q(z | x) at one draw z from q(z | x), by one way down."""
        walk = self._down(key, x)
        given_z = log_density(self.decoder(walk.h), jax.random.fold_in(key, 2), x)
        return walk.log_p + given_z - walk.log_q

    @lifted("key", "event", within=True)
    def kl_of_layers(self, key: Array, x: Array) -> Array:
        """Return KL(q(z_l | z above, x) ‖ p(z_l | z above)) of each layer, from the top, at one draw, [..., layers], in
        nats."""
        walk = self._down(key, x)
        if walk.kl is None:
            raise NotImplementedError(f"no closed form is known of the KL between two {type(self.path.head).__name__}s")
        return self.path.of_layers(walk.kl)

    def _down(self, key: Array, x: Array) -> Walk:
        walk = self.path.walk(self.encoder(x), key=key)
        return walk if self.path.of_one.has_rsample else walk._replace(log_q=without_gradient(walk.log_q))

    def _kl(self, key: Array, x: Array) -> Array:
        walk = self._down(key, x)
        return walk.log_q - walk.log_p if walk.kl is None else walk.kl.sum()

    def _elbo_terms(self, key: Array, x: Array) -> ElboTerms:
        walk = self._down(key, x)
        given_z = log_density(self.decoder(walk.h), jax.random.fold_in(key, 2), x)
        return ElboTerms(given_z, walk.log_q - walk.log_p if walk.kl is None else walk.kl.sum(), walk.kl)

    def _center(self, x: Array) -> Array:
        return self.path.walk(self.encoder(x)).z
