"""The estimator: what one is, and what those of one's own derive from."""

import dataclasses
from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import check_instances, check_sizes
from probgen.distributions.wrapped import family

State = Any


class Signal(NamedTuple):
    """The quantities with which the score-function estimator of a site works; arrays are `[K, *values, *plates]`.

    Attributes:
        log_q: log q(z) of the site, unscaled and unmasked; gradients flow through it.
        cost: the part of the objective that z has an influence on, scaled and masked, summed to the site's plates,
            without gradient.
        scale: of the site.
        others: for each particle, the cost that the other particles alone expect of it (None for a single one).
        weight: the probabilities of values that were enumerated upstream, times 1/S for each site of S coupled draws,
            this one too; 1 without.
        state: the estimator's own, as `init_state` began it.
        extra: what `observe` or `predict` returned, through which gradients flow.
        value_axes: how many axes of values there are, along which the weights sum to one.
        axis: the one of the site's own coupled draws, None without.
    """

    log_q: Array
    cost: Array
    scale: Array | float
    others: Array | None
    weight: Array | float
    state: State
    extra: Any
    value_axes: int
    axis: int | None = None


@dataclasses.dataclass(frozen=True)
class Seams:
    """The questions that an estimator, or its baseline, may ask beside the costs."""

    @property
    def particles(self) -> int:
        """The fewest particles that it needs."""
        return 1

    @property
    def couples(self) -> bool:
        """Whether it reads the costs of other particles, which then must not depend on this one's value."""
        return False

    @property
    def learns(self) -> bool:
        """Whether `predict` has params of its own."""
        return False

    def init_state(self) -> State:
        """Return the state at the start; None without."""
        return None

    def predict(self, name: str, args: tuple, kwargs: dict) -> Any:
        """Return what it makes of the program's arguments, within the guide (a network registers its params here)."""
        return None

    def observe(self, fn: dist.Distribution, value: Array) -> Any:
        """Return what it wants to know of one draw, as arrays of the distribution's batch shape."""
        return None


@dataclasses.dataclass(frozen=True)
class Estimator(Seams):
    """A way in which the gradient of an expectation passes one random site.

    An estimator is a frozen dataclass; it belongs to a site, through `infer={"estimator": …}` or `use`. A subclass
    writes at least one of

    - `draw(key, fn, sample_shape)`: the value and its gradient path; None draws as the distribution itself does;
    - `support(fn, plates)`: values at which it wants the integrand, each weighted by its probability; None for the
      drawn one;
    - with `scored = True`, `surrogate(signal)`: a number whose gradient passes the site where the value does not; the
      value is then drawn without a path, unless `draw` is written too.

    It may say more:

    - `problem(fn)`: why it cannot serve a distribution, or None;
    - `copies = S`, where it draws S coupled values, each of the site's distribution, for one gradient: `draw` then
      gives `[S, *shape]`, the program runs at each, and `surrogate` finds them along `signal.axis`;
    - `unbiased = False`, where the mean of its gradients is not the gradient of the mean;
    - `closed_form = False`, where log q must not be replaced by a KL in closed form;
    - `holds_params = True`, where log q is to be taken with the guide's params held;
    - `particles`: the fewest it needs, and `couples = True` where one particle's term reads the costs of others;
      `init_state()`: where it keeps state of its own; `observe(fn, value)` and `predict(name, args, kwargs)`: what it
      wants to know of a draw, and of the program's arguments.

    `probgen.testing.check_estimator` says whether its gradients are right. Raises TypeError, naming what to write,
    where a subclass writes nothing, or a surrogate that nobody asks for.

    >>> import jax, numpyro.distributions as dist
    >>> from probgen.inference import expectation
    >>> from probgen.inference.estimators import family
    >>> class Inverse(Estimator):  # z = F⁻¹(u; θ), for whatever numpyro knows F⁻¹ of
    ...     def draw(self, key, fn, sample_shape):
    ...         return family(fn).icdf(jax.random.uniform(key, fn.shape(sample_shape)))
    >>> d = dist.Exponential
    >>> loss = lambda x: expectation(jax.random.key(0), d(x), lambda z: z, Inverse(), num_samples=10_000)
    >>> abs(float(jax.grad(loss)(2.0)) + 1 / 2.0**2) < 0.01  # E[z] = 1 / rate
    True
    """

    unbiased: ClassVar[bool] = True
    scored: ClassVar[bool] = False
    copies: ClassVar[int] = 1
    closed_form: ClassVar[bool] = True
    holds_params: ClassVar[bool] = False
    needs: ClassVar[str] = "any distribution"
    reference: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a class that does nothing."""
        check_sizes(copies=cls.copies)
        draws, sums, scores = (getattr(cls, f) is not getattr(Estimator, f) for f in ("draw", "support", "surrogate"))
        if cls.scored != scores:
            what = "and writes no surrogate(signal)" if cls.scored else "and writes a surrogate, which is not asked for"
            raise TypeError(f"{cls.__name__} says scored = {cls.scored} {what}")
        if not (draws or sums or scores):
            raise TypeError(
                f"{cls.__name__} does nothing: write draw (the value and its gradient path), support (values to be "
                "summed over), or surrogate with scored = True (a number whose gradient passes the site)"
            )
        return super().__new__(cls)

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why it cannot serve this distribution; None where it can."""
        return None

    def draw(self, key: Array, fn: dist.Distribution, sample_shape: tuple[int, ...]) -> Array | None:
        """Return a value with its gradient path; None leaves the draw to the distribution. It is without a path if
        `scored`; with `copies = S`, it is S values [S, *shape]."""
        return draw_cut(key, fn, sample_shape) if self.scored else None

    def support(self, fn: dist.Distribution, plates: tuple[int, ...]) -> np.ndarray | None:
        """Return values [S, *batch, *event] that replace the draw one after the other; `plates` are the site's plate
        axes."""
        return None

    def surrogate(self, signal: Signal) -> tuple[Array, State]:
        """Return a number whose gradient is the site's, to be maximized; and the new state."""
        raise NotImplementedError(f"{type(self).__name__} has no score term")

    def __str__(self) -> str:
        fields = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)}' for f in fields)})"


def check_kind(what: str, given: Any, kind: type, example: str) -> None:
    """Raise ValueError, naming what to write, unless `given` is an instance of `kind`."""
    check_instances(**{what: given})
    if not isinstance(given, kind):
        noun = f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__.lower()}"
        raise ValueError(f"{what}: expected {noun}, such as {example}, got {given!r}")


def detached(tree: Any) -> Any:
    """Return the same arrays without gradients.

    Args:
        tree: a distribution, or any other pytree.

    >>> import jax, numpyro.distributions as dist
    >>> jax.grad(lambda loc: detached(dist.Normal(loc, 1.0)).log_prob(2.0))(0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    return jax.tree.map(lambda x: lax.stop_gradient(x) if isinstance(x, jax.Array | np.ndarray) else x, tree)


def is_bernoulli(fn: dist.Distribution) -> bool:
    """Return whether a distribution is numpyro's Bernoulli, under its wrappers.

    Args:
        fn: any distribution.

    >>> import numpyro.distributions as dist
    >>> is_bernoulli(dist.Bernoulli(0.5).expand((3,)).to_event(1)), is_bernoulli(dist.Normal())
    (True, False)
    """
    return isinstance(family(fn), dist.BernoulliProbs | dist.BernoulliLogits)


def draw_cut(key: Array, fn: dist.Distribution, sample_shape: tuple[int, ...] = ()) -> Array:
    """Draw with no gradient; samplers with loops that cannot be differentiated are welcome.

    Args:
        key: the randomness.
        fn: any distribution.
        sample_shape: the shape in front of the distribution's.

    >>> import jax, numpyro.distributions as dist
    >>> jax.grad(lambda loc: draw_cut(jax.random.key(0), dist.Normal(loc, 1.0)))(0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    return lax.stop_gradient(detached(fn)(rng_key=key, sample_shape=sample_shape))
