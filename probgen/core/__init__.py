"""What a model is as a pytree: kinds of leaves, params, programs, recipes, files. Imports nothing of probgen."""

from probgen.core.binding import Contextual, bind, has_update, is_conditional, is_random, sequential, with_key
from probgen.core.density import DensityKind, weakest
from probgen.core.dependence import Dependence
from probgen.core.files import load, save
from probgen.core.functions import static_functions
from probgen.core.instances import check_instances
from probgen.core.leaves import Frozen, Kind, Leaf, Rest, combine, count_parameters, given, leaves, partition, state
from probgen.core.numbers import as_numbers
from probgen.core.numerics import as_float, as_real, log1mexp, logmeanexp
from probgen.core.programs import evaluating, from_params, module, random_module
from probgen.core.recipes import Recipe, recipe
from probgen.core.sizes import as_integer, as_shape, check_interval, check_not_negative, check_positive, check_sizes
from probgen.core.steps import Prefix, Steps, draw, draw_value
from probgen.core.vectorize import map_batch, mapped_rows, row_number, split_key, vectorize

__all__ = [
    "Contextual",
    "DensityKind",
    "Dependence",
    "Frozen",
    "Kind",
    "Leaf",
    "Prefix",
    "Recipe",
    "Rest",
    "Steps",
    "as_float",
    "as_integer",
    "as_numbers",
    "as_real",
    "as_shape",
    "bind",
    "check_instances",
    "check_interval",
    "check_not_negative",
    "check_positive",
    "check_sizes",
    "combine",
    "count_parameters",
    "draw",
    "draw_value",
    "evaluating",
    "from_params",
    "given",
    "has_update",
    "is_conditional",
    "is_random",
    "leaves",
    "load",
    "log1mexp",
    "logmeanexp",
    "map_batch",
    "mapped_rows",
    "module",
    "partition",
    "random_module",
    "recipe",
    "row_number",
    "save",
    "sequential",
    "split_key",
    "state",
    "static_functions",
    "vectorize",
    "weakest",
    "with_key",
]
