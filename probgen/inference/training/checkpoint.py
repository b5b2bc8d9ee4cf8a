"""Checkpoints: a training that ends in the night goes on in the morning as if nothing had happened."""

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen.core import check_flags, check_positive, check_sizes
from probgen.inference.training.identity import Identity, as_host, difference
from probgen.inference.training.rows import CHUNK, named_leaves

_MINUTES = 5.0
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where, and how often, `fit(checkpoint=…)` writes down all that it needs to go on: `fit(checkpoint=folder)` is
    `fit(checkpoint=Checkpoints(folder))`.

    One is written beside the training, by another thread, and is there whole or not at all; the last steps have one
    too, whatever ended them.

    Args:
        folder: of one training alone; it is made where there is none.
        every: steps from one to the next.
        every_minutes: wall clock from one to the next, at least; 5 where neither is given.
        keep: how many of the newest are kept.

    Raises ValueError where a number is not positive.

    >>> Checkpoints("night", every=1000, keep=2)
    Checkpoints(folder='night', every=1000, every_minutes=None, keep=2)
    """

    folder: str | os.PathLike
    every: int | None = dataclasses.field(default=None, kw_only=True)
    every_minutes: float | None = dataclasses.field(default=None, kw_only=True)
    keep: int = dataclasses.field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike) or not os.fspath(self.folder):
            raise ValueError(f"checkpoint: expected a folder, or Checkpoints of one, got {self.folder!r}")
        check_sizes(keep=self.keep)
        if self.every is not None:
            check_sizes(every=self.every)
        if self.every_minutes is not None:
            check_positive(every_minutes=self.every_minutes)


def as_checkpoints(checkpoint: Any, resume: Any) -> Checkpoints | None:
    """Return what `fit` was told of checkpoints."""
    check_flags(resume=resume)
    if checkpoint is None and resume:
        raise ValueError("resume: expected a checkpoint folder to go on from, got none")
    return checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoints) else Checkpoints(checkpoint)


class Store:
    """The checkpoints of one training in a folder, by orbax. Raises ValueError where there are some already and
    `resume` does not say to go on from them."""

    def __init__(self, checkpoints: Checkpoints, resume: bool, identity: Identity):
        import orbax.checkpoint as orbax

        self.folder, self.every, self.identity = Path(checkpoints.folder).absolute(), checkpoints.every, identity
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint: expected a folder, got the file {self.folder}")
        minutes = _MINUTES if checkpoints.every is checkpoints.every_minutes is None else checkpoints.every_minutes
        self.seconds = np.inf if minutes is None else 60.0 * minutes
        self._saved, self._mark = -1, time.monotonic()
        options = orbax.CheckpointManagerOptions(max_to_keep=checkpoints.keep, cleanup_tmp_directories=True)
        self._args = orbax.args
        self._manager = orbax.CheckpointManager(self.folder, options=options, item_names=("state", "about"))
        if self._manager.all_steps() and not resume:
            self._manager.close()
            raise ValueError(
                f"checkpoint: {self.folder} has checkpoints already: go on from them by resume=True, or give another "
                "folder"
            )

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: Any) -> None:
        """Wait for what is being written."""
        with self._said():
            self._manager.close()

    def newest(self) -> Mapping[str, np.ndarray] | None:
        """Return the state in the newest checkpoint, or None where there is none. Raises ValueError where it is of
        another training or cannot be read."""
        step = self._manager.latest_step()
        if step is None:
            return None
        about = self._read(step, "about", self._args.JsonRestore())
        if about["version"] != _VERSION:
            raise ValueError(f"checkpoint: {self.folder} is of version {about['version']}, where {_VERSION} is read")
        if (said := difference(about["identity"], self.identity)) is not None:
            raise ValueError(f"checkpoint: {self.folder} is {said}")
        self._saved = step
        return self._read(step, "state", self._args.StandardRestore())

    def _read(self, step: int, name: str, how: Any) -> Any:
        try:
            return self._manager.restore(step, args=self._args.Composite(**{name: how}))[name]
        except Exception as error:  # of many kinds, where a file is not whole
            raise ValueError(
                f"checkpoint: {self.folder / str(step)} is damaged; without that folder training goes on from the one "
                f"before ({type(error).__name__})"
            ) from error

    def steps_until_next(self, step: int) -> int:
        """Return how many steps may be taken before the next checkpoint."""
        return CHUNK if self.every is None else self.every - step % self.every

    def due(self, step: int) -> bool:
        """Return whether it is time for one."""
        by_steps = self.every is not None and step % self.every == 0
        return by_steps or time.monotonic() - self._mark >= self.seconds

    def save(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Begin to write a checkpoint, unless there is one of this step."""
        if step <= self._saved:
            return
        about = {"version": _VERSION, "identity": self.identity}
        content = {"state": self._args.StandardSave(dict(state)), "about": self._args.JsonSave(about)}
        self._mark = time.monotonic()
        with self._said():
            self._manager.save(step, args=self._args.Composite(**content), force=True)
            self._saved = step

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Warn of what cannot be written, within: a full disk is no reason to lose what was learned."""
        try:
            yield
        except Exception as error:  # of the checkpoint before, which a thread has written, or of this one
            why = str(error).split("\n")[0][:200]
            warnings.warn(f"checkpoint: {self.folder} cannot be written to: {why}", RuntimeWarning, stacklevel=2)


def flattened(name: str, tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a tree as arrays of the host, in the order of their paths; empty ones are left out, which
    orbax cannot write."""
    arrays = {f"{name} {i}": as_host(leaf) for i, (_, leaf) in enumerate(sorted(named_leaves(tree), key=_path))}
    return {key: array for key, array in arrays.items() if array.size}


def restored(name: str, template: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the tree whose leaves `flattened` has written, where those of the template are."""
    places = {path: f"{name} {i}" for i, (path, _) in enumerate(sorted(named_leaves(template), key=_path))}
    back = lambda path, leaf: _like(leaf, arrays.get(places[jax.tree_util.keystr(path)]))
    return jax.tree_util.tree_map_with_path(back, template)


def _path(item: tuple[str, Any]) -> str:
    return item[0]


def _like(leaf: Any, array: np.ndarray | None) -> Any:
    if array is None:
        return leaf  # an empty one
    if isinstance(leaf, np.ndarray):
        return array
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.array(array), impl=jax.random.key_impl(leaf))
    return jnp.array(array)
