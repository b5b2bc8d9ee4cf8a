"""What a mixture is, and expectation–maximization as a way to train it."""

from typing import Self

import jax
from jax import Array

from probgen.core import check_not_negative
from probgen.distributions.delegate import Guise
from probgen.distributions.model import Model


class Mixture(Model):
    """K components with weights π = softmax(logits), learned by gradients or, in an `EM`, by its steps.

        p(x) = Σ_k π_k p(x | k)

    A subclass has a field `logits` [K] and writes, for one event, `log_components(x)`, all log p(x | k), [K], and
    `sample_component(key, k)`; and for EM `em_step(x, smoothing, shrinkage)`.

    Args:
        event_shape: the shape of one event.
    """

    logits: Array

    def log_components(self, x: Array) -> Array:
        """Return log p(x | k) of one event, [K]."""
        raise NotImplementedError(f"{type(self).__name__} has no components: write log_components(x)")

    def sample_component(self, key: Array, k: Array) -> Array:
        """Return one draw of component k."""
        raise NotImplementedError(f"{type(self).__name__} has no sampler: write sample_component(key, k)")

    def em_step(self, x: Array, smoothing: float = 0.1, shrinkage: float = 0.0) -> Self:
        """Return the mixture after one step of expectation–maximization on rows [N, *event_shape], with the pseudo-rows
        that `EM` explains."""
        raise NotImplementedError(f"{type(self).__name__} has no EM step: write em_step(x), or train by gradients")

    def log_joint(self, x: Array) -> Array:
        """Return log π_k + log p(x | k) of one event, [K]; its softmax is p(k | x)."""
        return jax.nn.log_softmax(self.logits) + self.log_components(x)

    def log_prob_event(self, x: Array) -> Array:
        """Return log p(x) of one event."""
        return jax.nn.logsumexp(self.log_joint(x))

    def sample_event(self, key: Array) -> Array:
        """Draw a component, then an event of it."""
        which, where = jax.random.split(key)
        return self.sample_component(where, jax.random.categorical(which, self.logits))


class EM(Guise):
    """A mixture as `fit` trains it by expectation–maximization: its parameters are state, and `update` is one step.

    With all rows in one batch every step raises the posterior density. The trained mixture is `em.model`.

    The two kinds of pseudo-rows together, and one more for each weight, are a conjugate prior (Dirichlet;
    normal–inverse-Wishart), and the steps climb to a mode.

    Args:
        model: a `Mixture`, of categoricals or of normals.
        smoothing: pseudo-counts that know nothing of the data: of categoricals for each level (Laplace's rule is 1); of
            normals so many rows about the component's own mean, with the data's variances and no correlations.
        shrinkage: pseudo-rows that every component gets of the data as a whole, so that a component with few rows of
            its own falls back on it.

    References: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin 1977).

    >>> import jax, probgen
    >>> x = jax.random.randint(jax.random.key(0), (50, 2), 0, 3)
    >>> em = EM(probgen.mixtures.categorical_mixture((2,), 3, components=2, key=jax.random.key(1)))
    >>> result = probgen.fit(em, x, steps=3, batch_size=50, key=jax.random.key(2), progress=False)
    >>> result.model.model.event_shape
    (2,)
    """

    pytree_aux_fields = ("shrinkage", "smoothing")
    state_fields = ("model",)

    def __init__(self, model: Mixture, *, smoothing: float = 0.1, shrinkage: float = 0.0):
        check_not_negative(smoothing=smoothing, shrinkage=shrinkage)
        self.model, self.smoothing, self.shrinkage = model, smoothing, shrinkage
        super().__init__((), model.event_shape)

    def _log_prob(self, value: Array) -> Array:
        return self.model.log_prob(value)

    def _mode(self) -> Array:
        return self.model.mode

    def _entropy(self) -> Array:
        return self.model.entropy()

    def _cdf(self, value: Array) -> Array:
        return self.model.cdf(value)

    def _itself(self) -> Mixture:  # type: ignore[override]
        return self.model

    def update(self, batch: Array, key: Array) -> "EM":
        """Return the mixture after one EM step on a batch of rows."""
        return self.replace(model=self.model.em_step(batch, self.smoothing, self.shrinkage))
