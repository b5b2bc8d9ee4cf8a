"""One table of everything that the laws are tested on. A new class or recipe gets a row here, and with it all laws.

An exception names the law that a row cannot keep, and why.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import transforms

from probgen import autoregressive, bijectors, distributions, flows, latent, score
from probgen.networks import MLP

KEY = jax.random.key(7)


@dataclasses.dataclass(frozen=True)
class BijectorRow:
    name: str
    make: Callable[[], Any]
    event: Any
    exceptions: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DistributionRow:
    """`events`: all of a discrete support, or a fine grid whose cells have `volume`, for the law that it sums to 1."""

    name: str
    make: Callable[[], Any]
    events: Callable[[], Any] | None = None
    volume: float = 1.0
    exceptions: dict[str, str] = dataclasses.field(default_factory=dict)


def _net(inputs: int, outputs: int) -> MLP:
    return MLP(inputs, outputs, hidden=(8,), out_scale=1.0, key=KEY)


def _coupling(**where: Any) -> bijectors.Coupling:
    return bijectors.Coupling(_net(2, 4), bijectors.AffineTransformer(), **where)


def _vector(*values: float) -> jax.Array:
    return jnp.array(values)


BIJECTORS = [
    BijectorRow("affine", lambda: bijectors.Affine(_vector(1.0, -1.0), _vector(0.3, -0.2)), _vector(0.5, 2.0)),
    BijectorRow("sigmoid", bijectors.Sigmoid, jnp.array(0.7)),
    BijectorRow("logit", bijectors.Logit, jnp.array(0.7)),
    BijectorRow("permute", lambda: bijectors.Permute((2, 0, 1)), _vector(1.0, 2.0, 3.0)),
    BijectorRow("permute array", lambda: bijectors.Permute(jnp.array([2, 0, 1])), _vector(1.0, 2.0, 3.0)),
    BijectorRow("reverse", bijectors.Reverse, _vector(1.0, 2.0, 3.0)),
    BijectorRow("rotation", lambda: bijectors.Rotation(3, key=KEY), _vector(1.0, 2.0, 3.0)),
    BijectorRow("reshape", lambda: bijectors.Reshape((4,), (2, 2)), _vector(1.0, 2.0, 3.0, 4.0)),
    BijectorRow("coupling split", lambda: _coupling(split=2), _vector(0.3, -0.4, 1.0, 2.0)),
    BijectorRow("coupling mask", lambda: _coupling(mask=(True, False, True, False)), _vector(0.3, -0.4, 1.0, 2.0)),
    BijectorRow(
        "coupling shift",
        lambda: bijectors.Coupling(_net(2, 2), bijectors.ShiftTransformer(), split=2),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "chain of ranks",
        lambda: bijectors.Chain([bijectors.Reshape((4,), (2, 2)), distrax.Tanh(), _coupling(split=2)]),
        _vector(0.3, -0.4, 0.5, 0.2),
    ),
    BijectorRow("inverse", lambda: bijectors.Inverse(_coupling(split=2)), _vector(0.3, -0.4, 1.0, 2.0)),
    BijectorRow(
        "stacked",
        lambda: bijectors.stack([bijectors.Chain([_coupling(split=2), bijectors.Reverse()]) for _ in range(3)]),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "stacked, unrolled, orders of their own",
        lambda: bijectors.stack(
            [
                bijectors.Chain([_coupling(split=2), bijectors.Permute(jnp.array(p))])
                for p in ([3, 1, 2, 0], [1, 0, 3, 2])
            ],
            unroll=True,
        ),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow("distrax scalar", lambda: bijectors.Constant(distrax.ScalarAffine(1.0, 2.0)), jnp.array(0.3)),
    BijectorRow(
        "distrax batched",
        lambda: bijectors.Constant(distrax.Block(distrax.ScalarAffine(_vector(1.0, 2.0), _vector(3.0, 4.0)), 1)),
        _vector(0.3, 1.0),
    ),
    BijectorRow(
        "distrax spline",
        lambda: bijectors.Constant(distrax.RationalQuadraticSpline(jnp.sin(jnp.arange(13.0)), -3.0, 3.0)),
        jnp.array(0.4),
    ),
    BijectorRow("numpyro transform", lambda: bijectors.Constant(transforms.ExpTransform()), jnp.array(0.3)),
    BijectorRow(
        "numpyro stick breaking",
        lambda: bijectors.Constant(transforms.StickBreakingTransform()),
        _vector(0.3, -0.2),
        {"log_det = autodiff": "its image is a simplex of one more coordinate: the Jacobian is not square"},
    ),
]


def _integers(shape: tuple[int, ...], levels: int) -> Callable[[], Any]:
    size = int(np.prod(shape))
    return lambda: jnp.array(list(itertools.product(range(levels), repeat=size))).reshape(-1, *shape)


def _line(low: float, high: float, num: int = 4001) -> tuple[Callable[[], Any], float]:
    return lambda: jnp.linspace(low, high, num), (high - low) / (num - 1)


def _plane(low: float, high: float, num: int = 201) -> tuple[Callable[[], Any], float]:
    axis = jnp.linspace(low, high, num)
    return lambda: jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2), ((high - low) / (num - 1)) ** 2


_NO_PARAMS = {"learnable": "it is a value: what a head returns", "score": "it has no learnable numbers"}
_STATE = {"learnable": "its parameters are state, which only `update` changes", "score": "as above"}
_ONE_COMPONENT = {"learnable": "the weight of the only component is 1 whatever its logit"}
_BOUND = {"score": "there is no exact density to differentiate"}

DISTRIBUTIONS = [
    DistributionRow(
        "affine normal",
        lambda: distributions.Transformed(
            dist.Normal(jnp.zeros(2), 1.0), bijectors.Affine(jnp.ones(2), _vector(0.3, -0.2))
        ),
        *_plane(-8, 10),
    ),
    DistributionRow(
        "logit-normal",
        lambda: distributions.Transformed(
            dist.Normal(0.0, 1.0), bijectors.Chain([bijectors.Sigmoid(), bijectors.Affine(0.2, 0.1)])
        ),
        *_line(1e-6, 1 - 1e-6),
    ),
    DistributionRow(
        "distrax parts",
        lambda: distributions.Transformed(
            distrax.Normal(jnp.zeros(2), jnp.ones(2)), distrax.Block(distrax.ScalarAffine(1.0, 2.0), 1)
        ),
        *_plane(-14, 16),
        _NO_PARAMS,
    ),
    DistributionRow(
        "flow on a flow",
        lambda: distributions.Transformed(
            flows.real_nvp(2, layers=2, hidden=(8,), key=KEY), bijectors.Affine(jnp.ones(2), jnp.zeros(2))
        ),
        *_plane(-8, 8),
    ),
    DistributionRow("real_nvp", lambda: flows.real_nvp(2, layers=4, hidden=(8,), key=KEY), *_plane(-8, 8)),
    DistributionRow(
        "real_nvp, permuted, dropout",
        lambda: flows.real_nvp(2, layers=3, hidden=(8,), permute=True, dropout=0.1, key=KEY),
        *_plane(-8, 8),
    ),
    DistributionRow(
        "discrete_real_nvp",
        lambda: flows.discrete_real_nvp((2,), 3, layers=2, hidden=(8,), key=KEY),
        _integers((2,), 3),
        1.0,
        _BOUND,
    ),
    DistributionRow(
        "discretized logistic",
        lambda: distributions.DiscretizedLogistic(3.2, 1.5, 8),
        _integers((), 8),
        1.0,
        _NO_PARAMS,
    ),
    DistributionRow(
        "discretized logistics",
        lambda: distributions.DiscretizedLogisticMixture(_vector(0.1, 0.4), _vector(1.0, 6.0), _vector(0.02, 2.0), 8),
        _integers((), 8),
        1.0,
        _NO_PARAMS,
    ),
    DistributionRow("histogram", lambda: distributions.histogram((2,), 3), _integers((2,), 3), 1.0, _ONE_COMPONENT),
    DistributionRow("mixture", lambda: distributions.mixture((2, 1), 3, components=3, key=KEY), _integers((2, 1), 3)),
    DistributionRow(
        "EM",
        lambda: distributions.EM(distributions.mixture((2,), 3, components=3, key=KEY)),
        _integers((2,), 3),
        1.0,
        _STATE,
    ),
    DistributionRow(
        "from_distrax", lambda: distributions.from_distrax(distrax.Gamma(2.0, 1.5)), *_line(1e-6, 40), _NO_PARAMS
    ),
    DistributionRow("made", lambda: autoregressive.made((3,), 3, hidden=(16,), key=KEY), _integers((3,), 3)),
    DistributionRow(
        "gated_pixel_cnn",
        lambda: autoregressive.gated_pixel_cnn((2, 2), 3, channels=8, blocks=1, key=KEY),
        _integers((2, 2), 3),
    ),
    DistributionRow(
        "vae", lambda: latent.vae((2,), 3, latent_dim=2, hidden=(8,), key=KEY), _integers((2,), 3), 1.0, _BOUND
    ),
    DistributionRow(
        "gaussian mixture prior",
        lambda: latent.GaussianMixture(jnp.zeros(2), _vector(-1.0, 1.0)[:, None], _vector(0.0, 0.3)[:, None]),
        lambda: jnp.linspace(-12, 12, 4001)[:, None],
        24 / 4000,
    ),
    DistributionRow(
        "vp_score",
        lambda: score.vp_score((2,), levels=3, width=8, depth=1, steps=8, key=KEY),
        _integers((2,), 3),
        1.0,
        _BOUND,
    ),
]

CONDITIONALS = {
    "normal head": lambda: distributions.Conditional(_net(3, 4), distributions.NormalHead(), event_shape=(2,)),
    "bernoulli head": lambda: distributions.Conditional(_net(3, 2), distributions.BernoulliHead(), event_shape=(2,)),
    "categorical head": lambda: distributions.Conditional(
        _net(3, 8), distributions.CategoricalHead(4), event_shape=(2,)
    ),
    "discretized logistic head": lambda: distributions.Conditional(
        _net(3, 4), distributions.DiscretizedLogisticHead(4), event_shape=(2,)
    ),
    "discretized logistic mixture head": lambda: distributions.Conditional(
        _net(3, 12), distributions.DiscretizedLogisticMixtureHead(4, 2), event_shape=(2,)
    ),
    "real_nvp": lambda: flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY),
    "made": lambda: autoregressive.made((2,), 3, hidden=(16,), context_dim=3, key=KEY),
    "gated_pixel_cnn": lambda: autoregressive.gated_pixel_cnn((2, 2), 3, channels=8, blocks=1, context_dim=3, key=KEY),
    "vae": lambda: latent.vae((2,), 3, latent_dim=2, hidden=(8,), context_dim=3, key=KEY),
    "vp_score": lambda: score.vp_score((2,), levels=3, width=8, depth=1, steps=8, context_dim=3, key=KEY),
}
