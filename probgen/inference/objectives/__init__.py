"""Objectives: what SVI minimizes, subclasses of numpyro's ELBO."""

from probgen.inference.objectives.elbo import ELBO
from probgen.inference.objectives.importance import ImportanceWeighted
from probgen.inference.objectives.weighted import Beta, FreeBits, count_steps, cyclic
from probgen.inference.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep

__all__ = [
    "ELBO",
    "ImportanceWeighted",
    "ReweightedWakeSleep",
    "WakeSleep",
    "Beta",
    "cyclic",
    "FreeBits",
    "count_steps",
]
