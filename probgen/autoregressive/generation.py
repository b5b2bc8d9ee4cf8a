"""Draws that are not the model's: sharper, or without its unlikely symbols. They never touch a density."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.autoregressive.autoregressive import Autoregressive
from probgen.autoregressive.partial import Completion
from probgen.core import check_sizes
from probgen.distributions import ConditionalModel, Distribution
from probgen.distributions.conditionals import AtContext
from probgen.distributions.heads import Head


class _Sharpened(eqx.Module):
    """A head of integers whose distributions are raised to a power and cut."""

    head: Head
    temperature: float = eqx.field(static=True)
    top_k: int | None = eqx.field(static=True)
    top_p: float | None = eqx.field(static=True)

    @property
    def num_params(self) -> int:
        return self.head.num_params

    def __call__(self, raw: Array) -> dist.Distribution:
        whole = self.head(raw)
        levels = jnp.arange(_levels(whole.support)).reshape(-1, *[1] * len(whole.batch_shape))
        logits = jnp.moveaxis(whole.log_prob(levels), 0, -1)
        logits = (logits - jnp.max(logits, -1, keepdims=True)) / self.temperature
        ranks = jnp.argsort(jnp.argsort(-logits, -1), -1)
        if self.top_k is not None:
            logits = jnp.where(ranks < self.top_k, logits, -jnp.inf)
        if self.top_p is not None:
            sorted_ = -jnp.sort(-jax.nn.softmax(logits, -1), -1)
            enough = jnp.cumsum(sorted_, -1) - sorted_ < self.top_p  # always the first
            logits = jnp.where(jnp.take_along_axis(enough, ranks, -1), logits, -jnp.inf)
        return dist.Categorical(logits=logits)


def generate(
    model: Distribution,
    key: Array,
    sample_shape: tuple[int, ...] = (),
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """Draw [*sample_shape, *batch, *event] from conditionals that are sharpened or cut, number by number.

        q(x_i | x_{<i}) ∝ p(x_i | x_{<i})^(1 / temperature),   over the `top_k` likeliest values, or over as few of them
        as have together a probability of at least `top_p`

    q is another distribution than the model, which is why this is no option of `sample`: its draws are no sample of the
    model, and no `log_prob` here is theirs. With all options at rest they are.

    Args:
        model: an `Autoregressive` of integers, its completion (`given`), or a conditional one that was called.
        key: the randomness.
        sample_shape: the shape in front of the model's.
        temperature: more than 0; below 1 draws are sharper.
        top_k: how many of the likeliest values may be drawn; all by default.
        top_p: the probability, in (0, 1], that the values which may be drawn have together; all by default.

    Raises ValueError where the model is another or over reals, or an option is out of range.

    References: The Curious Case of Neural Text Degeneration (Holtzman, Buys, Du, Forbes, Choi 2020), arXiv:1904.09751.

    >>> import jax, probgen
    >>> model = probgen.autoregressive.char_rnn(4, 5, width=8, key=jax.random.key(0))
    >>> words = generate(model, jax.random.key(1), (3,), temperature=0.8, top_k=2)
    >>> words.shape, bool((generate(model, jax.random.key(2), (3,), top_k=1) == words[0]).all())
    ((3, 4), False)
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected more than 0, got {temperature}")
    if top_k is not None:
        check_sizes(top_k=top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], got {top_p}")
    return _sharpened(model, float(temperature), top_k, top_p).sample(key, sample_shape)


def _levels(support: constraints.Constraint) -> int:
    if support is constraints.boolean:
        return 2
    if isinstance(support, type(constraints.integer_interval(0, 1))) and support.lower_bound == 0:
        return int(support.upper_bound) + 1
    raise ValueError(f"model: expected one of integers 0..levels−1, got one over {support}")


def _sharpened(model: Any, *options: Any) -> Any:
    if isinstance(model, AtContext | Completion):
        return model.replace(model=_sharpened(model.model, *options))
    if isinstance(model, ConditionalModel):
        raise ValueError("model: call the conditional model with a context first")
    if not isinstance(model, Autoregressive):
        raise ValueError(f"model: expected an autoregressive model, got a {type(model).__name__}")
    _levels(model.support.base_constraint)
    return model.replace(head=_Sharpened(model.head, *options))
