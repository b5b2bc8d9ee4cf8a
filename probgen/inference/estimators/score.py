"""The score-function estimator, which needs no more of a distribution than its density."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.inference.estimators.base import Estimator, Signal, State, check_kind
from probgen.inference.estimators.baselines import Baseline, Constant, OtherParticles

_NONE, _OTHERS = Constant(), OtherParticles()


@dataclasses.dataclass(frozen=True)
class ScoreFunction(Estimator):
    """The log-derivative trick, with a baseline and only the costs that z has an influence on.

        ∇_θ E[f(z)] = E[(f(z) − b) ∇_θ log q(z; θ)]

    It takes one evaluation a gradient, and serves every distribution, discrete or not. Costs are Rao–Blackwellized: a
    term of the objective counts for a site if the site's value flows into it, and within plates element by element.

    Args:
        baseline: b, none by default.

    Raises ValueError for what is no baseline.

    References: Simple Statistical Gradient-Following Algorithms (Williams 1992); Black Box Variational Inference
    (Ranganath, Gerrish, Blei 2014), arXiv:1401.0118; Gradient Estimation Using Stochastic Computation Graphs
    (Schulman et al. 2015), arXiv:1506.05254.

    >>> import jax, numpyro.distributions as dist
    >>> from probgen.inference import expectation
    >>> d = lambda logit: dist.Bernoulli(logits=logit)
    >>> f = lambda x: expectation(jax.random.key(0), d(x), lambda z: 2.0 * z, ScoreFunction(), num_samples=10_000)
    >>> abs(float(jax.grad(f)(0.0)) - 2.0 * 0.25) < 0.05
    True
    """

    baseline: Baseline = _NONE

    scored: ClassVar[bool] = True
    needs: ClassVar[str] = "a density that can be evaluated"
    reference: ClassVar[str] = "Williams 1992; Ranganath, Gerrish, Blei 2014, arXiv:1401.0118"

    def __post_init__(self) -> None:
        """Refuse what is no baseline."""
        check_kind("baseline", self.baseline, Baseline, "MovingAverage()")

    @property
    def particles(self) -> int:
        """The fewest particles that the baseline needs."""
        return self.baseline.particles

    @property
    def couples(self) -> bool:
        """Whether the baseline reads the costs of other particles."""
        return self.baseline.couples

    @property
    def learns(self) -> bool:
        """Whether the baseline has params of its own."""
        return self.baseline.learns

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why not: a point mass has no density; where the support moves with a parameter, the score misses its
        edge."""
        if isinstance(_innermost(fn), dist.Delta):
            return "it is a point mass, which has no score"
        return "its support may move with a parameter, which the score does not see" if _moves(fn.support) else None

    def init_state(self) -> State:
        """Return the baseline's state."""
        return self.baseline.init_state()

    def predict(self, name: str, args: tuple, kwargs: dict) -> Any:
        """Return the baseline's prediction."""
        return self.baseline.predict(name, args, kwargs)

    def observe(self, fn: dist.Distribution, value: Array) -> Any:
        """Return what the baseline wants to know of a draw."""
        return self.baseline.observe(fn, value)

    def surrogate(self, signal: Signal) -> tuple[Array, State]:
        """Return Σ log q(z) · stop(cost − b), a mean over particles."""
        b, state, auxiliary = self.baseline(signal)
        advantage = lax.stop_gradient(signal.weight * (signal.cost - b))
        return jnp.sum(signal.log_q * advantage) / len(signal.log_q) - auxiliary, state


@dataclasses.dataclass(frozen=True)
class LeaveOneOut(ScoreFunction):
    """The score function with the mean cost of the other particles as its baseline: `ScoreFunction(OtherParticles())`.

        1/K Σ_k (f_k − 1/(K−1) Σ_{j≠k} f_j) ∇_θ log q(z_k; θ)

    It needs two particles or more, and an objective takes at least so many where a site asks for it.

    Args:
        baseline: the mean cost of the other particles.

    References: Kool, van Hoof, Welling (2019), "Buy 4 REINFORCE Samples, Get a Baseline for Free!".
    """

    baseline: Baseline = _OTHERS

    reference: ClassVar[str] = "Kool, van Hoof, Welling 2019"


def _moves(support: Any) -> bool:
    """Return whether an edge of a continuous support is computed, and not a constant."""
    if getattr(support, "is_discrete", True):
        return False
    edges = vars(support).values()
    return any(_moves(x) if isinstance(x, constraints.Constraint) else isinstance(x, jax.core.Tracer) for x in edges)


def _innermost(fn: dist.Distribution) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
