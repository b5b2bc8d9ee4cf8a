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
    to_noise,
    to_data,
)
from probgen.score.exact_denoisers import GaussianDenoiser, GaussianMixtureDenoiser
from probgen.score.guidance import ClassifierGuidance, ClassifierFreeGuidance, ProductOfExperts, guided
from probgen.score.inverse_problems import (
    Measurement,
    inpainting,
    PosteriorDenoiser,
    MomentMatching,
    PseudoinverseGuidance,
    PosteriorSampling,
)
from probgen.score.twisted import twisted, WeightedParticles
from probgen.score.decoder import Decoder, NormalDecoder, LevelDecoder
from probgen.score.grids import TimeGrid, UniformTime, UniformLogSNR, PowerNoise
from probgen.score.sampler import Sampler
from probgen.score.stochastic_samplers import Ancestral, EulerMaruyama, ReverseDiffusion, Corrected
from probgen.score.ode_samplers import DDIM, Heun, DPMSolver, DEIS

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
    "GaussianMixtureDenoiser",
    "to_noise",
    "to_data",
    # towards a context, a class, a measurement
    "guided",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "ProductOfExperts",
    "Measurement",
    "inpainting",
    "PosteriorDenoiser",
    "MomentMatching",
    "PseudoinverseGuidance",
    "PosteriorSampling",
    "twisted",
    "WeightedParticles",
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
    "Ancestral",
    "EulerMaruyama",
    "ReverseDiffusion",
    "Corrected",
    "DDIM",
    "Heun",
    "DPMSolver",
    "DEIS",
]
