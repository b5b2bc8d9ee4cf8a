"""Score models: SDEs, denoisers, decoders, samplers, and the distribution that they make; recipes."""

from probgen.score.score_model import ScoreModel
from probgen.score.vp_score import vp_score
from probgen.score.sde import SDE, LinearLogSNR, LinearBeta, GeometricSigma, coefficients
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
from probgen.score.sampler import Sampler, Ancestral, EulerMaruyama, DDIM, Heun, DPMSolver

__all__ = [
    "ScoreModel",
    "vp_score",
    "SDE",
    "LinearLogSNR",
    "LinearBeta",
    "GeometricSigma",
    "coefficients",
    "Denoiser",
    "RealDenoiser",
    "LevelDenoiser",
    "NetworkDenoiser",
    "GaussianDenoiser",
    "to_noise",
    "to_data",
    "Decoder",
    "NormalDecoder",
    "LevelDecoder",
    "Sampler",
    "Ancestral",
    "EulerMaruyama",
    "DDIM",
    "Heun",
    "DPMSolver",
]
