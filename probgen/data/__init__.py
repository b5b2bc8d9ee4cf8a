"""Small real data sets as NumPy arrays, and toy densities in the plane.

`load("optdigits")` comes with the package; every other data set is read from the folder that the environment variable
`PROBGEN_DATA` names, or is downloaded once with a checksum. `toys` draws samples of two-dimensional toy densities.
"""

from probgen.data.datasets import load, Data, DATASETS, holdout
from probgen.data import toys

__all__ = ["load", "Data", "DATASETS", "holdout", "toys"]
