"""Where a training lies: on one device, or on many with the rows of each batch spread over them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from probgen.core import check_sizes


class Devices:
    """The devices of one training. With many of them the params are on each, and each computes the gradient of its part
    of a batch: JAX's compiler makes one program of that, and adds the gradients up. With None nothing is moved."""

    def __init__(self, mesh: Mesh | int | None, batch_size: int):
        self.count = 1
        self._all = self._rows = self._stacks = None
        if mesh is None:
            return
        devices = _devices(mesh)
        self.count = len(devices)
        if batch_size % self.count:
            raise ValueError(f"mesh: expected devices that divide the batch_size, {batch_size}, got {self.count}")
        flat = Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))
        place = lambda *axes: NamedSharding(flat, PartitionSpec(*axes))
        self._all, self._rows, self._stacks = place(), place("rows"), place(None, "rows")

    def everywhere(self, tree: Any) -> Any:
        """Return the tree with its numbers on each of them."""
        return tree if self._all is None else jax.device_put(tree, self._all)

    def stacked(self, batches: Any) -> Any:
        """Return batches in a stack, from the host, the rows of each spread over them."""
        return jax.device_put(batches, self._stacks)

    def spread(self, batch: Any) -> Any:
        """Return a traced batch, the rows spread over them."""
        return batch if self._rows is None else lax.with_sharding_constraint(batch, self._rows)

    def alike(self, tree: Any) -> Any:
        """Return a traced tree that is to be the same on each."""
        return tree if self._all is None else lax.with_sharding_constraint(tree, self._all)

    def home(self, tree: Any) -> Any:
        """Return the tree where JAX would have made it."""
        return tree if self._all is None else jax.tree.map(_on_default, tree)


def _devices(mesh: Any) -> list[Any]:
    if isinstance(mesh, Mesh):
        return list(mesh.devices.flat)
    if isinstance(mesh, type) or not isinstance(mesh, int | np.integer):
        raise ValueError(f"mesh: expected a jax.sharding.Mesh or a number of devices, got {mesh!r}")
    check_sizes(mesh=mesh)
    if mesh > (there := jax.device_count()):
        raise ValueError(f"mesh: expected at most {there}, the devices that there are, got {mesh}")
    return jax.devices()[:mesh]


def _on_default(x: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(x)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    return jnp.asarray(np.asarray(x))
