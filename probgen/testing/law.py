"""How a law that is broken says so."""

from typing import Any

import numpy as np


def require(law: str, fine: Any, detail: str) -> None:
    """Raise AssertionError unless everything in `fine` is True."""
    if not bool(np.all(np.asarray(fine))):
        raise AssertionError(f"{law}: {detail}")


def require_close(law: str, a: Any, b: Any, tolerance: float) -> None:
    """Raise AssertionError unless |a − b| ≤ tolerance · (1 + |b|), of one shape."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    require(law, a.shape == b.shape, f"shapes {a.shape} and {b.shape}")
    error = np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0.0)
    require(law, error <= tolerance, f"relative error {error:.2e} exceeds {tolerance:.0e}")
