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
    # the path from data to noise
    "SDE",
    "LinearLogSNR",
    "LinearBeta",
    "GeometricSigma",
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
    "Sampler",
    "Ancestral",
    "EulerMaruyama",
    "DDIM",
    "Heun",
    "DPMSolver",
]
