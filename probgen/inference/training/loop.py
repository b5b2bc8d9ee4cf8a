"""The loop over steps, on the device: minibatches are drawn, steps are taken, and one array of losses comes back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.infer import SVI

from probgen.inference.training.averages import Average
from probgen.inference.training.devices import Devices
from probgen.inference.training.rows import CHUNK
from probgen.inference.training.stream import Batches
from probgen.inference.training.task import Task

_FAST = "ConvDimensionNumbers(lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2))"  # NHWC, HWIO, NHWC


class Carry(NamedTuple):
    """The state that changes from step to step, donated from chunk to chunk."""

    svi: Any
    rest: Any
    average: Any
    order: Array
    step: Array


def _all_finite(tree: Any) -> Array:
    """Return whether every number is finite: a sum per leaf is enough, since NaN and infinity survive it."""
    leaves = [jnp.sum(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.isfinite(jnp.stack(leaves))) if leaves else jnp.array(True)


def _copy(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def _of_its_dtype(x: Any) -> Any:
    """Return a number as one whose dtype is no mere default, as it comes from a checkpoint."""
    is_key = jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
    return x if is_key else lax.convert_element_type(x, jnp.result_type(x))


def is_slow_in_loops(jaxpr: Any) -> bool:
    """Return whether a CPU takes a hundred times as long for this inside of a loop (jax#12868).

    That holds of convolutions in other layouts than this one, and the gradient of every convolution has others.
    """
    text = str(jaxpr)
    return text.count("conv_general_dilated[") > text.count(_FAST)


class Loop:
    """The compiled steps of one `fit`. `run(carry, data, n, stop)` takes n steps and returns the carry and n losses.

    Where each step is dispatched by itself, there are fewer once `stop()` says so. It holds no data: the compiled
    methods and their owner are a cycle, which would keep them alive.

    No step looks whether it went wrong, which would cost a pass over old and new params: that is looked up in the
    losses and in the last params. What was before is kept, and after a failure the good steps are taken once more.
    """

    def __init__(
        self, task: Task, svi: SVI, batches: Batches, update_key: Array, ema: Average | None, devices: Devices
    ):
        self.task, self.svi, self.batches, self.ema, self.devices = task, svi, batches, ema, devices
        self.update_key = update_key
        self._many: Callable = jax.jit(self._chunk, donate_argnums=0)
        self._one: Callable = jax.jit(self._single, donate_argnums=0)
        self._is_good: Callable = jax.jit(lambda carry: _all_finite(svi.get_params(carry.svi)))
        self._stepwise: bool | None = None

    def start(self, svi_state: Any) -> Carry:
        """Return the carry before the first step; nothing of the user's is in it to be donated."""
        average = self.svi.get_params(svi_state) if self.ema is not None else None
        start = Carry(svi_state, self.task.rest, average, self.batches.start(), jnp.zeros((), jnp.int32))
        carry = jax.tree.map(_of_its_dtype, start)
        return self.devices.everywhere(_copy(carry))

    def run(self, carry: Carry, data: Any, steps: int, stop: Callable[[], bool]) -> tuple[Carry, np.ndarray]:
        """Take at most `CHUNK` steps, and at least one.

        Where one fails, the carry is the one before it, as its `step` tells, and its loss is the first that does not
        count.
        """
        if self._stepwise is None:
            self._stepwise = self._convolves_on_cpu(carry, data)
        before = _copy(carry)
        carry, losses = self._take(carry, data, steps, stop)
        bad = np.flatnonzero(~np.isfinite(losses))
        if not len(bad) and self._is_good(carry):
            return carry, losses
        least, most = 0, int(bad[0]) if len(bad) else len(losses) - 1
        carry = before
        while least < most:  # the most steps after which all is finite, by halving
            middle = (least + most + 1) // 2
            after, _ = self._take(_copy(before), data, middle, lambda: False)
            if self._is_good(after):
                least, carry = middle, after
            else:
                most = middle - 1
        return carry, losses

    def _take(self, carry: Carry, data: Any, steps: int, stop: Callable[[], bool]) -> tuple[Carry, np.ndarray]:
        if not self._stepwise:
            carry, losses = self._many(carry, data, jnp.int32(steps))
            return carry, np.asarray(losses)[:steps]
        one_by_one = []
        for _ in range(steps):
            carry, loss = self._one(carry, data)
            one_by_one.append(loss)
            if stop():
                break
        return carry, np.asarray(jnp.stack(one_by_one))

    def _convolves_on_cpu(self, carry: Carry, data: Any) -> bool:
        if jax.default_backend() != "cpu":
            return False
        return is_slow_in_loops(jax.make_jaxpr(self._single)(carry, data))

    def _chunk(self, carry: Carry, data: Any, steps: Array) -> tuple[Carry, Array]:
        def one(i: Array, both: tuple[Carry, Array]) -> tuple[Carry, Array]:
            carry, loss = self._step(both[0], data)
            return carry, both[1].at[i].set(loss)

        def epoch(so_far: tuple[Array, Carry, Array]) -> tuple[Array, Carry, Array]:
            # a loop of its own for the rest of an epoch: a `cond` in every step would copy the order of all rows
            i, carry, losses = so_far
            length = self.batches.steps_of_an_order
            end = jnp.minimum(steps, i + length - carry.step % length)
            return end, *lax.fori_loop(i, end, one, (self._ordered(carry), losses))

        start = jnp.zeros((), steps.dtype), carry, jnp.zeros(CHUNK)
        return lax.while_loop(lambda so_far: so_far[0] < steps, epoch, start)[1:]

    def _single(self, carry: Carry, data: Any) -> tuple[Carry, Array]:
        return self._step(self._ordered(carry), data)

    def _ordered(self, carry: Carry) -> Carry:
        return carry._replace(order=self.batches.ordered(carry.order, carry.step))

    def _step(self, carry: Carry, data: Any) -> tuple[Carry, Array]:
        batch = self.devices.spread(self.batches.batch(carry.order, carry.step, data))
        svi_state, loss = self.svi.update(carry.svi, carry.rest, *batch[0], **batch[1])
        params, rest, average = self.svi.get_params(svi_state), carry.rest, carry.average
        if self.task.updates:
            rest = self.task.update(params, rest, jax.random.fold_in(self.update_key, carry.step), batch)
        if self.ema is not None:
            share = self.ema.share(carry.step)
            average = jax.tree.map(lambda a, p: ((1 - share) * a + share * p).astype(p.dtype), average, params)
        carry = Carry(svi_state, rest, average, carry.order, carry.step + 1)
        return self.devices.alike((carry, loss.astype(jnp.zeros(()).dtype)))
