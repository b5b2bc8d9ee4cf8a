"""Score models: SDEs, denoisers, decoders, samplers, and the distribution that they make; recipes."""

from probgen.score.decoder import Decoder, LevelDecoder, NormalDecoder
from probgen.score.denoiser import (
    Denoiser,
    GaussianDenoiser,
    LevelDenoiser,
    NetworkDenoiser,
    RealDenoiser,
    to_data,
    to_noise,
)
from probgen.score.sampler import DDIM, Ancestral, DPMSolver, EulerMaruyama, Heun, Sampler
from probgen.score.score_model import ScoreModel
from probgen.score.sde import SDE, GeometricSigma, LinearBeta, LinearLogSNR, coefficients
from probgen.score.vp_score import vp_score

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
