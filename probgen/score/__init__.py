"""Score models: SDEs, denoisers, decoders, samplers, and the distribution that they make; recipes."""

from probgen.score.score_model import ScoreModel
from probgen.score.vp_score import vp_score
from probgen.score.probability_flow import ProbabilityFlow, ByFlow
from probgen.score.sde import SDE, coefficients
from probgen.score.schedules import (
    LinearLogSNR,
    Cosine,
    Straight,
    LinearBeta,
    SubLinearBeta,
    GeometricSigma,
    PowerSigma,
)
from probgen.score.denoiser import (
    Denoiser,
    RealDenoiser,
    LevelDenoiser,
    NetworkDenoiser,
    GaussianDenoiser,
    to_noise,
    to_data,
)
from probgen.score.decoder import Decoder, NormalDecoder, LevelDecoder
from probgen.score.grids import TimeGrid, UniformTime, UniformLogSNR, PowerNoise
from probgen.score.sampler import Sampler, StepSampler
from probgen.score.stochastic_samplers import Ancestral, EulerMaruyama, ReverseDiffusion, Corrected
from probgen.score.ode_samplers import DDIM, Heun, DPMSolver, DEIS
from probgen.score.adaptive_samplers import AdaptiveODE, AdaptiveSDE

__all__ = [
    "ScoreModel",
    "vp_score",
    # its density by an ODE
    "ProbabilityFlow",
    "ByFlow",
    # the path from data to noise
    "SDE",
    "LinearLogSNR",
    "Cosine",
    "Straight",
    "LinearBeta",
    "SubLinearBeta",
    "GeometricSigma",
    "PowerSigma",
    "coefficients",
    # from data with noise to the data that are expected
    "Denoiser",
    "RealDenoiser",
    "LevelDenoiser",
    "NetworkDenoiser",
    "GaussianDenoiser",
    "to_noise",
    "to_data",
    # what data are
    "Decoder",
    "NormalDecoder",
    "LevelDecoder",
    # the path back
    "TimeGrid",
    "UniformTime",
    "UniformLogSNR",
    "PowerNoise",
    "Sampler",
    "StepSampler",
    "Ancestral",
    "EulerMaruyama",
    "ReverseDiffusion",
    "Corrected",
    "DDIM",
    "Heun",
    "DPMSolver",
    "DEIS",
    "AdaptiveODE",
    "AdaptiveSDE",
]
