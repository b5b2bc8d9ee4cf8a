"""A diffusion model as what it is at a finite number of steps: a latent-variable model whose posterior is fixed."""

from collections.abc import Callable

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

from probgen.core import vectorize
from probgen.score.score_model import ScoreModel
from probgen.score.sde import coefficients, posterior


class MarkovChain:
    """The numpyro program and guide of a `stepwise` score model: a hierarchy of T + 1 latent variables.

        program: z_T ~ Normal(0, I),   z_s | z_t ~ q(z_s | z_t, v = x̂(z_t)),   x | z_0 ~ the decoder
        guide:   z_T | x ~ Normal(α_T v, σ_T² I),   z_s | z_t, x ~ q(z_s | z_t, v)
        q(z_s | z_t, v) = Normal(α_s (z_t (1 − c) / α_t + c v), c σ_s² I),   c = 1 − exp(λ_t − λ_s)

    with z at unit scale. Its ELBO is the model's bound, and the KL of each layer is ½ (e^{λ_s} − e^{λ_t}) ‖v − x̂‖².
    The guide has no parameters. The sites are called `z0` to `z{T}`, each drawn for all rows of a plate `data`.

    Args:
        model: a `ScoreModel` with `stepwise`, of whose sampler the steps are.

    Raises ValueError for another.

    References: Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein, Weiss, Maheswaranathan,
    Ganguli 2015), arXiv:1503.03585; Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239.

    >>> import jax, numpyro
    >>> from probgen.score import Ancestral, GaussianDenoiser, LinearLogSNR
    >>> exact = GaussianDenoiser(jnp.array(0.0), jnp.array(1.0))
    >>> chain = MarkovChain(ScoreModel(exact, LinearLogSNR(), (2,), sampler=Ancestral(3), stepwise=True))
    >>> loss = numpyro.infer.Trace_ELBO().loss(jax.random.key(0), {}, chain.program, chain.guide, jnp.zeros((5, 2)))
    """

    def __init__(self, model: ScoreModel):
        if not (isinstance(model, ScoreModel) and model.stepwise):
            raise ValueError(f"model: expected a ScoreModel with stepwise=True, got {type(model).__name__}")
        self.model = model
        self.log_snrs = model.sde.log_snr(model.step_times()[::-1])  # of z_0 to z_T

    def program(self, x: Array) -> None:
        """Observe rows [N, *event_shape]."""
        model, last = self.model, len(self.log_snrs) - 1
        denoise = lambda z, i: self._rows(lambda z: model.denoiser.checked(z, self.log_snrs[i]), z)
        with numpyro.plate("data", len(x)):
            normal = dist.Normal(jnp.zeros(model.event_shape), 1.0).expand((len(x), *model.event_shape))
            z = numpyro.sample(f"z{last}", normal.to_event(model.event_dim))
            for i in reversed(range(last)):
                z = numpyro.sample(f"z{i}", self._layer(i, z, denoise(z, i + 1)))
            decoded = model.decoder(z, denoise(z, 0), self.log_snrs[0])
            numpyro.sample("x", decoded.to_event(model.event_dim), obs=x)

    def guide(self, x: Array) -> None:
        """Draw the latent variables of rows, by adding noise to them."""
        v, last = self.model.decoder.place(x), len(self.log_snrs) - 1
        alpha, sigma = coefficients(self.log_snrs[last])
        with numpyro.plate("data", len(x)):
            z = numpyro.sample(f"z{last}", dist.Normal(alpha * v, sigma).to_event(self.model.event_dim))
            for i in reversed(range(last)):
                z = numpyro.sample(f"z{i}", self._layer(i, z, v))

    def _layer(self, i: int, z: Array, v: Array) -> dist.Distribution:
        """Return q(z_i | z_{i+1}, v)."""
        log_snr, noisier = self.log_snrs[i], self.log_snrs[i + 1]
        mean, spread = posterior(v, z, coefficients(noisier)[0], coefficients(log_snr), log_snr - noisier)
        return dist.Normal(mean, spread).to_event(self.model.event_dim)

    def _rows(self, function: Callable[[Array], Array], z: Array) -> Array:
        return vectorize(function, self.model.event_dim)(z)
