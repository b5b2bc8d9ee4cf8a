"""Score models: SDEs, denoisers, decoders, samplers, and the distribution that they make; recipes."""

from probgen.score.score_model import ScoreModel
from probgen.score.sde_recipes import vp_score, subvp_score, ve_score
from probgen.score.diffusion_recipes import ddpm, vdm, edm, flow_matching
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
from probgen.score.learned_schedule import LearnedLogSNR
from probgen.score.self_conditioned import SelfConditioned
from probgen.score.targets import Target, Data, Noise, Score, Velocity, FlowVelocity, Preconditioned
from probgen.score.losses import Loss, Bound, Denoising, Implicit, edm_loss, flow_matching_loss
from probgen.score.weights import (
    Weight,
    DataWeight,
    NoiseWeight,
    LikelihoodWeight,
    MinSNRWeight,
    EDMWeight,
    VelocityWeight,
)
from probgen.score.noise_levels import NoiseLevels, OfSchedule, OfNormal
from probgen.score.coupling import Coupling, Independent, OptimalTransport
from probgen.score.markov_chain import MarkovChain
from probgen.score.report import BoundReport, evaluate
from probgen.score.denoiser import (
    Denoiser,
    RealDenoiser,
    LevelDenoiser,
    NetworkDenoiser,
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
from probgen.score.sampler import Sampler, StepSampler
from probgen.score.stochastic_samplers import Ancestral, EulerMaruyama, ReverseDiffusion, Corrected
from probgen.score.ode_samplers import DDIM, Heun, DPMSolver, DEIS
from probgen.score.discrete_recipes import masked_diffusion, uniform_diffusion
from probgen.score.discrete_diffusion import DiscreteDiffusion
from probgen.score.masked_diffusion import MaskedDiffusion
from probgen.score.uniform_diffusion import UniformDiffusion, AtShare
from probgen.score.completion import Completion
from probgen.score.in_order import InOrder
from probgen.score.unmasking import Unmasking, OneByOne, InSteps, linear_share, cosine_share
from probgen.score.adaptive_samplers import AdaptiveODE, AdaptiveSDE

__all__ = [
    "ScoreModel",
    "ddpm",
    "vp_score",
    "subvp_score",
    "ve_score",
    "vdm",
    "edm",
    "flow_matching",
    # its density by an ODE
    "ProbabilityFlow",
    "ByFlow",
    # its bound, and what it is made of
    "MarkovChain",
    "evaluate",
    "BoundReport",
    # the path from data to noise
    "SDE",
    "LinearLogSNR",
    "Cosine",
    "Straight",
    "LinearBeta",
    "SubLinearBeta",
    "GeometricSigma",
    "PowerSigma",
    "LearnedLogSNR",
    "coefficients",
    # from data with noise to the data that are expected
    "Denoiser",
    "RealDenoiser",
    "LevelDenoiser",
    "NetworkDenoiser",
    "GaussianDenoiser",
    "GaussianMixtureDenoiser",
    "SelfConditioned",
    # what a network says
    "Target",
    "Data",
    "Noise",
    "Score",
    "Velocity",
    "FlowVelocity",
    "Preconditioned",
    # what is trained
    "Loss",
    "Bound",
    "Denoising",
    "Implicit",
    "edm_loss",
    "flow_matching_loss",
    "Weight",
    "DataWeight",
    "NoiseWeight",
    "LikelihoodWeight",
    "MinSNRWeight",
    "EDMWeight",
    "VelocityWeight",
    "NoiseLevels",
    "OfSchedule",
    "OfNormal",
    "Coupling",
    "Independent",
    "OptimalTransport",
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
    # of integers, by noise that masks or replaces them
    "masked_diffusion",
    "uniform_diffusion",
    "DiscreteDiffusion",
    "MaskedDiffusion",
    "UniformDiffusion",
    "AtShare",
    "Completion",
    "InOrder",
    "Unmasking",
    "OneByOne",
    "InSteps",
    "linear_share",
    "cosine_share",
]
