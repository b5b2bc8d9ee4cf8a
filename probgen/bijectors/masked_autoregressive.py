"""Masked autoregressive bijectors, from coupling to full autoregression to graphs; and three ways of inverting them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.bijectors.base import Bijector, apply
from probgen.bijectors.transformers import ShiftTransformer, Transformer
from probgen.core import Dependence, check_instances, sequential, static_functions

Inversion = Callable[["MaskedAutoregressive", Array], tuple[Array, Array]]


def step_by_step(bijector: "MaskedAutoregressive", y: Array) -> tuple[Array, Array]:
    """Invert group after group, in the work of about one pass: the conditioner's `sequential()` computes each unit
    once.

    A conditioner without it is evaluated anew at each step (`pass_by_pass`).

    Args:
        bijector: the bijector to invert.
        y: one event, [D].
    """
    steps, groups = sequential(bijector.conditioner), bijector.dependence.groups
    if steps is None:
        return pass_by_pass(bijector, y)
    places = np.full((len(groups), max(map(len, groups))), -1)
    for i, group in enumerate(groups):
        places[i, : len(group)] = group

    def one(carry: tuple[Any, Array], at: tuple[Array, Array, Array]) -> tuple[tuple[Any, Array], tuple[Array, Array]]:
        (cache, before), (i, known, real) = carry, at
        cache, raw = steps.step(cache, before, i)
        value, log_det = _each(bijector.transformer, raw, known, inverse=True)
        value = jnp.where(real, value, 0.0)
        return (cache, value), (value, jnp.where(real, log_det, 0.0))

    start = (steps.init(), jnp.zeros(places.shape[1], y.dtype))
    _, (values, log_dets) = lax.scan(one, start, (jnp.arange(len(groups)), y[places], jnp.array(places >= 0)))
    order = np.flatnonzero(places.ravel() >= 0)
    return values.ravel()[order[np.argsort(places.ravel()[order])]], jnp.sum(log_dets)


def pass_by_pass(bijector: "MaskedAutoregressive", y: Array) -> tuple[Array, Array]:
    """Invert by as many whole passes as there are groups, which needs nothing of the conditioner.

    Args:
        bijector: the bijector to invert.
        y: one event, [D].
    """
    one = lambda x, _: (bijector.undo(x, y)[0], None)
    x, _ = lax.scan(one, jnp.zeros_like(y), None, length=len(bijector.dependence.groups) - 1)
    return bijector.undo(x, y)


def fixed_point(bijector: "MaskedAutoregressive", y: Array) -> tuple[Array, Array]:
    """Invert by x ← τ⁻¹(y; h(x)), all coordinates at once, until nothing changes: exact after at most as many passes as
    there are groups, and often long before. Gradients, of first order, are the implicit function's, by its Jacobian
    [D, D].

    Args:
        bijector: the bijector to invert.
        y: one event, [D].

    References: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song, Meng, Liao, Ermon
    2021), arXiv:2002.03629.
    """
    limit = len(bijector.dependence.groups)
    still, target = jax.tree.map(lax.stop_gradient, (bijector, y))

    def one(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        n, x, _ = state
        new = still.undo(x, target)[0]
        return n + 1, new, jnp.any(new != x)

    more = lambda state: state[2] & (state[0] < limit)
    _, x, _ = lax.while_loop(more, one, (jnp.array(0), jnp.zeros_like(y), jnp.array(True)))
    # one Newton step, of length zero, whose gradient is that of the implicit function: ẋ = J⁻¹ (ẏ − ḟ(x))
    jacobian = jax.jacobian(lambda x: still.forward_event(x)[0])(x)
    x = x - jnp.linalg.solve(jacobian, bijector.forward_event(x)[0] - y)
    return bijector.undo(x, y)


class MaskedAutoregressive(Bijector):
    """y_i = τ(x_i; h_i(x_pa(i))): triangular once the variables are sorted, so that log|det| = Σ_i log ∂τ/∂x_i.

    `forward` is one pass, as in inverse autoregressive flows (IAF), whose density is slow where the draws are fast;
    `Inverse` of it is the masked autoregressive flow (MAF). Between D groups of one variable and two groups, which are
    a coupling, lies any number of sequential steps; with a graph it is a Bayes net, and its Jacobian has the graph's
    zeros.

    Args:
        conditioner: h, any callable pytree [D] → [D, num_params], whose row i depends only on the x that i may depend
            on (`networks.MADE`).
        transformer: τ, raw [D, num_params] → elementwise bijector.
        dependence: the groups and the parents.
        invert: how to invert: `step_by_step`, `pass_by_pass` or `fixed_point`.

    Raises ValueError where the conditioner is of another dependence, or its output has another size.

    References: Masked Autoregressive Flow (Papamakarios, Pavlakou, Murray 2017), arXiv:1705.07057; Improved Variational
    Inference with Inverse Autoregressive Flow (Kingma et al. 2016), arXiv:1606.04934; Graphical Normalizing Flows
    (Wehenkel, Louppe 2021), arXiv:2006.02548.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.bijectors import AffineTransformer
    >>> from probgen.core import Dependence, sequential, static_functions
    >>> from probgen.networks import MADE
    >>> iaf = MaskedAutoregressive(
    ...     MADE(3, 2, key=jax.random.key(0)), AffineTransformer(), Dependence.in_order(range(3))
    ... )
    >>> y, log_det = iaf.forward_and_log_det(jnp.ones(3))
    >>> bool(jnp.allclose(iaf.inverse(y), 1.0, atol=1e-5))
    True
    """

    conditioner: Any = eqx.field(converter=static_functions)
    transformer: Transformer
    dependence: Dependence = eqx.field(static=True)
    invert: Inversion = eqx.field(static=True, default=step_by_step)

    def __check_init__(self) -> None:
        check_instances(transformer=self.transformer)
        own = getattr(_network(self.conditioner), "dependence", self.dependence)
        if own != self.dependence:
            raise ValueError(f"dependence: expected the conditioner's, {own}, got {self.dependence}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.dependence.dim,)

    @property
    def is_constant_log_det(self) -> bool:
        return isinstance(self.transformer, ShiftTransformer)

    def _raw(self, x: Array) -> Array:
        raw, num_params = self.conditioner(x), self.transformer.num_params
        if raw.shape != (len(x), num_params):
            raise ValueError(f"conditioner: expected an output of shape {(len(x), num_params)}, got {raw.shape}")
        return raw

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return apply(self.transformer(self._raw(x)), x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self.invert(self, y)

    def undo(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return τ⁻¹(y; h(x)) and its log-determinant: one step of the inversion, exact where x is right already."""
        return apply(self.transformer(self._raw(x)), y, inverse=True)


def _network(conditioner: Any) -> Any:
    return getattr(conditioner, "network", conditioner)


def _each(transformer: Transformer, raw: Array, x: Array, *, inverse: bool) -> tuple[Array, Array]:
    """Map every coordinate by a bijector of its own, so that each has its own log-determinant."""
    return jax.vmap(lambda raw, x: apply(transformer(raw), x, inverse=inverse))(raw, x)
