"""Models as pytrees: kinds of leaves, params, programs, recipes, files. It imports nothing of probgen."""

from probgen.core.leaves import partition, combine, Rest, leaves, Leaf, Kind, count_parameters, Frozen, given, state
from probgen.core.functions import static_functions
from probgen.core.programs import module, random_module, from_params, evaluating
from probgen.core.recipes import recipe, Recipe
from probgen.core.files import save, load
from probgen.core.binding import (
    Contextual,
    bind,
    is_conditional,
    with_key,
    with_keys,
    is_random,
    has_update,
    sequential,
)
from probgen.core.density import DensityKind, weakest
from probgen.core.dependence import Dependence
from probgen.core.steps import Steps, Prefix, draw, draw_value
from probgen.core.vectorize import vectorize, map_batch, mapped_rows, row_number, check_key, split_key
from probgen.core.progress import scan_with_bar
from probgen.core.numerics import as_float, as_real, log1mexp, logmeanexp
from probgen.core.sizes import (
    as_integer,
    as_number,
    as_shape,
    check_sizes,
    check_positive,
    check_not_negative,
    check_interval,
)
from probgen.core.numbers import as_numbers, check_numbers
from probgen.core.instances import check_distributions, check_flags, check_functions, check_instances, in_words

__all__ = [
    # what learns
    "partition",
    "combine",
    "Rest",
    "leaves",
    "Leaf",
    "Kind",
    "count_parameters",
    "Frozen",
    "given",
    "state",
    "static_functions",
    # models in numpyro programs
    "module",
    "random_module",
    "from_params",
    "evaluating",
    # recipes and files
    "recipe",
    "Recipe",
    "save",
    "load",
    # what is bound to a model: a context, the randomness of training, data
    "Contextual",
    "bind",
    "is_conditional",
    "with_key",
    "with_keys",
    "is_random",
    "has_update",
    # kinds of density
    "DensityKind",
    "weakest",
    # one place after another
    "Dependence",
    "Steps",
    "sequential",
    "Prefix",
    "draw",
    "draw_value",
    # over rows and batches
    "vectorize",
    "map_batch",
    "mapped_rows",
    "row_number",
    "check_key",
    "split_key",
    # a loop with a bar
    "scan_with_bar",
    # numbers
    "as_float",
    "as_real",
    "log1mexp",
    "logmeanexp",
    # what an argument is, or a clear error
    "as_integer",
    "as_number",
    "as_numbers",
    "as_shape",
    "check_sizes",
    "check_positive",
    "check_not_negative",
    "check_interval",
    "check_numbers",
    "check_flags",
    "check_instances",
    "check_distributions",
    "check_functions",
    "in_words",
]
