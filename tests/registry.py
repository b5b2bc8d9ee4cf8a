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
from own_bijectors import Falling, Roll, Sinh

from probgen import autoregressive, bijectors, distributions, flows, latent, mixtures, score, tables
from probgen.core import Dependence
from probgen.data import Column
from probgen.inference import estimators
from probgen.networks import MADE, MLP, Reshaped

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


GRAPH = ((0, 0, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0), (0, 1, 1, 0))  # x₀ → x₁, x₂ → x₃


def _masked(dependence: Any, transformer: Any, **how: Any) -> bijectors.MaskedAutoregressive:
    net = MADE(dependence.dim, transformer.num_params, hidden=(12,), order=dependence, out_scale=0.5, key=KEY)
    return bijectors.MaskedAutoregressive(net, transformer, dependence, **how)


def _raw(*shape: int) -> jax.Array:
    return jax.random.normal(KEY, shape)


_LOWER = jnp.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [3.0, -1.0, 4.0]])


def _act_norm() -> bijectors.Bijector:
    return bijectors.ActNorm(2).initialize(jnp.array([[1.0, 5.0], [3.0, 4.0]]), inverse=True)[0]


def _layers(make: Callable[[jax.Array], Any]) -> Any:
    return jax.vmap(make)(jax.random.split(KEY, 3))


def _time(t: Any) -> Any:
    return jnp.stack([t])


BIJECTORS = [
    BijectorRow("one's own scalar, falling", Falling, jnp.array(0.7)),
    BijectorRow("one's own elementwise", lambda: Sinh(_vector(1.0, 2.0)), _vector(0.7, -2.0)),
    BijectorRow("one's own rearranging", Roll, _vector(1.0, 2.0, 3.0)),
    BijectorRow("affine", lambda: bijectors.Affine(_vector(1.0, -1.0), _vector(0.3, -0.2)), _vector(0.5, 2.0)),
    BijectorRow("sigmoid", bijectors.Sigmoid, jnp.array(0.7)),
    BijectorRow("logit", bijectors.Logit, jnp.array(0.7)),
    BijectorRow("exp", bijectors.Exp, jnp.array(0.7)),
    BijectorRow("softplus", bijectors.Softplus, jnp.array(-0.7)),
    BijectorRow("tanh", bijectors.Tanh, jnp.array(0.7)),
    BijectorRow("gaussian CDF", bijectors.GaussianCDF, jnp.array(0.7)),
    BijectorRow("power", lambda: bijectors.Power(_vector(0.3, -0.5)), _vector(0.7, 2.0)),
    BijectorRow("leaky relu", lambda: bijectors.LeakyReLU(_vector(0.3, -0.5)), _vector(0.7, -2.0)),
    BijectorRow("spline", lambda: bijectors.Spline(_raw(2, 11)), _vector(0.7, -2.0)),
    BijectorRow("spline, scalar", lambda: bijectors.Spline(_raw(11)), jnp.array(-0.7)),
    BijectorRow(
        "spline, bounded",
        lambda: bijectors.Spline(_raw(2, 13), interval=(0.0, 1.0), tails=bijectors.Tails.BOUNDED),
        _vector(0.7, 0.02),
    ),
    BijectorRow(
        "spline, circular", lambda: bijectors.Spline(_raw(2, 12), tails=bijectors.Tails.CIRCULAR), _vector(0.7, -2.0)
    ),
    BijectorRow("mixture CDF", lambda: bijectors.MixtureCDF(*_raw(3, 2, 4)), _vector(0.7, -2.0)),
    BijectorRow(
        "mixture CDF, gaussian",
        lambda: bijectors.MixtureCDF(*_raw(3, 2, 4), kernel=bijectors.GAUSSIAN),
        _vector(0.7, -2.0),
    ),
    BijectorRow(
        "mixture CDF, uniform",
        lambda: bijectors.MixtureCDF(*_raw(3, 4), kernel=bijectors.GAUSSIAN, uniform=True),
        jnp.array(0.7),
    ),
    BijectorRow(
        "piecewise linear", lambda: bijectors.PiecewiseLinear(_vector(0.3, -0.2, 1.0), -1.0, 2.0), jnp.array(0.7)
    ),
    BijectorRow(
        "piecewise linear vector",
        lambda: bijectors.PiecewiseLinear(jnp.array([[0.3, -0.2], [1.0, 2.0]]), (0.0, -1.0), 2.0),
        _vector(0.7, 0.2),
    ),
    BijectorRow("permute", lambda: bijectors.Permute((2, 0, 1)), _vector(1.0, 2.0, 3.0)),
    BijectorRow("permute array", lambda: bijectors.Permute(jnp.array([2, 0, 1])), _vector(1.0, 2.0, 3.0)),
    BijectorRow("reverse", bijectors.Reverse, _vector(1.0, 2.0, 3.0)),
    BijectorRow("rotation", lambda: bijectors.Rotation(3, key=KEY), _vector(1.0, 2.0, 3.0)),
    BijectorRow("act norm", _act_norm, _vector(0.5, 2.0)),
    BijectorRow("triangular", lambda: bijectors.Triangular.of(_LOWER, _vector(1.0, 2.0, 3.0)), _vector(1.0, 2.0, 3.0)),
    BijectorRow("LU", lambda: bijectors.LU(3, key=KEY), _vector(1.0, 2.0, 3.0)),
    BijectorRow("LU of a matrix", lambda: bijectors.LU.of(-_LOWER[::-1]), _vector(1.0, 2.0, 3.0)),
    BijectorRow(
        "LU, stacked", lambda: bijectors.Stacked(_layers(lambda k: bijectors.LU(3, key=k))), _vector(1.0, 2.0, 3.0)
    ),
    BijectorRow("householder", lambda: bijectors.Householder(3, key=KEY), _vector(1.0, 2.0, 3.0)),
    BijectorRow("householder, one", lambda: bijectors.Householder(3, reflections=1, key=KEY), _vector(1.0, 2.0, 3.0)),
    BijectorRow("low rank", lambda: bijectors.LowRank(4, 2, key=KEY), _vector(0.3, -0.4, 1.0, 2.0)),
    BijectorRow(
        "low rank, stacked",
        lambda: bijectors.Stacked(_layers(lambda k: bijectors.LowRank(4, 1, key=k))),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "concatenate",
        lambda: bijectors.Concatenate([_coupling(split=2), distrax.Tanh(), bijectors.Triangular(1)], (4, 2, 1)),
        _vector(0.3, -0.4, 1.0, 2.0, 0.5, -1.0, 0.2),
    ),
    BijectorRow(
        "vmap",
        lambda: bijectors.Vmap(_layers(lambda k: bijectors.Chain([_coupling(split=2), bijectors.LU(4, key=k)]))),
        jnp.sin(jnp.arange(12.0)).reshape(3, 4),
    ),
    BijectorRow(
        "vmap of scalars",
        lambda: bijectors.Inverse(bijectors.Vmap(_layers(lambda k: bijectors.Affine(jax.random.normal(k), 0.3)))),
        _vector(0.3, -0.4, 1.0),
    ),
    BijectorRow("reshape", lambda: bijectors.Reshape((4,), (2, 2)), _vector(1.0, 2.0, 3.0, 4.0)),
    BijectorRow("coupling split", lambda: _coupling(split=2), _vector(0.3, -0.4, 1.0, 2.0)),
    BijectorRow("coupling mask", lambda: _coupling(mask=(True, False, True, False)), _vector(0.3, -0.4, 1.0, 2.0)),
    BijectorRow(
        "coupling of a checkerboard",
        lambda: bijectors.Coupling(
            Reshaped(_net(4, 8), (4,)), bijectors.AffineTransformer(), mask=[[[True], [False]], [[False], [True]]]
        ),
        _vector(0.3, -0.4, 1.0, 2.0).reshape(2, 2, 1),
    ),
    BijectorRow(
        "coupling shift",
        lambda: bijectors.Coupling(_net(2, 2), bijectors.ShiftTransformer(), split=2),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "coupling power",
        lambda: bijectors.Coupling(_net(2, 2), bijectors.PowerTransformer(), split=2),
        _vector(0.3, 0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "chain of ranks",
        lambda: bijectors.Chain([bijectors.Reshape((4,), (2, 2)), distrax.Tanh(), _coupling(split=2)]),
        _vector(0.3, -0.4, 0.5, 0.2),
    ),
    BijectorRow(
        "coupling spline",
        lambda: bijectors.Coupling(_net(2, 22), bijectors.SplineTransformer(4), split=2),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "coupling mixture",
        lambda: bijectors.Coupling(
            _net(2, 22),
            bijectors.Composed([bijectors.AffineTransformer(), bijectors.MixtureCDFTransformer(3)]),
            split=2,
        ),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "masked autoregressive",
        lambda: _masked(Dependence.in_order((2, 0, 3, 1)), bijectors.AffineTransformer()),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "masked autoregressive, leaky relu, pass by pass",
        lambda: _masked(Dependence.in_order(range(4)), bijectors.LeakyReLUTransformer(), invert=bijectors.pass_by_pass),
        _vector(0.3, -0.4, 1.0, -2.0),
    ),
    BijectorRow(
        "masked autoregressive, spline, two passes",
        lambda: _masked(Dependence.in_order(range(4), passes=2), bijectors.SplineTransformer(4)),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "masked autoregressive, mixture, graph, fixed point",
        lambda: _masked(Dependence.of_graph(GRAPH), bijectors.MixtureCDFTransformer(3), invert=bijectors.fixed_point),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "masked autoregressive, stacked, inverse",
        lambda: bijectors.Inverse(
            bijectors.stack([_masked(Dependence.in_order(range(4)), bijectors.AffineTransformer())] * 2)
        ),
        _vector(0.3, -0.4, 1.0, 2.0),
    ),
    BijectorRow(
        "ode",
        lambda: bijectors.ODE(
            bijectors.Velocity(
                MLP(2, 2, hidden=(4,), activation=jnp.tanh, context_dim=1, out_scale=2.0, key=KEY), _time
            ),
            bijectors.ODESolver(1e-6, max_steps=64, forward_mode=True),
        ),
        _vector(0.3, -0.4),
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


def _lines(low: float, high: float, num: int = 4001) -> tuple[Callable[[], Any], float]:
    """As `_line`, of vectors of one number."""
    events, volume = _line(low, high, num)
    return lambda: events()[:, None], volume


def _plane(low: float, high: float, num: int = 201) -> tuple[Callable[[], Any], float]:
    axis = jnp.linspace(low, high, num)
    return lambda: jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2), ((high - low) / (num - 1)) ** 2


_NO_PARAMS = {"learnable": "it is a value: what a head returns", "score": "it has no learnable numbers"}
_STATE = {"learnable": "its parameters are state, which only `update` changes", "score": "as above"}
_ONE_COMPONENT = {"learnable": "the weight of the only component is 1 whatever its logit"}
_MASKED = {"learnable": "the weights between nothing and one number are masked"}
_ESTIMATE = {"exact": "its density is an estimate", "score": "as above"}
_BOUND = {"score": "there is no exact density to differentiate"}
_ROUNDED = {"gradient": "rounded numbers have none; see tests/test_integer_flow.py", "score": "as above"}
_CODES = {"learnable": "the nearest code stays the same: the encoder learns by training_loss alone"}


def _top_down(**options: Any) -> Any:
    return latent.top_down_vae((2,), 3, latent_dim=1, width=6, hidden=(8,), key=KEY, **options)


def _vq_vae(**context: int) -> Any:
    return latent.vq_vae((2,), 3, codes=3, code_shape=(1,), dim=2, hidden=(8,), **context, key=KEY)


_COLUMNS = (
    Column("colour", "categorical", "str", ("blue", "red")),
    Column("age", "count", "int", step=1.0, low=0.0, loc=30.0, spread=10.0),
)
_PLACES = {"values": "codes of categories and places on a grid are floats that cannot be moved a little"}
_BLIND = {**_PLACES, "learnable": "a conditional that sees nothing leaves the weights of what is seen alone"}
_CELLS = (lambda: jnp.stack(jnp.meshgrid(jnp.arange(2.0), jnp.arange(200.0), indexing="ij"), -1).reshape(-1, 2),)

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
    DistributionRow("affine_flow", lambda: flows.affine_flow(2, key=KEY), *_plane(-8, 8)),
    DistributionRow("cdf_flow", lambda: flows.cdf_flow(bins=4, key=KEY), *_lines(-8, 8)),
    DistributionRow(
        "cdf_flow, uniform", lambda: flows.cdf_flow(bins=4, uniform=True, interval=(0.0, 1.0), key=KEY), *_lines(0, 1)
    ),
    DistributionRow("nice", lambda: flows.nice(2, layers=2, hidden=(8,), key=KEY), *_plane(-8, 8)),
    DistributionRow("maf", lambda: flows.maf(2, layers=2, hidden=(8,), key=KEY), *_plane(-8, 8)),
    DistributionRow("maf of one number", lambda: flows.maf(1, layers=2, hidden=(8,), key=KEY), *_lines(-8, 8), _MASKED),
    DistributionRow("iaf", lambda: flows.iaf(2, layers=2, hidden=(8,), permute=True, key=KEY), *_plane(-8, 8)),
    DistributionRow("nsf", lambda: flows.nsf(2, layers=2, bins=4, hidden=(8,), linear=True, key=KEY), *_plane(-8, 8)),
    DistributionRow(
        "nsf, autoregressive", lambda: flows.nsf(2, layers=2, bins=4, hidden=(8,), passes=None, key=KEY), *_plane(-8, 8)
    ),
    DistributionRow(
        "mixture_flow", lambda: flows.mixture_flow(2, components=3, hidden=(8,), key=KEY), *_plane(-10, 10)
    ),
    DistributionRow(
        "bayes_net_flow", lambda: flows.bayes_net_flow([[0, 0], [1, 0]], bins=4, hidden=(8,), key=KEY), *_plane(-8, 8)
    ),
    DistributionRow("real_nvp", lambda: flows.real_nvp(2, layers=4, hidden=(8,), key=KEY), *_plane(-8, 8)),
    DistributionRow(
        "real_nvp, permuted, dropout",
        lambda: flows.real_nvp(2, layers=3, hidden=(8,), permute=True, dropout=0.1, key=KEY),
        *_plane(-8, 8),
    ),
    DistributionRow(
        "on_levels",
        lambda: flows.on_levels(flows.real_nvp(2, layers=2, hidden=(8,), key=KEY), (2,), 3),
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
    DistributionRow(
        "beta-binomial", lambda: distributions.BetaBinomial(0.7, 2.0, 8), _integers((), 8), 1.0, _NO_PARAMS
    ),
    DistributionRow("continuous bernoulli", lambda: distributions.ContinuousBernoulli(1.5), *_line(0, 1), _NO_PARAMS),
    DistributionRow("histogram", lambda: mixtures.histogram((2,), 3), _integers((2,), 3), 1.0, _ONE_COMPONENT),
    DistributionRow(
        "mixture", lambda: mixtures.categorical_mixture((2, 1), 3, components=3, key=KEY), _integers((2, 1), 3)
    ),
    DistributionRow(
        "EM",
        lambda: mixtures.EM(mixtures.categorical_mixture((2,), 3, components=3, key=KEY)),
        _integers((2,), 3),
        1.0,
        _STATE,
    ),
    DistributionRow(
        "from_distrax", lambda: distributions.from_distrax(distrax.Gamma(2.0, 1.5)), *_line(1e-6, 40), _NO_PARAMS
    ),
    DistributionRow(
        "integer_flow",
        lambda: flows.integer_flow((3,), 3, layers=3, hidden=(8,), key=KEY),
        _integers((3,), 3),
        1.0,
        _ROUNDED,
    ),
    DistributionRow("made", lambda: autoregressive.made((3,), 3, hidden=(16,), key=KEY), _integers((3,), 3)),
    DistributionRow(
        "gated_pixel_cnn",
        lambda: autoregressive.gated_pixel_cnn((2, 2), 3, channels=8, depth=1, key=KEY),
        _integers((2, 2), 3),
    ),
    DistributionRow(
        "made, several orders",
        lambda: autoregressive.made((3,), 3, hidden=(8,), direct=True, orders=[(0, 1, 2), (2, 0, 1)], key=KEY),
        _integers((3,), 3),
    ),
    DistributionRow("char_rnn", lambda: autoregressive.char_rnn(3, 3, width=4, key=KEY), _integers((3,), 3)),
    DistributionRow("wavenet", lambda: autoregressive.wavenet(4, 3, channels=4, layers=2, key=KEY), _integers((4,), 3)),
    DistributionRow(
        "transformer",
        lambda: autoregressive.transformer(3, 3, width=8, heads=2, layers=1, key=KEY),
        _integers((3,), 3),
    ),
    DistributionRow(
        "pixel_cnn", lambda: autoregressive.pixel_cnn((2, 2), 3, channels=4, depth=1, key=KEY), _integers((2, 2), 3)
    ),
    DistributionRow(
        "pixel_cnn_pp",
        lambda: autoregressive.pixel_cnn_pp((2, 2, 2), 2, channels=4, depth=2, components=2, key=KEY),
        _integers((2, 2, 2), 2),
    ),
    DistributionRow(
        "made, completed",
        lambda: autoregressive.made((3,), 3, hidden=(8,), key=KEY).given(
            jnp.array([2, 0, 0]), np.array([True, False, False])
        ),
        _integers((3,), 3),
    ),
    DistributionRow(
        "made, ragged",
        lambda: autoregressive.Ragged(autoregressive.made((3,), 3, hidden=(8,), key=KEY), jnp.array(2)),
        _integers((3,), 3),
    ),
    DistributionRow(
        "vae", lambda: latent.vae((2,), 3, latent_dim=2, hidden=(8,), key=KEY), _integers((2,), 3), 1.0, _BOUND
    ),
    DistributionRow(
        "vamp_vae",
        lambda: latent.vamp_vae((2,), 3, pseudo_inputs=3, latent_dim=2, hidden=(8,), key=KEY),
        _integers((2,), 3),
        1.0,
        _BOUND,
    ),
    DistributionRow("top_down_vae", _top_down, _integers((2,), 3), 1.0, _BOUND),
    DistributionRow(
        "top-down prior",
        lambda: _top_down().latent_prior,
        *_plane(-9, 9),
        {"learnable": "its path also holds what only the posterior asks for"},
    ),
    DistributionRow("top-down posterior", lambda: _top_down().posterior(jnp.array([1, 2])), *_plane(-9, 9)),
    DistributionRow("vq_vae", _vq_vae, _integers((2,), 3), 1.0, _BOUND | _CODES),
    DistributionRow(
        "vq_vae, a prior fitted afterwards",
        lambda: _vq_vae().replace(prior=autoregressive.made((1,), 3, hidden=(8,), key=KEY)),
        _integers((2,), 3),
        1.0,
        _BOUND | _CODES,
    ),
    DistributionRow(
        "diagonal gaussian mixture",
        lambda: mixtures.GaussianMixture(jnp.zeros(2), _vector(-1.0, 1.0)[:, None], _vector(0.0, 0.3)[:, None]),
        lambda: jnp.linspace(-12, 12, 4001)[:, None],
        24 / 4000,
    ),
    DistributionRow(
        "gaussian mixture",
        lambda: mixtures.GaussianMixture(
            _vector(0.3, -0.2), jnp.array([[-1.0, 0.5], [2.0, -0.5]]), jnp.array([[[0.1, 9.0], [0.7, -0.2]]] * 2)
        ),
        *_plane(-9, 9),
    ),
    DistributionRow(
        "EM of a gaussian mixture",
        lambda: mixtures.EM(mixtures.gaussian_mixture(2, components=2, diagonal=True, key=KEY)),
        *_plane(-8, 8),
        _STATE,
    ),
    DistributionRow(
        "cnf", lambda: flows.cnf((2,), hidden=(4,), tolerance=1e-6, key=KEY), *_plane(-6, 6, 41), exceptions=_ESTIMATE
    ),
    DistributionRow("gaussian_mixture", lambda: mixtures.gaussian_mixture(2, components=3, key=KEY), *_plane(-8, 8)),
    DistributionRow(
        "real histogram",
        lambda: flows.histogram_flow(2, low=-1.0, high=(1.0, 3.0), bins=4),
        lambda: jnp.stack(jnp.meshgrid(*(jnp.arange(0.5, 40) * w / 40 - 1 for w in (2, 4))), -1).reshape(-1, 2),
        2 * 4 / 40**2,
    ),
    DistributionRow(
        "vp_score",
        lambda: score.vp_score((2,), levels=3, width=8, depth=1, steps=8, key=KEY),
        _integers((2,), 3),
        1.0,
        _BOUND,
    ),
    DistributionRow(
        "vdm", lambda: score.vdm((2,), levels=3, width=8, depth=1, steps=8, key=KEY), _integers((2,), 3), 1.0, _BOUND
    ),
    DistributionRow(
        "masked_diffusion",
        lambda: score.masked_diffusion((2,), levels=3, width=8, depth=1, key=KEY),
        _integers((2,), 3),
        1.0,
        _BOUND,
    ),
    DistributionRow(
        "masked_diffusion, completed",
        lambda: score.masked_diffusion((3,), levels=2, width=8, depth=1, steps=2, key=KEY).given(
            jnp.array([1, 0, 0]), np.array([True, False, False])
        ),
        _integers((3,), 2),
        1.0,
        _BOUND,
    ),
    DistributionRow(
        "uniform_diffusion",
        lambda: score.uniform_diffusion((2,), levels=3, width=8, depth=1, steps=4, key=KEY),
        _integers((2,), 3),
        1.0,
        _BOUND,
    ),
    DistributionRow(
        "any_order",
        lambda: tables.any_order(_COLUMNS, width=8, depth=1, components=2, key=KEY),
        *_CELLS,
        exceptions=_PLACES,
    ),
    DistributionRow(
        "any_order, completed",
        lambda: tables.any_order(_COLUMNS, width=8, depth=1, components=2, key=KEY).given(
            jnp.array([1.0, 0.0]), np.array([True, False])
        ),
        *_CELLS,
        exceptions=_PLACES,
    ),
    DistributionRow(
        "any_order, partly observed",
        lambda: tables.Observed(
            tables.any_order(_COLUMNS, width=8, depth=1, components=2, key=KEY), jnp.array([False, True])
        ),
        lambda: jnp.stack([jnp.zeros(200), jnp.arange(200.0)], -1),
        exceptions=_BLIND,
    ),
    DistributionRow(
        "mixed_flow",
        lambda: tables.mixed_flow(
            _COLUMNS, flow=flows.maf(1, layers=1, hidden=(8,), context_dim=2, key=KEY), width=8, key=KEY
        ),
        *_CELLS,
        1.0,
        {**_BOUND, **_BLIND},
    ),
]

CONDITIONALS = {
    "normal head": lambda: distributions.Conditional(_net(3, 4), distributions.NormalHead(), event_shape=(2,)),
    "normal mixture head": lambda: distributions.Conditional(
        _net(3, 12), distributions.NormalMixtureHead(2), event_shape=(2,)
    ),
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
    "bounded normal head": lambda: distributions.Conditional(
        _net(3, 4), distributions.BoundedNormalHead(), event_shape=(2,)
    ),
    "continuous bernoulli head": lambda: distributions.Conditional(
        _net(3, 2), distributions.ContinuousBernoulliHead(), event_shape=(2,)
    ),
    "beta-binomial head": lambda: distributions.Conditional(
        _net(3, 4), distributions.BetaBinomialHead(4), event_shape=(2,)
    ),
    "real_nvp": lambda: flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY),
    "affine_flow": lambda: flows.affine_flow(2, context_dim=3, hidden=(8,), key=KEY),
    "cdf_flow": lambda: flows.cdf_flow(bins=4, context_dim=3, hidden=(8,), key=KEY),
    "cnf": lambda: flows.cnf((2,), hidden=(4,), tolerance=5e-7, context_dim=3, key=KEY),
    "nice": lambda: flows.nice(2, layers=2, hidden=(8,), context_dim=3, key=KEY),
    "maf": lambda: flows.maf(2, layers=2, hidden=(8,), context_dim=3, key=KEY),
    "iaf of one number": lambda: flows.iaf(1, layers=2, hidden=(8,), context_dim=3, key=KEY),
    "nsf": lambda: flows.nsf(2, layers=2, bins=4, hidden=(8,), context_dim=3, key=KEY),
    "mixture_flow": lambda: flows.mixture_flow(2, components=3, hidden=(8,), context_dim=3, key=KEY),
    "bayes_net_flow": lambda: flows.bayes_net_flow([[0, 0], [1, 0]], bins=4, hidden=(8,), context_dim=3, key=KEY),
    "gaussian_mixture": lambda: mixtures.gaussian_mixture(2, components=2, hidden=(8,), context_dim=3, key=KEY),
    "real histogram": lambda: flows.histogram_flow(
        2, low=-1.0, high=(1.0, 3.0), bins=4, hidden=(8,), context_dim=3, key=KEY
    ),
    "integer_flow": lambda: flows.integer_flow((2,), 3, layers=2, hidden=(8,), context_dim=3, key=KEY),
    "made": lambda: autoregressive.made((2,), 3, hidden=(16,), direct=True, context_dim=3, key=KEY),
    "gated_pixel_cnn": lambda: autoregressive.gated_pixel_cnn((2, 2), 3, channels=8, depth=1, context_dim=3, key=KEY),
    "char_rnn": lambda: autoregressive.char_rnn(3, 3, width=4, context_dim=3, key=KEY),
    "transformer": lambda: autoregressive.transformer(3, 3, width=8, heads=2, layers=1, context_dim=3, key=KEY),
    "vae": lambda: latent.vae((2,), 3, latent_dim=2, hidden=(8,), context_dim=3, key=KEY),
    "top_down_vae": lambda: _top_down(context_dim=3),
    "vq_vae": lambda: _vq_vae(context_dim=3),
    "vp_score": lambda: score.vp_score((2,), levels=3, rank=2, width=8, depth=1, steps=8, context_dim=3, key=KEY),
    "ve_score": lambda: score.ve_score((2, 2, 1), channels=(4,), steps=4, context_dim=3, key=KEY),
    "flow_matching": lambda: score.flow_matching((2, 2), patch=1, width=8, depth=1, steps=2, context_dim=3, key=KEY),
    "masked_diffusion": lambda: score.masked_diffusion(
        (2,), levels=3, rank=2, width=8, depth=1, context_dim=3, key=KEY
    ),
    "uniform_diffusion": lambda: score.uniform_diffusion(
        (2,), levels=3, width=8, depth=1, steps=4, context_dim=3, key=KEY
    ),
    "vp_score of reals": lambda: score.vp_score((2,), width=8, depth=1, steps=8, context_dim=3, key=KEY),
}


def density(d: Any, x: Any, num_particles: int = 1) -> Any:
    """log p(x) as a model has it: exact, a bound by one key, or an estimate."""
    if getattr(d, "kind", "exact") == "estimate":
        return d.log_prob_estimate(KEY, x)
    return d.log_prob_bound(KEY, x, num_particles) if hasattr(d, "log_prob_bound") else d.log_prob(x)


@dataclasses.dataclass(frozen=True)
class FamilyRow:
    """A distribution with parameters θ, an integrand, and the exact E[f(z)] as a function of θ."""

    name: str
    make: Callable[[Any], Any]
    f: Callable[[Any], Any]
    theta: Any
    exact: Callable[[Any], Any]


def _expected_on_a_grid(make: Callable[[Any], Any], f: Callable[[Any], Any], grid: Any) -> Callable[[Any], Any]:
    width = grid[1] - grid[0]
    return lambda theta: jnp.sum(jnp.exp(make(theta).log_prob(grid)) * jax.vmap(f)(grid)) * width


def _sum_of_bits(theta: Any) -> Any:
    every = jnp.array(list(itertools.product((0.0, 1.0), repeat=3)))
    log_q = jnp.sum(every * theta - jax.nn.softplus(theta), -1)
    return jnp.sum(jnp.exp(log_q) * (every.sum(-1) - 1.3) ** 2)


_TABLE = _vector(0.3, -1.0, 2.0)
_bessel_ratio = lambda kappa: jax.scipy.special.i1e(kappa) / jax.scipy.special.i0e(kappa)


def _mixture(theta: Any) -> Any:
    weights, means, scales = theta[:2], theta[2:4], jnp.exp(theta[4:])
    return dist.MixtureSameFamily(dist.Categorical(logits=weights), dist.Normal(means, scales))


def _mixture_of_vectors(theta: Any) -> Any:
    means, scales = theta[2:6].reshape(2, 2), jnp.exp(theta[6:].reshape(2, 2))
    return dist.MixtureSameFamily(dist.Categorical(logits=theta[:2]), dist.Normal(means, scales).to_event(1))


def _vector_mean(theta: Any) -> Any:  # of z₀ z₁ + z₁²
    weights, means, scales = jax.nn.softmax(theta[:2]), theta[2:6].reshape(2, 2), jnp.exp(theta[6:].reshape(2, 2))
    return jnp.sum(weights * (means[:, 0] * means[:, 1] + means[:, 1] ** 2 + scales[:, 1] ** 2))


def _general_mixture(theta: Any) -> Any:
    parts = [dist.Normal(theta[2], jnp.exp(theta[3])), dist.Laplace(theta[4], jnp.exp(theta[5]))]
    return dist.MixtureGeneral(dist.Categorical(logits=theta[:2]), parts)


_truncated = lambda theta: dist.TruncatedNormal(theta[0], jnp.exp(theta[1]), low=0.0)

FAMILIES = [
    FamilyRow(
        "bernoulli",
        lambda t: dist.Bernoulli(logits=t[0]),
        lambda b: (b - 0.45) ** 2,
        _vector(0.4),
        lambda t: jax.nn.sigmoid(t[0]) * 0.55**2 + jax.nn.sigmoid(-t[0]) * 0.45**2,
    ),
    FamilyRow(
        "bits", lambda t: dist.Bernoulli(logits=t).to_event(1), lambda b: (b.sum() - 1.3) ** 2, _vector(0.4, -0.3, 0.0),
        _sum_of_bits,
    ),
    FamilyRow(
        "categorical", lambda t: dist.Categorical(logits=t), lambda z: _TABLE[z], _vector(0.2, -0.4, 0.1),
        lambda t: jnp.sum(jax.nn.softmax(t) * _TABLE),
    ),
    FamilyRow(
        "normal", lambda t: dist.Normal(t[0], jnp.exp(t[1])), lambda x: (x - 2.0) ** 2, _vector(1.0, -0.2),
        lambda t: (t[0] - 2.0) ** 2 + jnp.exp(2 * t[1]),
    ),
    FamilyRow(
        "gamma", lambda t: dist.Gamma(jnp.exp(t[0]), jnp.exp(t[1])), lambda x: x**2, _vector(0.7, 0.2),
        lambda t: jnp.exp(t[0]) * (jnp.exp(t[0]) + 1) * jnp.exp(-2 * t[1]),
    ),
    FamilyRow(
        "poisson", lambda t: dist.Poisson(jnp.exp(t[0])), lambda z: (z - 2.0) ** 2, _vector(0.3),
        lambda t: jnp.exp(t[0]) + (jnp.exp(t[0]) - 2.0) ** 2,
    ),
    FamilyRow(
        "von mises", lambda t: dist.VonMises(t[0], jnp.exp(t[1])), lambda z: jnp.cos(z) + 0.3 * jnp.sin(z),
        _vector(2.6, 0.5),
        lambda t: _bessel_ratio(jnp.exp(t[1])) * (jnp.cos(t[0]) + 0.3 * jnp.sin(t[0])),
    ),
    FamilyRow(
        "truncated normal", _truncated, lambda x: x**2, _vector(-0.3, 0.1),
        _expected_on_a_grid(_truncated, lambda x: x**2, jnp.linspace(2.5e-4, 10, 20_000)),
    ),
    FamilyRow(
        "mixture", _mixture, lambda z: z**2, _vector(0.3, -0.2, -1.0, 0.8, -0.5, 0.1),
        lambda t: jnp.sum(jax.nn.softmax(t[:2]) * (t[2:4] ** 2 + jnp.exp(2 * t[4:]))),
    ),
    FamilyRow(
        "mixture of vectors", _mixture_of_vectors, lambda z: z[0] * z[1] + z[1] ** 2,
        _vector(0.3, -0.2, -1.0, 0.8, 0.5, -0.4, 0.1, -0.3, 0.2, 0.0), _vector_mean,
    ),
    FamilyRow(
        "mixture of families", _general_mixture, lambda z: z**2, _vector(0.3, -0.2, -1.0, 0.1, 0.8, -0.4),
        lambda t: jnp.sum(
            jax.nn.softmax(t[:2]) * jnp.stack([t[2] ** 2 + jnp.exp(2 * t[3]), t[4] ** 2 + 2 * jnp.exp(2 * t[5])])
        ),
    ),
]  # fmt: skip

# every estimator that keeps nothing from step to step; the others are tested within programs
ESTIMATORS = {
    "pathwise": estimators.Pathwise(),
    "sticking the landing": estimators.StickingTheLanding(),
    "implicit": estimators.Implicit(),
    "score": estimators.ScoreFunction(),
    "constant baseline": estimators.ScoreFunction(estimators.Constant(0.7)),
    "leave-one-out": estimators.LeaveOneOut(),
    "optimal coefficient": estimators.ScoreFunction(estimators.OptimalCoefficient()),
    "enumerate": estimators.Enumerate(),
    "disarm": estimators.DisARM(),
    "straight-through": estimators.StraightThrough(),
    "default": None,
}
