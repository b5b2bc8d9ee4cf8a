"""Models as files: arrays by path (safetensors), and the recipe that rebuilds the structure."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from probgen.core.leaves import Leaf, leaves_by_path, replace_leaves
from probgen.core.recipes import Recipe
from probgen.core.settings import settings

_FORMAT = "probgen-model-2"


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def to_numpy(leaf: Leaf) -> np.ndarray:
    """Return the numbers of a leaf, on the host, as a file holds them. Raises ValueError where it has none.

    Args:
        leaf: of a model.
    """
    try:  # through JAX, so that a Python or NumPy number has the dtype that it has inside jit
        array = jnp.asarray(jax.random.key_data(leaf.value) if _is_key(leaf.value) else leaf.value)
    except TypeError:
        raise ValueError(f"leaf {leaf.path!r} is {type(leaf.value).__name__}, which a file cannot hold") from None
    return np.asarray(array, order="C")  # (np.ascontiguousarray would make a scalar a vector)


def _umask() -> int:
    """Return what new files of this process are not allowed: it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


class MissingRecipe(ValueError):
    """Raised where a file does not name what makes the structure of its model."""


def save(path: str | os.PathLike, model: Any) -> None:
    """Write every array of a model under its path, with the recipe that made it; the file is replaced only when whole.

    The recipe is kept where it still makes a model of this structure and these shapes. A model of no recipe, or one
    that was changed since (`model.replace(sampler=…)`), is saved without: a UserWarning then says that `load` will ask
    for `like=`. The format is safetensors; `pickle` is none for models, because it refuses the jitted functions of jax
    (`jax.nn.relu`) that are activations (`copy.deepcopy` takes them).

    Args:
        path: of the file; its folder exists.
        model: any model.

    Raises FileNotFoundError where there is no such folder, ValueError where the model holds a leaf that is no number,
    or two leaves of one path.
    """
    if not (folder := Path(path).parent).is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to save {Path(path).name} in")
    arrays = {path: to_numpy(leaf) for path, leaf in leaves_by_path(model).items()}
    made_by = getattr(model, "recipe", None)
    if not (isinstance(made_by, Recipe) and made_by.makes(model)):
        made_by = None
        warnings.warn(f"{path}: no recipe makes this model: load it with like=, a model of its structure", stacklevel=2)
    # one key: several would be written in an order that changes from run to run
    metadata = {_FORMAT: json.dumps({"recipe": made_by, "settings": settings(model)})}
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        save_file(arrays, part, metadata=metadata)
        part.chmod(0o666 & ~_umask())  # safetensors writes files that nobody else may read
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike, *, like: Any = None) -> Any:
    """Read a model from a file, and return it.

    Args:
        path: of a file that `save` wrote.
        like: a model of the same structure; what the recipe in the file builds again, by default.

    Raises FileNotFoundError, or ValueError where the file is truncated, foreign, made by an unknown recipe, or
    where a leaf's name, shape or dtype, or a static setting (a spline's interval, an activation) differs from the
    structure's; the message names it.

    >>> import jax, os, probgen, tempfile
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> file = os.path.join(tempfile.mkdtemp(), "flow.safetensors")
    >>> probgen.save(file, flow)
    >>> bool((probgen.load(file).log_prob(jax.numpy.ones(2)) == flow.log_prob(jax.numpy.ones(2))))
    True
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file at {path}")
    arrays, metadata = read_arrays(path)
    if _FORMAT not in metadata:
        raise ValueError(f"{path} is not a probgen model file: its metadata lacks {_FORMAT!r}")
    facts = json.loads(metadata[_FORMAT])
    made_by = facts["recipe"]
    if like is None and made_by is None:
        raise MissingRecipe(f"{path} names no recipe that makes its model: pass like=, a model of the same structure")
    structure = Recipe(*made_by).build(key=jax.random.key(0)) if like is None else like
    model = _fill(str(path), structure, arrays)
    mine, theirs = settings(structure), facts["settings"]
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            raise ValueError(f"{path}: {name} is {theirs.get(name)} in the file, {mine.get(name)} in the model")
    return model


def read_arrays(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a safetensors file by name, and its metadata. Raises ValueError where it is not whole."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from None


def _fill(path: str, structure: Any, arrays: dict[str, np.ndarray]) -> Any:
    wanted = leaves_by_path(structure).keys()
    if missing := sorted(wanted - arrays.keys()):
        raise ValueError(f"{path} lacks the leaf {missing[0]!r} of the model")
    if foreign := sorted(arrays.keys() - wanted):
        raise ValueError(f"{path} has a leaf {foreign[0]!r} that the model lacks")

    def read(leaf: Leaf) -> Any:
        have, want = arrays[leaf.path], to_numpy(leaf)
        if have.shape != want.shape or have.dtype != want.dtype:
            raise ValueError(
                f"leaf {leaf.path!r}: {path} has {have.dtype}{list(have.shape)}, "
                f"the model {want.dtype}{list(want.shape)}"
            )
        if _is_key(leaf.value):
            return jax.random.wrap_key_data(jnp.asarray(have), impl=jax.random.key_impl(leaf.value))
        return jnp.asarray(have)

    return replace_leaves(structure, read)
