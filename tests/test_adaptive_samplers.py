"""Samplers whose steps adapt, against closed forms; and the bar of those that take long."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probgen.core import scan_with_bar
from probgen.score import (
    AdaptiveODE,
    AdaptiveSDE,
    Ancestral,
    Corrected,
    Denoiser,
    GeometricSigma,
    LinearLogSNR,
    ReverseDiffusion,
    Sampler,
    ScoreModel,
    StepSampler,
    coefficients,
)

KEY = jax.random.key(0)
SDE = LinearLogSNR(9.0, -9.0)
LOC, COVARIANCE = jnp.array([0.5, -1.0]), jnp.array([[0.5, 0.6], [0.6, 1.2]])


class Correlated(Denoiser):
    """The exact denoiser of x ~ Normal(m, S)."""

    def __call__(self, z, log_snr):
        alpha, sigma = coefficients(log_snr)
        loc, covariance = LOC.astype(z.dtype), COVARIANCE.astype(z.dtype)
        total = alpha**2 * covariance + sigma**2 * jnp.eye(2, dtype=z.dtype)
        return loc + alpha * covariance @ jnp.linalg.solve(total, z - alpha * loc)


def ends(sampler, keys, z, sde=SDE):
    return jax.jit(jax.vmap(lambda key, z: sampler(key, Correlated().under(sde), sde, z)))(keys, z)


def test_the_ode_ends_where_the_closed_form_does_within_the_tolerance():
    """Along each principal axis the ODE scales what lies about the mean by the ratio of the standard deviations."""
    with jax.enable_x64(True):
        values, axes = jnp.linalg.eigh(COVARIANCE.astype(float))
        z = jax.random.normal(KEY, (5, 2), float)
        (first, noise), (last, left) = SDE.marginal(1.0), SDE.marginal(0.0)
        ratio = jnp.sqrt((last**2 * values + left**2) / (first**2 * values + noise**2))
        exact = last * LOC + ((z - first * LOC) @ axes * ratio) @ axes.T
        keys = jax.random.split(KEY, 5)
        errors = [float(abs(ends(AdaptiveODE(e), keys, z) - exact).max()) for e in (1e-3, 1e-9)]
    assert 1e-6 < errors[0] < 0.03 and errors[1] < 1e-7, errors


def test_the_sde_reproduces_mean_and_covariance_along_an_sde_of_any_scale():
    n, sde = 1500, GeometricSigma(0.01, 100.0)
    z = sde.prior((2,)).sample(KEY, (n,))
    x = np.asarray(ends(AdaptiveSDE(0.03), jax.random.split(KEY, n), z, sde))
    scale = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_array_less(abs(x.mean(0) - LOC), (4.5 / np.sqrt(n) + 0.02) * scale)
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=(4.5 * np.sqrt(2 / n) + 0.03) * scale.max() ** 2)


def test_a_finer_tolerance_follows_the_same_noise_more_closely():
    z = jax.random.normal(KEY, (6, 2))
    keys = jax.random.split(KEY, 6)
    coarse, fine, finest = (ends(AdaptiveSDE(tolerance), keys, z) for tolerance in (0.1, 1e-2, 1e-3))
    assert abs(fine - finest).mean() < 0.4 * abs(coarse - finest).mean()


@pytest.mark.parametrize("sampler", [AdaptiveODE(1e-3, 64), AdaptiveSDE(0.05, 256)], ids=str)
def test_a_draw_is_its_own_whatever_is_drawn_with_it_and_its_calls_are_counted(sampler):
    keys, z = jax.random.split(KEY, 3), jnp.array([[0.1, 0.2], [3.0, -3.0], [0.0, 1.0]])
    many, seen = ends(sampler, keys, z), []

    def counted(z, t):
        jax.debug.callback(lambda: seen.append(None))
        return Correlated().under(SDE)(z, t)

    path = jax.jit(lambda z: sampler.path(keys[1], counted, SDE, z))(z[1])
    jax.effects_barrier()
    assert len(seen) == jax.jit(lambda z: sampler.calls(keys[1], Correlated().under(SDE), SDE, z))(z[1])
    assert path.shape == (sampler.max_steps + 1, 2)
    np.testing.assert_allclose(path[0], z[1])
    np.testing.assert_allclose(path[-1], many[1], rtol=1e-4, atol=1e-4)
    moving = (np.diff(path, axis=0) != 0).any(1)
    assert 3 < moving.sum() < sampler.max_steps and (np.diff(moving.astype(int)) <= 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AdaptiveODE(0.0), "tolerance"),
        (lambda: AdaptiveSDE(-1.0), "tolerance"),
        (lambda: AdaptiveODE(max_steps=0), "max_steps"),
        (lambda: Corrected(AdaptiveODE()), "predictor: expected a sampler that takes steps"),
        *(
            (lambda s=s: s(KEY, Correlated().under(SDE), SDE, jnp.ones(2)), "tolerance: expected at least .* float32")
            for s in (AdaptiveODE(1e-9), AdaptiveSDE(1e-9))
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# -- the bar


def bars(text):
    """The names of the bars that were shown, and the last counts."""
    return {line.split(":")[0].strip(): line.split("|")[-1].split("[")[0].strip() for line in text.split("\r") if line}


def test_a_bar_counts_the_steps_of_a_run_under_jit_and_vmap(capsys):
    model = ScoreModel(Correlated(), SDE, (2,), sampler=Ancestral(6, progress="drawing"))
    sample = jax.jit(lambda m, key: m.sample(key, (4, 3)))
    for draw in (sample, sample, lambda m, key: m.sample(key, (5,))):
        x = draw(model, KEY)
        jax.effects_barrier()
        found = bars(capsys.readouterr().err)
        assert {name: count for name, count in found.items() if name} == {"drawing": "6/6"}, found
    plain = model.replace(sampler=Ancestral(6))
    np.testing.assert_array_equal(x, plain.sample(KEY, (5,)))
    assert "callback" not in str(jax.make_jaxpr(lambda m: m.sample(KEY, (2,)))(plain))
    assert capsys.readouterr().err == ""


def test_a_corrected_sampler_has_the_bar_of_its_predictor(capsys):
    sampler = Corrected(ReverseDiffusion(3, progress="both"))
    assert sampler.progress == "both" and dataclasses.replace(ReverseDiffusion(3), progress=True).progress
    jax.block_until_ready(sampler.path(KEY, Correlated().under(SDE), SDE, jnp.ones(2)))
    jax.effects_barrier()
    assert "3/3" in capsys.readouterr().err


def test_the_scan_with_a_bar_is_the_scan():
    one = lambda carry, x: (carry + x, carry * x)
    xs, run = jnp.arange(5.0), functools.partial(jax.jit, static_argnums=0)
    for a, b in zip(
        jax.tree.leaves(run(lambda show: scan_with_bar(one, 0.0, xs, show=show))(True)),
        jax.tree.leaves(jax.lax.scan(one, 0.0, xs)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    gradient = jax.grad(lambda s: scan_with_bar(one, s, xs, show=True)[1].sum())(1.0)
    np.testing.assert_allclose(gradient, xs.sum())


def test_a_sampler_without_its_methods_says_so():
    for call in (Sampler().__call__, Sampler().path, StepSampler(2).__call__):
        with pytest.raises(NotImplementedError, match="has no"):
            call(KEY, Correlated().under(SDE), SDE, jnp.ones(2))
