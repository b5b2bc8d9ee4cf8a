"""Score models: SDEs, denoisers, samplers, and the distribution that they make; recipes."""

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
from probgen.score.sde import VP, LinearBeta, LinearLogSNR, coefficients
from probgen.score.vp_score import vp_score

__all__ = [
    "DDIM",
    "DPMSolver",
    "VP",
    "Ancestral",
    "Denoiser",
    "EulerMaruyama",
    "GaussianDenoiser",
    "Heun",
    "LevelDenoiser",
    "LinearBeta",
    "LinearLogSNR",
    "NetworkDenoiser",
    "RealDenoiser",
    "Sampler",
    "ScoreModel",
    "coefficients",
    "to_data",
    "to_noise",
    "vp_score",
]
