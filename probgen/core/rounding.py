"""Numbers that were rounded: the grid on which they lie."""

from typing import Any

import numpy as np

EXACT = 2**53  # integers up to here are themselves as float64
_MANY = 2**24  # steps between the least and the largest number up to which float32 tells them apart
ENOUGH = 10  # observed numbers before a step is believed that is coarser than their decimals
OFF_GRID = 2e-2  # of a step, by which numbers that were float32 may miss it
ENOUGH_ROWS = 50  # before repetitions mean anything
_FEW = 10  # rows to a distinct number, from which on numbers repeat
_DECIMALS = 9


def are_repeated(distinct: Any, rows: int) -> Any:
    """Return whether so few distinct numbers, of one column or an array of counts, in so many rows repeat, so that a
    density would grow without bound there."""
    return (distinct * _FEW <= rows) & (rows >= ENOUGH_ROWS)


def grid(x: np.ndarray) -> tuple[float | None, float]:
    """Return the step and the offset in [0, step) of the grid that numbers [N] lie on; None and 0 where there is none.

        x = offset + k·step,   step = g / 10ᵈ

    with the fewest decimals d that write the numbers, up to the error of float32, and the greatest common divisor g of
    their differences, which is believed from ten numbers on.
    """
    values = np.unique(x)
    were_float32 = len(values) >= ENOUGH and (values == values.astype(np.float32)).all()
    most = OFF_GRID if were_float32 else 1e-3
    for decimals in range(_DECIMALS + 1):
        scaled = values * 10.0**decimals
        if scaled[-1] - scaled[0] > _MANY or np.abs(scaled).max() > EXACT:
            break
        whole = np.rint(scaled)
        size = np.abs(scaled)
        if (np.abs(scaled - whole) <= np.clip(1e-7 * size, 1e-13 * size.max(), most)).all():
            coarse = int(np.gcd.reduce(np.diff(whole).astype(np.int64))) or 1 if len(x) >= ENOUGH else 1
            return coarse / 10**decimals, int(whole[0]) % coarse / 10**decimals
    if (values == np.rint(values)).all() and np.abs(values).max() <= EXACT:  # integers, however far apart
        return 1.0, 0.0
    return None, 0.0
