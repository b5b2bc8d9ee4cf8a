"""Wake–sleep: the guide learns by the other Kullback–Leibler divergence, from its own draws or from dreams."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array, lax
from numpyro import primitives
from numpyro.infer import elbo as numpyro_elbo

from probgen.core import check_sizes, logmeanexp, split_key
from probgen.inference.engine.differentiable import Differentiable
from probgen.inference.engine.plan import Static, mean_of_particles
from probgen.inference.engine.sites import Drawing, Recorded
from probgen.inference.engine.surrogate import Run
from probgen.inference.estimators.base import detached
from probgen.inference.estimators.use import use
from probgen.inference.objectives.dreams import AWAKE, Dream, dream_of
from probgen.inference.objectives.elbo import Pair, scaled_log_prob
from probgen.inference.objectives.importance import over_elements


class ReweightedWakeSleep(numpyro_elbo.ELBO):
    """Reweighted wake–sleep: maximum likelihood for the model, and for the guide KL(p ‖ q) with no gradient through any
    draw, so that sites may be discrete.

        wake-θ:   Σ_k w̃_k ∇_θ log p_θ(x, z_k),   z_k ~ q_φ(z | x),   w̃_k ∝ p_θ(x, z_k) / q_φ(z_k | x)
        wake-φ:   Σ_k w̃_k ∇_φ log q_φ(z_k | x)
        sleep-φ:  ∇_φ log q_φ(z | x),   (z, x) ~ p_θ, dreamt
        φ:        insomnia · wake-φ + (1 − insomnia) · sleep-φ

    Params learn by their role and not by their name: what the model's density says of them is wake-θ, what the guide's
    says is φ, and both are added where model and guide share some. Weights are normalized within each element of the
    plates that enclose all sites (a data plate), so that minibatches are right. The loss is −L_K, the
    importance-weighted bound; these gradients are not its.

    For a dream the observed sites are drawn, and the guide is called with them in place of the argument that each
    observes. A model that has only a bound is weighed by it, and dreamt of by its own sampler.

    Args:
        num_particles: K, how often the guide draws.
        insomnia: how much of the guide's gradient is of wake-φ, in [0, 1]; with 1 nothing is dreamt.
        vectorize_particles: True for `vmap`, False for `lax.map`, or a function `(f, keys) -> results`.
        dream: `(args, kwargs, drawn) -> (args, kwargs)`, the arguments of the guide in a dream, where they cannot be
            found; `drawn` holds the values of all sites, and the indices of plates with minibatches.

    Raises ValueError for insomnia outside [0, 1] and fewer than one particle; where a site names an estimator, which
    nothing would ask; where a plate with minibatches does not enclose all sites (of several particles); where an
    observed distribution cannot be sampled, is observed in a `scan`, or it cannot be found which argument it observes;
    and where guide and model do not match.

    References: Reweighted Wake-Sleep (Bornschein, Bengio 2015), arXiv:1406.2751; Revisiting Reweighted Wake-Sleep (Le,
    Kosiorek, Siddharth, Teh, Wood 2019), arXiv:1805.10469.

    >>> import jax, jax.numpy as jnp, numpyro, optax
    >>> import numpyro.distributions as dist
    >>> def model(x):
    ...     with numpyro.plate("data", len(x)):
    ...         z = numpyro.sample("z", dist.Bernoulli(0.5))
    ...         numpyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     slope, shift = numpyro.param("slope", 0.0), numpyro.param("shift", 0.0)
    ...     with numpyro.plate("data", len(x)):
    ...         numpyro.sample("z", dist.Bernoulli(logits=slope * x + shift))
    >>> svi = numpyro.infer.SVI(model, guide, optax.adam(0.05), ReweightedWakeSleep(5, insomnia=0.5))
    >>> params = svi.run(jax.random.key(0), 500, jnp.linspace(-2.0, 3.0, 100), progress_bar=False).params
    >>> abs(float(params["slope"]) - 1.0) < 0.2, abs(float(params["shift"]) + 0.5) < 0.2  # the posterior's logit, x − ½
    (True, True)
    """

    can_infer_discrete = True

    def __init__(
        self,
        num_particles: int = 5,
        insomnia: float = 1.0,
        vectorize_particles: bool | Callable = True,
        *,
        dream: Dream | None = None,
    ):
        check_sizes(num_particles=num_particles)
        if isinstance(insomnia, bool) or not isinstance(insomnia, int | float) or not 0 <= insomnia <= 1:
            raise ValueError(f"insomnia: expected a number in [0, 1], got {insomnia!r}")
        if dream is not None and (insomnia == 1 or not callable(dream)):
            why = "insomnia=1, with which nothing is dreamt" if callable(dream) else repr(dream)
            raise ValueError(f"dream: expected a function of args, kwargs and what was drawn, to dream, got {why}")
        self.insomnia, self.dream = insomnia, dream
        super().__init__(num_particles, vectorize_particles)

    def loss_with_mutable_state(
        self, rng_key: Array, param_map: dict[str, Any], model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Return `{"loss": −L_K, "mutable_state": …}`."""
        if any(isinstance(handler, use) and handler.estimators for handler in primitives._PYRO_STACK):
            raise ValueError(f"estimators: {type(self).__name__} has no gradient through draws, and asks for none")
        plate_key, wake_key, sleep_key = split_key(rng_key, (3,))
        pair = Waking(model, guide, args, kwargs, param_map, plate_key)
        bound, learned, mutables = self._wake(pair, wake_key)
        if self.insomnia < 1:
            learned = learned + (1 - self.insomnia) * _sleep(pair, sleep_key, self.dream)
        return {"loss": -(lax.stop_gradient(bound - learned) + learned), "mutable_state": mutables or None}

    def _wake(self, pair: "Waking", key: Array) -> tuple[Array, Array, dict]:
        """Return the bound, what is maximized on the guide's draws, and the programs' new state."""
        static: list[Static] = []

        def one(key: Array) -> Run:
            run, facts = pair(key, {}, {})
            static.append(facts)
            return run

        runs = self.vectorize_particles_fn(one, split_key(key, (self.num_particles,)))
        if self.num_particles > 1:
            terms, scale = over_elements(runs.terms, static[0].frames, static[0].plate_scales)
        else:  # there is nothing to weigh within elements
            terms, scale = {key: jnp.sum(term)[None] for key, term in runs.terms.items()}, 1.0
        total = lambda kind: sum((terms[key] for key in terms if key[0] == kind), start=jnp.zeros(()))
        log_p, log_q = total("p"), -total("q")
        log_w = lax.stop_gradient(log_p - log_q)
        share = jax.nn.softmax(log_w, 0)
        log = log_p + self.insomnia * log_q if self.insomnia else log_p
        learned = scale * jnp.sum(share * jnp.where(share > 0, log, 0.0))
        mutables = jax.tree.map(lambda x: mean_of_particles(x, 1), runs.mutables)
        return scale * jnp.sum(logmeanexp(log_w)), learned, mutables


class WakeSleep(ReweightedWakeSleep):
    """The wake–sleep algorithm: the model learns on one draw of the guide, the guide on one dream of the model.

        θ:  ∇_θ log p_θ(x, z),   z ~ q_φ(z | x);      φ:  ∇_φ log q_φ(z | x),   (z, x) ~ p_θ

    It is `ReweightedWakeSleep` of one particle and no insomnia. The loss is −ELBO. Dreams come from the model, so that
    the guide learns KL(p(z | x) ‖ q(z | x)) where the model's x are, which need not be where the data are.

    Args:
        dream: where dreams go, as there.

    References: The wake-sleep algorithm for unsupervised neural networks (Hinton, Dayan, Frey, Neal 1995).

    >>> objective = WakeSleep()
    """

    def __init__(self, *, dream: Dream | None = None):
        super().__init__(1, 0.0, dream=dream)


class Waking(Pair):
    """A guide that draws with its params held, and its log q and the model's log p at what it drew."""

    def _guide_trace(self, key: Array, drawing: Drawing) -> dict:
        drawn = self.trace(self.guide, key, detached(self.param_map))
        for name, site in drawn.items():
            if site["type"] == "sample" and site["infer"].get("estimator") is not None:
                raise ValueError(
                    f"site {name!r} names {site['infer']['estimator']}, which wake–sleep, with no gradient through "
                    "draws, would not ask: leave it out"
                )
        values = {name: site["value"] for name, site in drawn.items() if _is_latent(site)}
        return self.given(key, values, {name: x for name, x in values.items() if drawn[name].get("_control_flow_done")})

    def given(self, key: Array, values: dict[str, Array], inside: dict[str, Array]) -> dict:
        """Return the guide's trace at values; those `inside` reach into loops, and set plates."""
        guide = numpyro.handlers.substitute(self.guide, data=inside) if inside else self.guide
        with Recorded(values), Differentiable():
            return self.trace(guide, key, jax.tree.map(lambda x: x, self.param_map))


def _is_latent(site: dict) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _sleep(pair: Waking, key: Array, where: Dream | None) -> Array:
    """Return log q of what the model dreams, scaled."""
    dream_key, guide_key = split_key(key, (2,))
    dreamt = dream_of(pair, dream_key, where)
    asleep = Waking(pair.model, pair.guide, dreamt.args, dreamt.kwargs, pair.param_map, pair.plate_key)
    trace = asleep.given(guide_key, {}, {**dreamt.indices, **dreamt.latents})
    latents = {name: site for name, site in trace.items() if _is_latent(site)}
    for name in sorted(latents.keys() - dreamt.latents.keys()):
        raise ValueError(f"site {name!r} of the guide is not the model's, which cannot dream of it; {AWAKE}")
    return sum((jnp.sum(scaled_log_prob(site)) for site in latents.values()), start=jnp.zeros(()))
