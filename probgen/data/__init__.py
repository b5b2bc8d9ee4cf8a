"""Data as arrays: files of one's own, small real data sets, and toy densities in the plane.

`read("people.csv")` makes of a file a `Table`, whose columns are described; `ImageFolder` and `ParquetRows`
read on the way what memory does not hold.
`load("optdigits")` comes with the package; every other data set is read from the folder that the environment variable
`PROBGEN_DATA` names, or is downloaded once with a checksum. `toys` draws samples of two-dimensional toy densities, and
images whose factors are known.
"""

from probgen.data.datasets import load, Data, DATASETS, holdout
from probgen.data.table import Table, Column
from probgen.data.reading import read
from probgen.data.images import ImageFolder
from probgen.data.parquet_rows import ParquetRows
from probgen.data import toys

__all__ = [
    "read",
    "Table",
    "Column",
    "ImageFolder",
    "ParquetRows",
    "load",
    "Data",
    "DATASETS",
    "holdout",
    "toys",
]
