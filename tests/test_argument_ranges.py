"""What a constructor takes: an argument out of its range is refused with its name, what was expected and what came.

Those of bijectors and flows are in `test_edges.py`, of autoregressive models in `test_autoregressive.py`.
"""

import jax.numpy as jnp
import pytest
from registry import KEY

from probgen import autoregressive, bijectors, distributions, flows, latent, mixtures, networks, score
from probgen.core import count_parameters

NAN, INF = float("nan"), float("inf")
SIZES, LEVELS = (0, -1, 2.5, True), (1, 0, -1, 2.5)
RATES, POSITIVE, NOT_NEGATIVE = (1.0, -0.1, NAN, 2), (0.0, -1.0, NAN, INF), (-0.1, NAN, INF)
SHAPES, FALLING = ((0,), (-1,), (2.5,), 2), ((1.0, 2.0), (1.0, 1.0), (NAN, 1.0), (INF, -1.0), (7.0,))
OF_INTEGERS = {
    "made": lambda **how: autoregressive.made((2, 2), 3, hidden=(4,), key=KEY, **how),
    "char_rnn": lambda **how: autoregressive.char_rnn(2, 3, width=4, key=KEY, **how),
    "transformer": lambda **how: autoregressive.transformer(2, 3, width=4, heads=1, layers=1, key=KEY, **how),
    "wavenet": lambda **how: autoregressive.wavenet(2, 3, channels=4, layers=1, key=KEY, **how),
    "pixel_cnn": lambda **how: autoregressive.pixel_cnn((2, 2), 3, channels=4, depth=1, key=KEY, **how),
    "gated_pixel_cnn": lambda **how: autoregressive.gated_pixel_cnn((2, 2), 3, channels=4, depth=1, key=KEY, **how),
    "pixel_cnn_pp": lambda **how: autoregressive.pixel_cnn_pp((2, 2), 3, channels=4, depth=2, key=KEY, **how),
}
_one = lambda z, c: z
_stacked = lambda: bijectors.stack([bijectors.Affine(jnp.zeros(2), jnp.zeros(2))] * 2)


def _vp(event_shape=(2,), **how):
    return score.vp_score(event_shape, **{"width": 4, "depth": 1, "key": KEY} | how)


def _vae(event_shape=(2,), levels=3, **how):
    return latent.vae(event_shape, levels, **{"latent_dim": 2, "hidden": (4,), "key": KEY} | how)


def _head(**how):
    return distributions.Conditional(_one, distributions.NormalHead(), **{"event_shape": (2,)} | how)


def _logistic(**how):
    return distributions.DiscretizedLogistic(jnp.array(0.0), jnp.array(1.0), **how)


def _logistics(**how):
    return distributions.DiscretizedLogisticMixture(*jnp.ones((3, 2)), **how)


def _mixture(event_shape=(2,), levels=3, components=2):
    return mixtures.categorical_mixture(event_shape, levels, components=components, key=KEY)


def _em(**how):
    return mixtures.EM(mixtures.histogram((2,), 3), **how)


def _rank(rank):
    return _vp(levels=40, rank=rank)


def _convolution(offsets):
    return networks.CausalConvolution(1, 1, offsets, key=KEY)


_LOGISTICS = distributions.DiscretizedLogisticMixtureHead
# constructor, argument, values that it may not have
TABLE = [
    (distributions.CategoricalHead, "levels", LEVELS),
    (distributions.DiscretizedLogisticHead, "levels", LEVELS),
    (distributions.BetaBinomialHead, "levels", LEVELS),
    (lambda levels: distributions.BetaBinomial(1.0, 1.0, levels), "levels", LEVELS),
    (lambda levels: _LOGISTICS(levels, 2), "levels", LEVELS),
    (lambda components: _LOGISTICS(4, components), "components", SIZES),
    (distributions.NormalMixtureHead, "components", SIZES),
    (distributions.NormalHead, "min_scale", NOT_NEGATIVE),
    (lambda min_scale: distributions.NormalMixtureHead(2, min_scale), "min_scale", NOT_NEGATIVE),
    (_head, "event_shape", SHAPES),
    (_head, "context_ndims", (-1, 1.5)),
    (_logistic, "levels", LEVELS),
    (_logistics, "levels", LEVELS),
    (lambda levels: distributions.Dequantized(flows.affine_flow(2, key=KEY), levels), "levels", LEVELS),
    *((_mixture, name, wrong) for name, wrong in
      [("event_shape", SHAPES), ("levels", LEVELS), ("components", SIZES)]),
    (lambda event_shape: mixtures.histogram(event_shape, 3), "event_shape", SHAPES),
    (lambda levels: mixtures.histogram((2,), levels), "levels", LEVELS),
    *((_em, name, NOT_NEGATIVE) for name in ("smoothing", "shrinkage")),
    (_vp, "event_shape", SHAPES),
    (_vp, "levels", LEVELS),
    *((_vp, name, SIZES) for name in ("width", "steps", "context_dim")),
    (_vp, "depth", (-1, 2.5)),
    (_rank, "rank", (*SIZES, 40, 41)),
    (_vp, "rank", (1, 32)),  # of reals, where it would do nothing
    (_vp, "scale", POSITIVE),
    (lambda scale: _vp(levels=3, scale=scale), "scale", (*POSITIVE, 2.0)),
    (_vp, "log_snr", FALLING),
    (score.LinearLogSNR, "largest", (-8.0, -9.0, NAN, INF)),
    (score.LinearLogSNR, "smallest", (8.0, 9.0, NAN, -INF)),
    *((lambda **how: score.LinearBeta(**how), name, POSITIVE) for name in ("beta_min", "beta_max")),
    (score.GeometricSigma, "sigma_min", POSITIVE),
    (score.GeometricSigma, "sigma_max", (*POSITIVE, 0.001)),
    (score.PowerSigma, "sigma_min", POSITIVE),
    (score.PowerSigma, "sigma_max", (*POSITIVE, 0.001)),
    (score.PowerSigma, "rho", POSITIVE),
    (score.PowerNoise, "rho", POSITIVE),
    (score.LevelDecoder, "levels", LEVELS),
    (_convolution, "offsets", ((), ((-1, 0), (0, 1)), ((0.5, 1),), ((1,),), 5, ((0, 1),) * 2)),
    (lambda gain: networks.MLP(1, 1, gain=gain, key=KEY), "gain", POSITIVE),
    (lambda out_scale: networks.MLP(1, 1, out_scale=out_scale, key=KEY), "out_scale", NOT_NEGATIVE),
    (lambda levels: networks.place(jnp.zeros(2), levels), "levels", LEVELS),
    (lambda u_min: score.LinearBeta(u_min=u_min), "u_min", (0.0, 1.0, NAN)),
    *((kind, "steps", SIZES) for kind in (score.Ancestral, score.EulerMaruyama, score.DDIM, score.Heun)),
    (lambda scale: score.RealDenoiser(_one, _one, scale=scale), "scale", POSITIVE),
    (lambda levels: score.LevelDenoiser(_one, _one, levels=levels), "levels", LEVELS),
    (_vae, "event_shape", SHAPES),
    (_vae, "levels", LEVELS),
    *((_vae, name, SIZES) for name in ("latent_dim", "context_dim")),
    (_vae, "hidden", ((0,), (-1,), (2.5,), 4)),
    (lambda unroll: bijectors.Stacked(_stacked().layers, unroll), "unroll", (0, -1, 1.5)),
    (networks.Dropout, "rate", RATES),
    *((make, "dropout", RATES) for make in (_vp, _vae, *OF_INTEGERS.values())),
    *((make, "context_dim", SIZES) for make in OF_INTEGERS.values()),
    (lambda in_dim: networks.MLP(in_dim, 2, key=KEY), "in_dim", (-1, 2.5)),
    (lambda out_dim: networks.MLP(2, out_dim, key=KEY), "out_dim", SIZES),
    (lambda context_dim: networks.MLP(2, 2, context_dim=context_dim, key=KEY), "context_dim", (-1, 2.5)),
    *((lambda **how: networks.MADE(**{"dim": 2, "num_params": 2, "key": KEY} | how), name, SIZES)
      for name in ("dim", "num_params")),
    *((lambda **how: networks.ResidualMLP(
        **{"in_dim": 2, "out_dim": 2, "context_dim": 1, "width": 4, "key": KEY} | how), name, SIZES)
      for name in ("in_dim", "out_dim", "context_dim", "width")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "name", "wrong"), TABLE, ids=[f"{getattr(make, '__name__', '')} {name}" for make, name, _ in TABLE]
)
def test_what_is_out_of_range_is_refused_by_name(make, name, wrong):
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^[^:]*\b{name}\b.*: expected .*got ") as caught:
            make(**{name: value})
        assert repr(value) in str(caught.value), value


def test_a_rank_acts_and_its_default_fits_the_levels():
    size = lambda **how: count_parameters(_vp(**how))
    assert size(levels=40, rank=2) < size(levels=40) == size(levels=40, rank=32)
    assert size(levels=32) > size(levels=3) == size(levels=3, rank=None, scale=None)
