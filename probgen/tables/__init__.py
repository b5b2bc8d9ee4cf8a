"""Densities of tables: rows of categories, counts, rounded and other numbers, some of them missing.

`probgen.data.read` describes a table's columns; a recipe makes a model of them, `rows_of` what `fit` and `evaluate`
take; `log_prob`, `sample` and `impute` speak in the table's own units.
"""

from probgen.tables.any_order import AnyOrderTable
from probgen.tables.completion import Completed
from probgen.tables.missing import Observed
from probgen.tables.flow_table import FlowTable
from probgen.tables.recipes import any_order, mixed_flow
from probgen.tables.rows import rows_of, log_prob, sample, impute

__all__ = [
    "any_order",
    "mixed_flow",
    "rows_of",
    "log_prob",
    "sample",
    "impute",
    "AnyOrderTable",
    "Completed",
    "Observed",
    "FlowTable",
]
