"""Guidance: denoisers around denoisers, whose scores are sums of scores.

A sum of scores at λ is the score of a product of noised laws, and what is wanted is the noised law of their product.
The two agree at the data's end, where there is no noise, and at the noise's; between them they differ, but where a
docstring below says that they do not. Draws therefore have a law that no formula names. It is still the law of a
`ScoreModel` with the guided denoiser, and the bound of that model bounds it, not the unguided model's density.
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import (
    as_numbers,
    check_functions,
    check_interval,
    check_numbers,
    given,
    in_words,
    recipe,
    static_functions,
)
from probgen.distributions import ConditionalModel
from probgen.score.denoiser import Denoiser
from probgen.score.dropped_context import DroppingContext
from probgen.score.masked_diffusion import MaskedDiffusion
from probgen.score.score_model import ScoreModel
from probgen.score.sde import coefficients


def _number(x: Any) -> Array:
    return jnp.asarray(as_numbers("weight", x), float)


def _check_weight(weight: Array) -> None:
    if weight.shape:
        raise ValueError(f"weight: expected one number, got {in_words(weight)}")
    check_numbers(weight=weight)


class ClassifierGuidance(Denoiser):
    """A denoiser drawn to where a classifier finds what is wanted.

        ∇ log p(z) + w ∇ log p(y | z),   x̂ + w σ²/α ∇ log p(y | z)

    With w = 1 and the classifier of the model's own noised draws it is exactly the denoiser of p(x | y).

    Args:
        denoiser: z, λ ↦ x̂.
        log_prob: log p(y | z) of the y that is wanted, in nats: any callable pytree of (z, λ), trained on data with
            noise, z = α x + σ ε.
        weight: w, one number.

    Raises ValueError where the weight is none.

    References: Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol 2021), arXiv:2105.05233.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser
    >>> prior = GaussianDenoiser(jnp.array(0.0), jnp.array(1.0))
    >>> to_the_right = ClassifierGuidance(prior, lambda z, log_snr: jax.nn.log_sigmoid(4.0 * z).sum())
    >>> bool(to_the_right(jnp.zeros(1), jnp.array(0.0)) > prior(jnp.zeros(1), jnp.array(0.0)))
    True
    """

    coherent: ClassVar[bool] = False
    denoiser: Denoiser
    log_prob: Any = eqx.field(converter=static_functions)
    weight: Array = given(default=1.0, converter=_number)

    def __check_init__(self) -> None:
        check_functions("log p(y | z)", log_prob=self.log_prob)
        _check_weight(self.weight)

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z], guided."""
        alpha, sigma = coefficients(log_snr)
        return self.denoiser(z, log_snr) + sigma**2 / alpha * self._push(z, log_snr)

    def noise(self, z: Array, log_snr: Array) -> Array:
        """Return E[ε | z], guided."""
        return self.denoiser.noise(z, log_snr) - coefficients(log_snr)[1] * self._push(z, log_snr)

    def _push(self, z: Array, log_snr: Array) -> Array:
        """Return w ∇ log p(y | z)."""
        return self.weight * jax.grad(lambda z: self.log_prob(z, log_snr))(z)


class ClassifierFreeGuidance(Denoiser):
    """A conditional denoiser, moved on from what it says without its context.

        x̂ = x̂(z) + w (x̂(z | c) − x̂(z)),   that is  ∇ log p(z) + w ∇ log p(c | z)

    w = 1 is the conditional denoiser and w = 0 that without; the paper's weight is w − 1. Where λ is outside of the
    interval it is the conditional denoiser, at half the cost. The rescaled form gives x̂ the standard deviation, over
    the numbers of an event, that it has without guidance: x̂ (φ sd(x̂(z | c)) / sd(x̂) + 1 − φ).

    Args:
        denoiser: a conditional one that has learned with and without its context, such as a `NetworkDenoiser` with
            `drop_context`: it has `without_context`.
        weight: w, one number.
        interval: the least and the largest λ at which guidance acts; everywhere by default.
        rescale: φ in [0, 1].

    Raises ValueError where the denoiser takes no context, or learned none without; where an argument is out of its
    range, or `rescale` meets events of one number; and where a key is bound for training: the model is trained first.

    References: Classifier-Free Diffusion Guidance (Ho, Salimans 2022), arXiv:2207.12598; Applying Guidance in a Limited
    Interval Improves Sample and Distribution Quality in Diffusion Models (Kynkäänniemi, Aittala, Karras, Laine, Aila,
    Lehtinen 2024), arXiv:2404.07724; Common Diffusion Noise Schedules and Sample Steps Are Flawed (Lin, Liu, Li, Yang
    2023), arXiv:2305.08891, section 3.4.

    >>> import jax
    >>> from probgen.score import vp_score
    >>> conditional = vp_score((2,), width=8, depth=1, context_dim=3, drop_context=0.1, key=jax.random.key(0))
    >>> ClassifierFreeGuidance(conditional.model.denoiser, 2.0, interval=(-2.0, 3.0)).weight.item()
    2.0
    """

    coherent: ClassVar[bool] = False
    denoiser: Denoiser
    weight: Array = given(converter=_number)
    interval: tuple[float, float] | None = eqx.field(static=True, default=None, kw_only=True)
    rescale: float = eqx.field(static=True, default=0.0, kw_only=True)

    def __check_init__(self) -> None:
        self.denoiser.without_context()
        _check_weight(self.weight)
        if self.interval is not None:
            check_interval(interval=self.interval)
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale: expected a number in [0, 1], got {self.rescale}")

    @property
    def is_random(self) -> bool:
        """True, so that training calls `bind_key`."""
        return True

    def bind_key(self, key: Array) -> Denoiser:
        """Raise ValueError: what learns is the conditional model."""
        raise ValueError("a guided model does not learn: train the conditional model, and guide what comes of it")

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z], guided."""
        if self.interval is None:
            return self._guided(z, log_snr)
        low, high = self.interval
        plain = lambda z: self.denoiser(z, log_snr)
        return lax.cond((low <= log_snr) & (log_snr <= high), lambda z: self._guided(z, log_snr), plain, z)

    def _guided(self, z: Array, log_snr: Array) -> Array:
        inside, outside = _side_by_side(self.denoiser, self.denoiser.without_context(), z, log_snr)
        x = outside + self.weight * (inside - outside)
        if self.rescale == 0.0:
            return x
        if z.size == 1:
            raise ValueError("rescale: expected events of several numbers, over which there is a deviation, got one")
        spread = jnp.std(x)
        ratio = jnp.where(spread > 0, jnp.std(inside) / jnp.where(spread > 0, spread, 1.0), 1.0)
        return x * (self.rescale * ratio + 1.0 - self.rescale)


def _side_by_side(one: Denoiser, other: Denoiser, z: Array, log_snr: Array) -> Array:
    """Return the x̂ of two denoisers, stacked; where they differ in some arrays alone, the network is compiled, and the
    weights that they share are read, once."""
    same: bool = jax.tree.structure(one) == jax.tree.structure(other)  # type: ignore[operator]
    if not same:
        return jnp.stack([one.checked(z, log_snr), other.checked(z, log_snr)])
    shared = jax.tree.map(lambda a, b: a if a is b else None, one, other)
    own = jax.tree.map(lambda a, b: None if a is b else jnp.stack([a, b]), one, other)
    return jax.vmap(lambda own: eqx.combine(own, shared).checked(z, log_snr), axis_size=2)(own)


class GuidedLogits(eqx.Module):
    """A conditional network of logits, moved on from what it says without its context: raw + w (raw_c − raw).

    Args:
        network: a conditional one that has learned with and without its context, a `DroppingContext`.
        weight: w, one number.

    Raises ValueError where the network is another, the weight no number, or a key is bound for training.
    """

    network: Any
    weight: Array = given(converter=_number)

    def __check_init__(self) -> None:
        if not isinstance(self.network, DroppingContext):
            raise ValueError(
                "network: expected one that also learned from rows without their contexts, got one that never saw any; "
                "make and train the model with drop_context=0.1, say"
            )
        self.network.without_context()
        _check_weight(self.weight)

    @property
    def is_random(self) -> bool:
        """True, so that training calls `bind_key`."""
        return True

    def bind_key(self, key: Array) -> Denoiser:
        """Raise ValueError: what learns is the conditional model."""
        raise ValueError("a guided model does not learn: train the conditional model, and guide what comes of it")

    def __call__(self, x: Array) -> Array:
        """Return the raw numbers, guided."""
        inside, outside = self.network(x), self.network.without_context()(x)
        return outside + self.weight * (inside - outside)


class ProductOfExperts(Denoiser):
    """Denoisers put together by the sum of their scores: conjunctions, and negations by a negative weight.

        p(x) ∝ p_0(x) Π_i (p_i(x) / p_0(x))^{w_i},   x̂ = x̂_0 + Σ_i w_i (x̂_i − x̂_0)

    With the denoiser of all data for p_0 and those at contexts c_i for p_i it is the conjunction of the c_i, as far as
    they are independent given x. With `GaussianDenoiser(0, 1)` for p_0, to which all laws come at the noise's end, it
    is the product of unconditional experts, over the normal. It is exact at the data's end; at all λ, too, where each
    p_i differs from p_0 in numbers of x of its own, which are independent of the others.

    Args:
        base: of p_0.
        experts: of the p_i.
        weights: w, [len(experts)]; 1 by default.

    Raises ValueError where there are no experts, or not as many weights.

    References: Compositional Visual Generation with Composable Diffusion Models (Liu, Li, Du, Torralba, Tenenbaum
    2022), arXiv:2206.01714; where it fails, Reduce, Reuse, Recycle (Du et al. 2023), arXiv:2302.11552.

    >>> import jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser
    >>> normal = lambda *loc: GaussianDenoiser(jnp.array(loc), jnp.array(1.0))
    >>> both = ProductOfExperts(normal(0.0, 0.0), (normal(1.0, 0.0), normal(0.0, 2.0)))
    >>> both(jnp.zeros(2), jnp.array(-80.0)).tolist()
    [1.0, 2.0]
    """

    coherent: ClassVar[bool] = False
    base: Denoiser
    experts: tuple[Denoiser, ...] = eqx.field(converter=tuple)
    weights: Array = given(default=1.0, converter=_number)

    def __check_init__(self) -> None:
        if not self.experts or jnp.shape(self.weights) not in ((), (len(self.experts),)):
            raise ValueError(
                f"experts, weights: expected at least one, and as many, "
                f"got {len(self.experts)} and {in_words(self.weights)}"
            )
        check_numbers(weights=self.weights)

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z], as the sum of scores has it."""
        return self._summed([d(z, log_snr) for d in (self.base, *self.experts)])

    def noise(self, z: Array, log_snr: Array) -> Array:
        """Return E[ε | z], as the sum of scores has it."""
        return self._summed([d.noise(z, log_snr) for d in (self.base, *self.experts)])

    def _summed(self, found: list[Array]) -> Array:
        base, experts = found[0], jnp.stack(found[1:])
        weights = jnp.broadcast_to(self.weights, len(self.experts)).astype(base.dtype)
        return base + jnp.tensordot(weights, experts - base, 1)


@recipe
def guided(
    conditional: ConditionalModel,
    *,
    weight: float = 2.0,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> ConditionalModel:
    """A conditional model with classifier-free guidance: `guided(conditional)(context)` draws guided events.

    Those of a `ScoreModel` follow the guided law by every sampler. So do `encode`, `decode` and `log_prob_ode`, the
    density of what the ODE draws. `log_prob_bound` bounds the law of the guided draws, which is neither the conditional
    model's p(x | c) nor p(x) p(c | x)^w: compare models by the bounds of the unguided ones. `exact_by` raises, since
    the guided score is not that of a density. Of a `MaskedDiffusion` it is the logits that are moved on, and all that
    it has goes by them:

        log p_w(x_i | known) = log p(x_i | known) + w (log p(x_i | known, c) − log p(x_i | known)) + const

    Args:
        conditional: of a `ScoreModel` or a `MaskedDiffusion` trained with `drop_context`.
        weight: w, of `ClassifierFreeGuidance`.
        interval: the least and the largest λ at which guidance acts; everywhere by default, and always of masks.
        rescale: φ in [0, 1]; 0 of masks.

    Raises ValueError where the model is no such conditional one, or was made without `drop_context`, or an argument is
    out of its range.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import vp_score
    >>> conditional = vp_score((2,), width=8, depth=1, context_dim=3, drop_context=0.1, key=jax.random.key(0))
    >>> guided(conditional, weight=3.0)(jnp.eye(3)).sample(jax.random.key(1), (5,)).shape
    (5, 3, 2)
    """
    if not isinstance(conditional, ConditionalModel):
        raise ValueError(f"conditional: expected a ConditionalModel of a ScoreModel, got {in_words(conditional)}")
    model: Any = conditional.model
    part: dict[str, Any]
    if isinstance(model, MaskedDiffusion):
        if interval is not None or rescale != 0.0:
            raise ValueError(f"interval, rescale: expected none with masks, got {interval} and {rescale}")
        part = {"network": GuidedLogits(model.network, _number(weight))}
    elif isinstance(model, ScoreModel):
        part = {"denoiser": ClassifierFreeGuidance(model.denoiser, _number(weight), interval=interval, rescale=rescale)}
    else:
        raise ValueError(f"conditional: expected one of a ScoreModel, got one of {in_words(model)}")
    return dataclasses.replace(conditional, model=model.replace(**part, recipe=None), recipe=None)
