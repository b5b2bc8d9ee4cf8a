"""The four kinds of density that a model may have."""

from typing import Literal, get_args

DensityKind = Literal["exact", "weights", "bound", "estimate"]
"""What a model says of its density: a `kind` is one of "exact", "weights", "bound" and "estimate" (see `weakest`)."""

SIGNS: dict[DensityKind, str] = {"exact": "=", "weights": "≤", "bound": "≤", "estimate": "≈"}  # losses


def sign_of(kind: DensityKind, tolerance: float = 0.0) -> str:
    """Return the sign before a loss: that of the kind, or "≈" where there is a tolerance.

    Args:
        kind: of the density.
        tolerance: how far it may be off, 0 where it is what it says.

    >>> sign_of("bound"), sign_of("exact", 1e-5)
    ('≤', '≈')
    """
    return SIGNS["estimate" if tolerance > 0 else kind]


def weakest(*kinds: DensityKind) -> DensityKind:
    """Return the kind of what is put together from parts of these kinds: what the weakest of them can promise.

    - exact: `log_prob` is the log-density;
    - weights: there are unbiased estimates of the density, whose logarithms bound log p ever more tightly;
    - bound: there is a stochastic lower bound of log p only;
    - estimate: neither, but a number within a tolerance.

    Args:
        kinds: of the parts; of none it is "exact".

    >>> weakest("exact", "bound", "weights")
    'bound'
    """
    return max(kinds, key=get_args(DensityKind).index, default="exact")
