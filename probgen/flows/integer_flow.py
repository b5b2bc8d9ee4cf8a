"""Integer flows: bijections of the integers 0..levels−1, whose probabilities are exact."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.core import (
    as_shape,
    bind,
    check_instances,
    check_sizes,
    given,
    is_random,
    recipe,
    static_functions,
    with_keys,
)
from probgen.distributions import ConditionalModel, DiscretizedLogisticMixtureHead, Model, verb
from probgen.distributions.coding import Message, check_lanes, coded, over_lanes
from probgen.distributions.heads import Head
from probgen.flows.layers import Nets
from probgen.networks import MLP


class IntegerCoupling(eqx.Module):
    """One half of the numbers, by what the other half says: x_B ↦ (x_B + ⌊t(x_A)⌉) mod levels.

    Args:
        network: t, [|A|] numbers between −1 and 1 → [|B|], in quarters of the levels.
        order: the places of A, and then those of B, [D] integers.
        levels: how many integers.
    """

    network: Callable[[Array], Array] = eqx.field(converter=static_functions)
    order: Array
    levels: int = eqx.field(static=True)

    def shift(self, x: Array) -> Array:
        """Return t(x_A) at the places of B and 0 at those of A, [D], not rounded."""
        half = len(self.order) // 2
        t = self.levels / 4 * self.network(x[self.order[:half]] * (2 / (self.levels - 1)) - 1)
        return jnp.zeros(len(self.order), t.dtype).at[self.order[half:]].set(t)


class IntegerLayers(eqx.Module):
    """Couplings one after another, run by one `lax.scan`.

    Args:
        layers: one `IntegerCoupling` whose arrays have the L layers on axis 0.
        context: which all of them share; `core.bind` sets it.
    """

    layers: IntegerCoupling
    context: Array | None = given(default=None)

    @property
    def is_random(self) -> bool:
        """Whether the layers hold dropout."""
        return is_random(self.layers)

    @property
    def depth(self) -> int:
        """L."""
        return len(self.layers.order)

    def bind_context(self, context: Array) -> "IntegerLayers":
        """Return the same layers with a context."""
        return IntegerLayers(self.layers, context)

    def bind_key(self, key: Array) -> "IntegerLayers":
        """Return the same layers, each with a key of its own."""
        return IntegerLayers(with_keys(self.layers, key), self.context)

    def shift(self, i: Array, x: Array) -> Array:
        """Return what layer i adds to x, [D] whole numbers."""
        return jnp.round(self._bound(jax.tree.map(lambda leaf: leaf[i], self.layers)).shift(x))

    def forward(self, z: Array) -> Array:
        """Return f(z) of flat numbers, [D]."""
        one = lambda z, layer: (jnp.mod(z + jnp.round(self._bound(layer).shift(z)), layer.levels), None)
        x: Array = lax.scan(one, z, self.layers)[0]
        return x

    def inverse(self, x: Array) -> tuple[Array, Array]:
        """Return f⁻¹(x) of flat numbers, [D], with a derivative as if nothing were rounded, and by how much each would
        be larger then."""

        def one(carry: tuple[Array, Array], layer: IntegerCoupling) -> tuple[tuple[Array, Array], None]:
            z, beyond = carry
            t = self._bound(layer).shift(z)
            still = lax.stop_gradient(t)
            z = jnp.mod(z - (jnp.round(still) + (t - still)), layer.levels)
            return (z, beyond + jnp.round(still) - still), None

        z: tuple[Array, Array] = lax.scan(one, (x, jnp.zeros_like(x)), self.layers, reverse=True)[0]
        return z

    def _bound(self, layer: IntegerCoupling) -> IntegerCoupling:
        bound: IntegerCoupling = layer if self.context is None else bind(layer, self.context)
        return bound


class IntegerFlow(Model):
    """Independent integers, moved by couplings that add whole numbers on the ring 0..levels−1: nothing is dequantized,
    and no probability changes but its place.

        log P(x) = Σ_d log P_d(z_d),   z = f⁻¹(x),   f = f_L ∘ … ∘ f₁,   f_l: x_B ↦ (x_B + ⌊t_l(x_A)⌉) mod levels

    It is exact, and sums to 1. Its derivative with respect to the networks is 0; what is taken in its place is BIASED,
    as `unbiased` says. Layers pass it on as if nothing were rounded (straight-through), and log P_d has the slope of
    the line from z_d to the neighbour on the side where z_d would be without rounding. (The slope of a logistic at z_d
    itself, which is the usual choice, leads away from peaks that no step improves on: on few levels it untrains.)

    Args:
        layers: f.
        raw: what makes the P_d, [*event_shape, num_params], learned.
        head: raw numbers → the P_d, of the integers 0..levels−1.

    Raises ValueError where the head is of other integers than the layers, or of other places.

    References: Integer Discrete Flows and Lossless Compression (Hoogeboom, Peters, van den Berg, Welling 2019),
    arXiv:1905.07376, on a line without end; on a ring, Discrete Flows (Tran, Vafa, Agrawal, Dinh, Poole 2019),
    arXiv:1905.10347; on what straight-through gradients do, IDF++ (van den Berg et al. 2021), arXiv:2006.12459.

    >>> import jax, jax.numpy as jnp
    >>> model = integer_flow((2,), 3, layers=4, hidden=(8,), key=jax.random.key(0))
    >>> grid = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3)), -1)
    >>> float(jnp.exp(model.log_prob(grid)).sum().round(5))
    1.0
    """

    pytree_data_fields = ("head", "layers", "raw")
    learnable_fields = ("raw",)
    unbiased: ClassVar[bool] = False

    def __init__(self, layers: IntegerLayers, raw: Array, head: Head, *, validate_args: bool | None = None):
        check_instances(layers=layers, head=head)
        self.layers, self.raw, self.head = layers, jnp.asarray(raw, float), head
        self._check_fields()
        super().__init__(self.raw.shape[:-1], validate_args=validate_args)

    def _check_fields(self) -> None:
        support, last = self.head(self.raw).support, self.layers.layers.levels - 1
        if (getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)) != (0, last):
            raise ValueError(f"head: expected one of the integers 0..{last}, got one on {support}")
        shape, places = self.raw.shape[:-1], self.layers.layers.order.shape[-1]
        if math.prod(shape) != places:
            raise ValueError(f"raw: expected numbers for each of {places} places, got shape {self.raw.shape}")

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.independent(constraints.integer_interval(0, self.layers.layers.levels - 1), self.event_dim)

    def sample_event(self, key: Array) -> Array:
        """Draw z, and move it."""
        z = self.head(self.raw).sample(key)
        x = self.layers.forward(z.reshape(-1).astype(self.raw.dtype))
        return x.reshape(self.event_shape).astype(jnp.int32)

    def log_prob_event(self, x: Array) -> Array:
        """Return log P(x) of one event."""
        z, beyond = (a.reshape(x.shape) for a in self.layers.inverse(x.reshape(-1).astype(self.raw.dtype)))
        each, here = self.head(self.raw), lax.stop_gradient(z)
        log_p, side = each.log_prob(here), jnp.where(beyond < 0, -1.0, 1.0)
        slope = side * (each.log_prob(jnp.mod(here + side, self.layers.layers.levels)) - log_p)
        return jnp.sum(log_p + lax.stop_gradient(slope) * (z - here))

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, *event_shape]: move them back, and write z."""
        check_lanes(self)
        z = _moved(self, np.asarray(x, np.int32).reshape(message.lanes, -1), inverse=True)
        _base_of(self, np.arange(message.lanes)).push(message, z.reshape(np.shape(x)))

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape]."""
        check_lanes(self)
        z = _base_of(self, np.arange(message.lanes)).pop(message)
        return _moved(self, z.reshape(message.lanes, -1), inverse=False).reshape(z.shape)


def _moved(d: Any, x: np.ndarray, *, inverse: bool) -> np.ndarray:
    """Return events [lanes, D] after all layers; what each adds comes from one program, whichever way it goes."""
    layers = getattr(d, "model", d).layers
    for i in reversed(range(layers.depth)) if inverse else range(layers.depth):
        shift = np.asarray(_shift(d, i, x)).astype(np.int32)
        x = ((x - shift if inverse else x + shift) % layers.layers.levels).astype(np.int32)
    return x


@jax.jit
def _base_of(d: Any, lanes: Array) -> Any:
    return over_lanes(d, lambda d, _: coded(d.head(d.raw).to_event(d.raw.ndim - 1), ()), lanes)


@jax.jit
def _shift(d: Any, i: Array, x: Array) -> Array:
    shifts: Array = over_lanes(d, lambda d, x: d.layers.shift(i, x.astype(float)), x)
    return shifts


@recipe
def integer_flow(
    shape: Sequence[int],
    levels: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (256, 256),
    components: int = 5,
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    context_dim: int | None = None,
    key: Array,
) -> IntegerFlow | ConditionalModel:
    """Couplings on random halves of the numbers, each half in turn, over independent mixtures of logistics.

    Args:
        shape: of one event, of at least 2 numbers, such as (28, 28).
        levels: how many integers, at least 2.
        layers: L, run as one scan.
        hidden: widths of the couplings' hidden layers.
        components: of the mixture of discretized logistics of each z_d.
        dropout: the rate in the couplings, in training.
        activation: of the couplings' hidden layers.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the halves and the first weights.

    Raises ValueError where an event has one number (there is nothing to couple), or sizes are not positive.

    References: as `IntegerFlow`.

    >>> import jax, jax.numpy as jnp
    >>> model = integer_flow((4, 4), 17, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob(jnp.zeros((5, 4, 4), int)).shape
    (5,)
    """
    shape = as_shape(shape, fewest=1)
    check_sizes(2, levels=levels)
    check_sizes(layers=layers, components=components)
    dim = math.prod(shape)
    if dim < 2:
        raise ValueError(f"shape: a coupling needs at least 2 numbers, got {shape}")
    nets, (net_key, order_key, raw_key) = Nets(hidden, dropout, activation, context_dim), jax.random.split(key, 3)

    def layer(key: Array, order: Array) -> IntegerCoupling:
        net = MLP(dim // 2, dim - dim // 2, **nets._asdict(), key=key)
        return IntegerCoupling(nets.bound(net), order, levels)

    orders = jax.vmap(lambda key: jax.random.permutation(key, dim))(jax.random.split(order_key, -(-layers // 2)))
    both = jnp.stack([orders, jnp.roll(orders, -(dim // 2), 1)], 1).reshape(-1, dim)[:layers]
    stacked = jax.vmap(layer)(jax.random.split(net_key, layers), both)
    head = DiscretizedLogisticMixtureHead(levels, components)
    raw = 0.5 * jax.random.normal(raw_key, (*shape, head.num_params))
    flow = IntegerFlow(IntegerLayers(stacked), raw, head)
    return ConditionalModel(flow, (context_dim,)) if context_dim else flow
