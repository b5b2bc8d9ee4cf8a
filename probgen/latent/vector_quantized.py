"""VQ-VAE: latent codes out of a learned codebook."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.core import (
    DensityKind,
    bind,
    check_instances,
    check_not_negative,
    check_sizes,
    split_key,
    weakest,
)
from probgen.distributions import Model, lifted, verb
from probgen.distributions.coding import Message, coded
from probgen.distributions.in_blocks import map_particles
from probgen.distributions.supports import check_within, leaves
from probgen.distributions.wrapped import kind_of, log_density
from probgen.latent.model import ElboTerms, likelihood_code, mean_of

_Conditional = Callable[[Array], dist.Distribution]


class Quantized(NamedTuple):
    """What the encoder says of one x.

    Attributes:
        vectors: z_e, [*code_shape, dim].
        codes: z*, the number of the nearest code to each, [*code_shape].
        nearest: e_{z*}, those codes, [*code_shape, dim].
    """

    vectors: Array
    codes: Array
    nearest: Array


class VectorQuantized(Model):
    """VQ-VAE: z are the numbers of the codes in a codebook e that lie nearest to what an encoder says of x.

        z*_i = argmin_k |z_e(x)_i − e_k|²,   log p(x) ≥ log p(x | e_{z*}) + log p(z*)

    The posterior is a point on a discrete set, so that this is an honest bound. What is trained on is, with sg the
    stopped gradient and β the commitment,

        loss = −log p(x | z_e + sg[e_{z*} − z_e]) − log p(z*) + β |z_e − sg[e_{z*}]|²,

    no less than −bound. Its gradient takes the nearest code for the encoder's vector itself (straight-through): it is
    BIASED, as `unbiased` says. The codebook is state: `update`, which `fit` calls after each step, moves each code
    towards the mean of the n_k vectors of a batch that are nearest to it,

        N_k ← γ N_k + (1 − γ) n_k,   e_k ← (γ N_k e_k + (1 − γ) Σ z_e) / N_k,

    and puts one that is hardly used, of N_k below `least` times their mean, where a vector of the batch is far from the
    codes in use. In the first batch that is done with all of them.

    Args:
        prior: of z, of integers 0..codes−1 of `code_shape`: uniform at first; afterwards `model.replace(prior=…)` takes
            one that was fitted to `model.encode(x)`, such as a `made` or a PixelCNN.
        encoder: x [*event_shape] → z_e [*code_shape, dim], any callable pytree.
        likelihood: [..., *code_shape, dim] → distribution of x (a `Conditional`, any callable pytree).
        codebook: e, [codes, dim], where it begins.
        counts: N, [codes]; zeros by default, with which the first batch sets the codebook.
        commitment: β, in nats for a squared length of one.
        decay: γ, of the moving averages.
        least: the least share of the mean use that a code may have.
        context_shape: the shape of one context where parts are `Contextual`; wrap the model in a `ConditionalModel`
            then.

    Raises ValueError where the parts' shapes do not fit, or an option is out of its range.

    References: Neural Discrete Representation Learning (van den Oord, Vinyals, Kavukcuoglu 2017), arXiv:1711.00937;
    the moving averages are its Appendix A.1, as in Generating Diverse High-Fidelity Images with VQ-VAE-2 (Razavi, van
    den Oord, Vinyals 2019), arXiv:1906.00446; codes come back as in Jukebox (Dhariwal et al. 2020), arXiv:2005.00341,
    but drawn by their squared distance (k-means++, Arthur and Vassilvitskii 2007).

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.latent.vq_vae((4, 4), 17, codes=8, code_shape=(2, 2), dim=3, hidden=(8,), key=jax.random.key(0))
    >>> x = jax.random.randint(jax.random.key(1), (64, 4, 4), 0, 17)
    >>> model = probgen.fit(model, x, steps=5, key=jax.random.key(2), progress=False).model
    >>> model.encode(x).shape, model.log_prob_bound(jax.random.key(3), x).shape
    ((64, 2, 2), (64,))
    """

    pytree_data_fields = ("codebook", "counts", "encoder", "likelihood", "prior")
    pytree_aux_fields = ("commitment", "context_shape", "decay", "least", "likelihood_kind")
    state_fields = ("codebook", "counts")
    unbiased: ClassVar[bool] = False

    def __init__(
        self,
        prior: dist.Distribution,
        encoder: Any,
        likelihood: _Conditional,
        codebook: Array,
        counts: Array | None = None,
        *,
        commitment: float = 1.0,
        decay: float = 0.95,
        least: float = 0.05,
        context_shape: tuple[int, ...] | None = None,
        validate_args: bool | None = None,
    ):
        check_instances(prior=prior, encoder=encoder, likelihood=likelihood)
        check_not_negative(commitment=commitment, decay=decay, least=least)
        if decay >= 1 or least >= 1:
            raise ValueError(f"decay, least: expected numbers in [0, 1), got {decay} and {least}")
        self.codebook = jnp.asarray(codebook, float)
        if self.codebook.ndim != 2 or not self.codebook.size:
            raise ValueError(f"codebook: expected [codes, dim], got shape {self.codebook.shape}")
        self.counts = jnp.zeros(len(self.codebook)) if counts is None else jnp.asarray(counts, float)
        if self.counts.shape != self.codebook.shape[:1]:
            raise ValueError(f"counts: expected [{len(self.codebook)}], got shape {self.counts.shape}")
        self._check_prior(prior)
        self.prior, self.encoder, self.likelihood = prior, encoder, likelihood
        self.commitment, self.decay, self.least = float(commitment), float(decay), float(least)
        self.context_shape = context_shape
        given_z = self._likelihood_of_zeros(likelihood)
        if given_z.batch_shape:
            raise ValueError(
                f"likelihood: expected batch shape () for one z, got {given_z.batch_shape}; use .to_event()"
            )
        self.likelihood_kind: DensityKind = kind_of(given_z)
        super().__init__(given_z.event_shape, validate_args=validate_args)

    def _check_prior(self, prior: dist.Distribution) -> None:
        if prior.batch_shape:
            raise ValueError(f"prior: expected batch shape (), got {prior.batch_shape}; use .to_event()")
        codes = constraints.integer_interval(0, self.codebook.shape[-2] - 1)
        if leaves(prior.support, codes) or leaves(codes, prior.support):
            raise ValueError(f"prior: expected one of integers {codes}, got one on {prior.support}")

    def _likelihood_of_zeros(self, likelihood: Any) -> dist.Distribution:
        if self.context_shape is not None:  # what is read of it depends on no context
            likelihood = bind(likelihood, jnp.zeros(self.context_shape))
        return likelihood(jnp.zeros((*self.prior.event_shape, self.codebook.shape[-1])))

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The kind "bound", unless a part has an estimate only."""
        return weakest("bound", kind_of(self.prior), self.likelihood_kind)

    @property
    def random_bound(self) -> bool:  # type: ignore[override]
        """Whether prior or likelihood have a bound only: the posterior is a point."""
        return {kind_of(self.prior), self.likelihood_kind} != {"exact"}

    @property
    def support(self) -> constraints.Constraint:
        """The likelihood's support."""
        return self._likelihood_of_zeros(self._first().likelihood).support

    def replace(self, **fields: Any) -> Self:
        """Return the same model with other values of some fields. Raises ValueError where a prior does not fit."""
        if "prior" in fields:
            self._check_prior(fields["prior"])
            if fields["prior"].event_shape != self.prior.event_shape:
                raise ValueError(
                    f"prior: expected event shape {self.prior.event_shape}, got {fields['prior'].event_shape}"
                )
        new = super().replace(**fields)
        if "likelihood" in fields:  # known only by running it, which `kind` is asked for too often to do
            new.likelihood_kind = kind_of(new._likelihood_of_zeros(new._first().likelihood))
        return new

    def sample_event(self, key: Array) -> Array:
        """Draw codes from the prior, then x from the likelihood."""
        code_key, key = jax.random.split(key)
        return self.likelihood(self.codebook[self.prior.sample(code_key)]).sample(key)

    def _quantized(self, x: Array) -> Quantized:
        shape = (*self.prior.event_shape, self.codebook.shape[-1])
        vectors = self.encoder(x)
        if vectors.size != math.prod(shape):
            raise ValueError(f"encoder: expected {shape} numbers for one x, got an output of shape {vectors.shape}")
        vectors = vectors.reshape(shape)
        codes = _nearest(vectors, self.codebook)
        return Quantized(vectors, codes, self.codebook[codes])

    def _terms(self, key: Array, x: Array, codes: Array, z: Array) -> ElboTerms:
        prior_key, likelihood_key = (jax.random.fold_in(key, i) for i in (1, 2))
        given_z = log_density(self.likelihood(z), likelihood_key, x)
        return ElboTerms(given_z, -log_density(self.prior, prior_key, codes), None)

    def _log_joint(self, key: Array, x: Array, codes: Array, z: Array) -> Array:
        terms = self._terms(key, x, codes, z)
        return terms.log_likelihood - terms.kl

    @lifted("key", "event")
    def _bound(self, key: Array, x: Array) -> Array:
        _, codes, nearest = self._quantized(x)
        return self._log_joint(key, x, codes, nearest)

    @lifted("key", "event")
    def _loss(self, key: Array, x: Array) -> Array:
        vectors, codes, nearest = self._quantized(x)
        straight_through = vectors + lax.stop_gradient(nearest - vectors)
        miss = jnp.sum((vectors - lax.stop_gradient(nearest)) ** 2)
        return self.commitment * miss - self._log_joint(key, x, codes, straight_through)

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        return self._averaged(self._bound, key, value, num_particles)

    def _training_loss(self, key: Array, value: Array, num_particles: int) -> Array:
        return self._averaged(self._loss, key, value, num_particles)

    def _averaged(self, function: Callable[..., Array], key: Array, value: Array, num_particles: int) -> Array:
        keys = split_key(key, (num_particles if self.random_bound else 1,))
        return jnp.mean(map_particles(lambda k: function(k, value), (keys,), value.size), 0)

    @lifted("event", within=True)
    def quantize(self, x: Array) -> Quantized:
        """Return the encoder's vectors for rows [..., *event_shape], the numbers of the nearest codes, and those
        codes."""
        return self._quantized(x)

    @lifted("event", within=True)
    def encode(self, x: Array) -> Array:
        """Return the codes z* of rows [..., *event_shape], integers [..., *code_shape]."""
        return self._quantized(x).codes

    @verb
    def decode(self, z: Array) -> dist.Distribution:
        """Return the likelihood p(x | z) of codes [..., *code_shape], of batch shape [...]; at contexts, of a row for
        each."""
        z, shape = jnp.asarray(z), self.prior.event_shape
        if z.shape[z.ndim - len(shape) :] != shape or not jnp.issubdtype(z.dtype, jnp.integer):
            raise ValueError(f"z: expected integers [..., {', '.join(map(str, shape))}], got {z.dtype} {z.shape}")
        check_within("z", z, self._first().prior)
        likelihood: dist.Distribution = self._at_rows(lambda d, z: d.likelihood(d.codebook[z]), z)
        return likelihood

    @lifted("event", within=True)
    def reconstruct(self, x: Array) -> Array:
        """Return E[x' | z*] for each row, [..., *event_shape]; of 64 draws where it has no closed form."""
        return mean_of(self.likelihood(self._quantized(x).nearest), jax.random.key(1))

    @lifted("event", "event", within=True)
    def interpolate(self, x: Array, y: Array, *, steps: int = 8) -> Array:
        """Return E[x' | z] at the codes nearest to the line from z_e(x) to z_e(y), [..., steps, *event_shape].

        Args:
            x: where the line begins, [..., *event_shape].
            y: where it ends, [..., *event_shape].
            steps: how many points it has, the ends among them; at least 2.
        """
        check_sizes(2, steps=steps)
        start, end = self._quantized(x).vectors, self._quantized(y).vectors
        at = lambda t: self.codebook[_nearest(start + t * (end - start), self.codebook)]
        return jax.vmap(lambda t: mean_of(self.likelihood(at(t)), jax.random.key(1)))(jnp.linspace(0.0, 1.0, steps))

    @lifted("key", "event", within=True)
    def elbo_terms(self, key: Array, x: Array) -> ElboTerms:
        """Return what the bound of each row consists of, in nats: log p(x | z*), and −log p(z*) as the KL, for the
        posterior is a point."""
        _, codes, nearest = self._quantized(x)
        return self._terms(key, x, codes, nearest)

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, *event_shape]: x by p(x | z*), then the codes z* by p(z*); they are what z says, so that
        no bits come back."""
        z = np.asarray(_codes(self, x))
        likelihood_code(self, z).push(message, x)
        _prior_code(self, message.lanes).push(message, z)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape]."""
        z = _prior_code(self, message.lanes).pop(message)
        x: np.ndarray = likelihood_code(self, z).pop(message)
        return x

    @verb
    def perplexity(self, x: Array) -> Array:
        """Return exp H of how often each code stands for rows x, all places together: from 1 to the number of codes."""
        codes = self.encode(x).ravel()
        share = jnp.bincount(codes, length=len(self.codebook)) / codes.size
        return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))

    @verb
    def update(self, batch: Array, key: Array) -> Self:
        """Return the model with its codebook moved by rows [N, *event_shape], and codes of little use put anew."""
        found = self.quantize(batch)
        vectors = found.vectors.reshape(-1, self.codebook.shape[1])
        codebook, counts = _moved(self.codebook, self.counts, vectors, found.codes.ravel(), self.decay)
        unused = (self.counts == 0) | (counts < self.least * jnp.mean(counts))
        put = lambda: jnp.where(unused[:, None], _far_away(codebook, unused, vectors, key), codebook)
        codebook = lax.cond(unused.any(), put, lambda: codebook)
        return self.replace(codebook=codebook, counts=jnp.where(unused, jnp.mean(counts), counts))


def _prior_code(model: Any, lanes: int) -> Any:
    prior = model._at_rows(lambda d: d.prior) if model._varies(model._first().prior) else model._first().prior
    return coded(prior, (lanes,))


@jax.jit
def _codes(model: Any, x: Array) -> Array:
    codes: Array = model.encode(x).astype(jnp.int32)
    return codes


def _nearest(vectors: Array, codebook: Array) -> Array:
    # |z − e|² without |z|², which all codes share: one product of matrices
    return jnp.argmin(jnp.sum(codebook**2, -1) - 2.0 * vectors @ codebook.T, -1)


def _moved(codebook: Array, counts: Array, vectors: Array, codes: Array, decay: float) -> tuple[Array, Array]:
    """Return e and N after one step of the moving averages."""
    sums = jax.ops.segment_sum(vectors, codes, len(codebook))
    new = decay * counts + (1 - decay) * jnp.bincount(codes, length=len(codebook))
    total = decay * counts[:, None] * codebook + (1 - decay) * sums
    return jnp.where(new[:, None] > 0, total / jnp.where(new > 0, new, 1.0)[:, None], codebook), new


def _far_away(codebook: Array, unused: Array, vectors: Array, key: Array) -> Array:
    """Return as many vectors as there are codes, drawn without replacement by their squared distance to the nearest
    code in use; evenly, where none is."""
    used = jnp.where(unused[:, None], jnp.inf, codebook)
    distance = jax.vmap(lambda z: jnp.min(jnp.sum((z - used) ** 2, -1)))(vectors)
    log_weight = jnp.where(unused.all(), 0.0, jnp.log(distance))
    _, order = lax.top_k(log_weight + jax.random.gumbel(key, log_weight.shape), min(len(codebook), len(vectors)))
    return vectors[jnp.resize(order, (len(codebook),))]
