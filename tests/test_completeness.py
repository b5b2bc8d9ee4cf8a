"""Every public name of the parts that have laws is in a row of the registry, or says here why it is in none."""

import functools
import importlib

import jax.numpy as jnp
import pytest
from registry import BIJECTORS, CONDITIONALS, DISTRIBUTIONS, ESTIMATORS

PARTS = (
    "bijectors distributions mixtures flows autoregressive latent score tables networks inference.estimators".split()
)
_BASE = "a base class: its subclasses have rows"
_RETURNED = "a function: rows hold what it returns, which does not say who made it"
_FLOW = "tests/test_probability_flow.py: densities, gradients and paths against closed forms"
_GRID = "tests/test_score.py: equal steps of what it says, along every SDE"
_SCHEDULE = "tests/test_score.py: every law of the process, against the equations of its moments"
_LOSS = "tests/test_losses.py: closed forms of Gaussian data, finite differences, enumeration"
_TARGET = "tests/test_losses.py: data and noise by each at both ends of λ, and round trips in float32"
_SAMPLER = "tests/test_score.py: the samplers against the mean and deviation of Gaussian data"
_ADAPTIVE = "tests/test_adaptive_samplers.py: the samplers against closed forms"
_DRAW = "tests/test_autoregressive_networks.py: the same draws as step by step, which is in the rows"
_IMAGES = "tests/test_image_networks.py: values, gradients, files, and a model of them that trains"
_POSTERIOR = "a function of x: tests/test_posteriors.py, against the linear-Gaussian model"
_STATEFUL = "keeps numbers from step to step: tests/test_estimators.py has it in programs under SVI and fit"
REASONS = {
    "bijectors.Bijector": _BASE,
    "bijectors.Elementwise": _BASE,
    "bijectors.Rearranging": _BASE,
    "bijectors.Scalar": _BASE,
    "bijectors.as_bijector": _RETURNED,
    "bijectors.invert_increasing": "a root finder: tests/test_flows.py, and beneath the mixture CDFs' rows",
    "bijectors.stack": _RETURNED,
    "distributions.Bounded": "its log_prob is a random bound: tests/test_distributions.py and tests/test_latent.py",
    "distributions.Distribution": _BASE,
    "mixtures.Mixture": _BASE,
    "distributions.Model": _BASE,
    "distributions.as_transform": "returns a transform of numpyro: tests/test_distributions.py",
    "distributions.differentiable": "returns distributions of numpyro with other gradients: tests/test_estimators.py",
    "distributions.from_distrax": _RETURNED,
    "distributions.initialize": "sets numbers of a model from data: tests/test_initialization.py",
    "distributions.integer_head": _RETURNED,
    "mixtures.kmeans": "returns an array: tests/test_mixtures.py",
    "mixtures.kmeans_plus_plus": "returns an array: tests/test_mixtures.py",
    "distributions.lifted": "marks a method: what is made of it are the laws of conditionals, and docs/extending.md",
    "distributions.verb": "marks a method: the laws of conditionals",
    "distributions.observe": "makes a site of a program: tests/test_distributions.py and tests/test_latent.py",
    "distributions.on_support": "has laws of its own, support by support: tests/test_on_support.py",
    **{
        f"tables.{name}": "takes or returns a table: tests/test_tables.py"
        for name in ("rows_of", "log_prob", "sample", "impute")
    },
    "autoregressive.fixed_point": _DRAW,
    "autoregressive.generate": "returns draws of any length: tests/test_autoregressive.py",
    "autoregressive.pass_by_pass": _DRAW,
    "flows.ffjord": "a cnf with probes: tests/test_ode_bijector.py, where it is trained",
    "score.AdaptiveODE": _ADAPTIVE,
    "score.AdaptiveSDE": _ADAPTIVE,
    "score.StepSampler": _BASE,
    "score.ByFlow": _FLOW,
    "score.Cosine": _SCHEDULE,
    "score.DDIM": _SAMPLER,
    "score.DEIS": _SAMPLER,
    "score.DPMSolver": _SAMPLER,
    "latent.Latent": _BASE,
    **{
        f"latent.{name}": "made of a vae, by other parts: tests/test_vaes.py"
        for name in ("conv_vae", "pixel_vae", "beta_vae", "iwae", "iaf_vae")
    },
    **{
        f"latent.{name}": "made of a vae, by other parts: tests/test_hierarchies.py"
        for name in ("flow_prior_vae", "hierarchical_vae")
    },
    "latent.helmholtz_machine": "its bound has no gradient but by program and guide: tests/test_hierarchies.py",
    "latent.vd_vae": "compiles for long: tests/test_top_down.py; its density is that of top_down_vae's row",
    **{
        f"latent.{name}": "a part of a top-down model: tests/test_top_down.py"
        for name in ("Layer", "ImageLayer", "PyramidEncoder", "PyramidDecoder")
    },
    "latent.ElboTerms": "a tuple of arrays: tests/test_latent.py",
    **{
        f"latent.{name}": "returns an array: tests/test_monitors.py"
        for name in ("active_units", "kl_of_units", "mutual_information")
    },
    "latent.discrete_vae": "its bound has no gradient but by program and guide: tests/test_discrete_vae.py",
    "latent.Quantized": "a tuple of arrays: tests/test_vector_quantized.py",
    **{f"latent.{name}": _POSTERIOR for name in ("FullCovariance", "LowRank", "MixturePosterior", "AtFeatures")},
    "latent.SemiAmortized": "a LatentVariableModel that refines its posterior: tests/test_posteriors.py",
    "latent.Resampled": "its density is an estimate: tests/test_priors.py, against quadrature",
    "score.DiscreteDiffusion": _BASE,
    "score.Unmasking": _BASE,
    **{
        f"score.{name}": "tests/test_discrete_diffusion.py: against all orders, masks and paths"
        for name in ("InOrder", "cosine_share")
    },
    "score.SDE": _BASE,
    "score.Decoder": _BASE,
    "networks.place": "returns an array: its doctest, and through `Pixels` and `vp_score`",
    "score.Denoiser": _BASE,
    "score.EulerMaruyama": _SAMPLER,
    **{
        f"score.{name}": "an exact denoiser, by which others are judged: tests/test_exact_denoisers.py"
        for name in ("GaussianDenoiser", "GaussianMixtureDenoiser")
    },
    **{
        f"score.{name}": "a denoiser around denoisers: tests/test_guidance.py, against closed forms"
        for name in ("ClassifierFreeGuidance", "ClassifierGuidance", "ProductOfExperts", "guided")
    },
    "score.PosteriorDenoiser": _BASE,
    **{
        f"score.{name}": "of an inverse problem: tests/test_inverse_problems.py, against the posterior of normals"
        for name in ("Measurement", "inpainting", "MomentMatching", "PseudoinverseGuidance", "PosteriorSampling")
    },
    "score.twisted": "draws from a posterior: tests/test_twisted.py",
    "score.WeightedParticles": "a tuple of arrays: tests/test_twisted.py",
    "score.NetworkDenoiser": _BASE,
    "score.PowerNoise": _GRID,
    "score.PowerSigma": _SCHEDULE,
    "score.ProbabilityFlow": _FLOW,
    "score.Sampler": _BASE,
    "score.SubLinearBeta": _SCHEDULE,
    "score.TimeGrid": _BASE,
    "score.UniformLogSNR": _GRID,
    "score.coefficients": "returns two numbers: tests/test_score.py",
    "score.edm": "tests/test_score_recipes.py: made, bounded, drawn and trained as all of them; laws of `vdm`",
    "score.subvp_score": "as edm",
    "score.ddpm": "as edm: the bound of few steps is loose",
    "score.LinearBeta": _SCHEDULE,
    "score.BoundReport": _LOSS,
    "score.evaluate": _LOSS,
    "score.MarkovChain": "programs: tests/test_losses.py, the bound by numpyro's ELBO, ours and the closed form",
    "score.SelfConditioned": "tests/test_losses.py: what it sees, and half of the rows in training",
    "score.Target": _BASE,
    "score.Loss": _BASE,
    "score.Weight": _BASE,
    "score.NoiseLevels": _BASE,
    "score.Coupling": _BASE,
    **{f"score.{name}": _TARGET for name in "Data Noise Score Velocity Preconditioned".split()},
    **{f"score.{name}Weight": _LOSS for name in "Data MinSNR EDM".split()},
    **{f"score.{name}": _LOSS for name in "Implicit edm_loss flow_matching_loss".split()},
    **{f"score.{name}": _LOSS for name in "OfNormal OptimalTransport".split()},
    **{f"networks.{name}": _IMAGES for name in ("ImageEncoder", "ImageDecoder", "Upsample", "ResidualBlocks")},
    "networks.ResidualCNN": "tests/test_image_score_networks.py: values, gradients, what it sees",
    "networks.WithParams": "holds a network of another library: tests/test_any_network.py",
    "networks.with_output_bias": "sets biases of a network: beneath `initialize`, tests/test_initialization.py",
    "inference.estimators.Baseline": _BASE,
    "inference.estimators.Estimator": _BASE,
    "inference.estimators.Learned": _STATEFUL,
    "inference.estimators.MovingAverage": _STATEFUL,
    "inference.estimators.Signal": "what an estimator hands its baseline: a tuple of arrays, without laws",
    **{
        f"inference.estimators.{name}": "for estimators of one's own: tests/test_own_estimators.py, and its doctest"
        for name in ("family", "unmasked", "elementwise", "draw_cut", "detached")
    },
    "inference.estimators.use": "a handler of programs: tests/test_estimators.py",
}


def _within(x, seen):
    """Marks x and all that it holds, by id."""
    if id(x) in seen:
        return
    seen[id(x)] = x
    if isinstance(x, list | tuple | set):
        inside = list(x)
    elif isinstance(x, dict):
        inside = list(x.values())
    elif isinstance(x, functools.partial):
        inside = [x.func, *x.args]
    else:
        inside = (
            list(getattr(x, "__dict__", {}).values()) if type(x).__module__.startswith(("probgen", "distrax")) else []
        )
    for part in inside:
        _within(part, seen)


@functools.cache
def _covered():
    """Ids of classes with an instance in some row and of functions that one holds, and names of recipes."""
    seen = {}
    for row in (*BIJECTORS, *DISTRIBUTIONS):
        _within((row.make, row.make()), seen)
    for make in CONDITIONALS.values():
        conditional = make()
        _within((conditional, conditional(jnp.zeros(3))), seen)
    _within(ESTIMATORS, seen)
    recipes = {made_by.name for x in seen.values() if (made_by := getattr(x, "__dict__", {}).get("recipe"))}
    return seen.keys() | {id(type(x)) for x in seen.values()}, recipes


def _is_covered(part, name):
    ids, recipes = _covered()
    return f"{part}.{name}" in recipes or id(getattr(importlib.import_module(f"probgen.{part}"), name)) in ids


NAMES = [(part, name) for part in PARTS for name in importlib.import_module(f"probgen.{part}").__all__]


@pytest.mark.parametrize("part, name", NAMES)
def test_a_public_name_has_a_row_or_a_reason(part, name):
    reason = REASONS.get(f"{part}.{name}")
    if _is_covered(part, name):
        assert reason is None, f"{part}.{name} has a row: its reason is out of date"
    else:
        assert reason, f"{part}.{name}: expected a row in tests/registry.py, or a reason in this file"


def test_reasons_are_of_public_names():
    assert not REASONS.keys() - {f"{part}.{name}" for part, name in NAMES}
