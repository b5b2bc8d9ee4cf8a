"""The evidence lower bound, with an estimator of its own at every site."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions.util import scale_and_mask
from numpyro.infer import elbo as numpyro_elbo

from probgen.core import check_flags, check_sizes, split_key
from probgen.distributions.wrapped import is_masked, unmasked
from probgen.inference.engine.differentiable import Differentiable
from probgen.inference.engine.plan import Plan, Static, Values, estimate, make_plan
from probgen.inference.engine.sites import Drawing, Recorded, Site
from probgen.inference.engine.surrogate import Key, Run, to_plates
from probgen.inference.estimators.base import Estimator, detached
from probgen.inference.estimators.path import Pathwise
from probgen.inference.estimators.use import state_site
from probgen.inference.objectives.divergence import closed_kl
from probgen.inference.objectives.match import check_match


class ELBO(numpyro_elbo.ELBO):
    """The evidence lower bound of a numpyro program and its guide, for `SVI`, `fit` and whatever takes a numpyro
    objective.

        ELBO = E_{z ~ q_φ} [log p_θ(x, z) − log q_φ(z)] ≤ log p_θ(x)

    The loss is −ELBO, estimated with K particles; its gradient passes every random site of the guide by the estimator
    that `infer={"estimator": …}` or `estimators.use` names, or else by the best unbiased one. Score terms take log q
    unscaled and unmasked, costs scaled and masked, and only those that the site flows into, plate by plate. All
    particles see one minibatch, and the model sees the guide's.

    Args:
        num_particles: K; at least as many as the estimators need (two for leave-one-out) are taken.
        vectorize_particles: True for `vmap`, False for `lax.map`, or a function `(f, keys) -> results`.
        analytic_kl: take KL(q ‖ p) of a site in closed form where numpyro knows it and it is right: where p's
            parameters depend on neither the site nor what the guide draws after it. A site of several layers, whose
            distribution q has `kl_of_layers(p, value, intermediates) -> [*batch, L]` (KL(q_l ‖ p_l) given the drawn
            layers before l), has a term for each layer.

    Raises ValueError for a number of particles below one; and, naming the site and what would serve, where an estimator
    does not fit, or guide and model do not match: in their sites, plates, shapes or supports.

    References: Automated Variational Inference in Probabilistic Programming (Wingate, Weber 2013), arXiv:1301.1299;
    Black Box Variational Inference (Ranganath, Gerrish, Blei 2014), arXiv:1401.0118; Storchastic (van Krieken,
    Tomczak, ten Teije 2021), arXiv:2104.00428.

    >>> import jax, numpyro, optax
    >>> import numpyro.distributions as dist
    >>> from numpyro.infer import SVI
    >>> def model():
    ...     z = numpyro.sample("z", dist.Bernoulli(0.5))
    ...     numpyro.sample("x", dist.Normal(z, 1.0), obs=2.0)
    >>> def guide():
    ...     numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logit", 0.0)))
    >>> result = SVI(model, guide, optax.adam(0.1), ELBO()).run(jax.random.key(0), 300, progress_bar=False)
    >>> float(result.params["logit"].round(2))  # the posterior's logit is 1.5
    1.5
    """

    can_infer_discrete = True
    scheduled = False  # whether it needs to know the step

    def __init__(
        self, num_particles: int = 1, vectorize_particles: bool | Callable = True, *, analytic_kl: bool = True
    ):
        check_sizes(num_particles=num_particles)
        check_flags(analytic_kl=analytic_kl)
        self.analytic_kl = analytic_kl
        super().__init__(num_particles, vectorize_particles)

    def plan(
        self, rng_key: Array, param_map: dict[str, Any], model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Plan:
        """Return what would be done: the sites, their estimators and why, what flows where. Nothing is computed."""
        plate_key, key = split_key(rng_key, (2,))
        return make_plan(Pair(model, guide, args, kwargs, param_map, plate_key), key)

    def loss_with_mutable_state(
        self, rng_key: Array, param_map: dict[str, Any], model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Return `{"loss": −ELBO, "mutable_state": …}`; the loss is the bound, whatever its gradient's estimators
        add."""
        plate_key, key = split_key(rng_key, (2,))
        plan = make_plan(Pair(model, guide, args, kwargs, param_map, plate_key), key)
        found = estimate(
            plan, key, self.num_particles, self.vectorize_particles_fn, self.coefficients, self.terms(plan)
        )
        total = lambda terms: sum(terms.values(), start=jnp.zeros(()))
        terms, weights = found.values.terms, found.weights
        objective = total({name: weights.get(name, 1.0) * term for name, term in terms.items()}) + found.score
        if weights:  # what is trained is not the bound, but what is reported is
            objective = objective + lax.stop_gradient(total(terms) - objective)
        states = {state_site(name): state for name, state in found.states.items()}
        return {"loss": -objective, "mutable_state": {**found.values.mutables, **states} or None}

    def coefficients(self, values: Values) -> Mapping[Key, Any]:
        """Return weights of terms in the gradient; those that are not named weigh 1."""
        return {}

    def terms(self, plan: Plan) -> list[Key]:
        """Return the keys of the terms: for each site its KL in closed form, of each layer, or its log p and log q."""
        terms = plan.graph.frames
        kls = [key for key in terms if key[0] == "kl"]
        closed = {key[1] for key in kls} - {key[1] for key in kls if not self._is_right(plan, key)}
        return [key for key in terms if (key[0] == "kl") == (key[1] in closed)]

    def _is_right(self, plan: Plan, key: Key) -> bool:
        """Return whether a KL depends on neither the site nor its descendants in the guide; that of a layer depends on
        the layers before it, and on them alone."""
        graph, name = plan.graph, key[1]
        later = {other for other, parents in graph.parents.items() if name in parents} - {name}
        itself = {name} if len(key) == 2 else set()
        return self.analytic_kl and not graph.flows[key] & (later | itself)


class Pair:
    """A guide and a model as one program of a particle, for the engine of estimators."""

    def __init__(
        self, model: Callable, guide: Callable, args: tuple, kwargs: dict, param_map: dict[str, Any], plate_key: Array
    ):
        self.model, self.guide, self.args, self.kwargs = model, guide, args, kwargs
        self.param_map, self.plate_key = param_map, plate_key

    def __call__(self, key: Array, decided: Mapping[str, Estimator], values: Mapping[str, Array]) -> tuple[Run, Static]:
        """Return the terms of one particle."""
        drawing = Drawing(decided, values)
        guide, model, mutables = self._traces(key, drawing)
        check_match(model, guide)
        self._hold_params(key, drawing, guide)
        scales = {name: _plate_scale(site) for name, site in {**model, **guide}.items() if site["type"] == "plate"}
        sample = lambda trace: {name: site for name, site in trace.items() if site["type"] == "sample"}
        guide, model = sample(guide), sample(model)
        frames = {("p", name): tuple(site["cond_indep_stack"]) for name, site in model.items()}
        frames |= {("q", name): tuple(site["cond_indep_stack"]) for name, site in guide.items()}
        frames |= {("kl", name): frames["q", name] for name in guide if name in model}
        rank = max([-frame.dim for stack in frames.values() for frame in stack], default=0)

        run = Run({}, {}, {}, {}, {}, mutables)
        for name, site in model.items():
            run.terms["p", name] = to_plates(scaled_log_prob(site), frames["p", name], rank)
        for name, site in guide.items():
            drawn = drawing.sites.get(name)
            run.terms["q", name] = self._guide_term(run, drawn, site, rank)
            for kl, term in _closed(name, site, model.get(name), drawn).items():
                run.terms[kl] = to_plates(term, frames["kl", name], rank)
        return run, Static(drawing.sites, {term: frames[term[0], term[1]] for term in run.terms}, scales)

    def _traces(self, key: Array, drawing: Drawing) -> tuple[dict, dict, dict]:
        """Return the guide's trace, the model's on the guide's values, and the mutable state that they leave."""
        guide_key, model_key = split_key(key, (2,))
        guide = self._guide_trace(guide_key, drawing)
        mutables = {name: site["value"] for name, site in guide.items() if site["type"] == "mutable"}
        replayed = numpyro.handlers.replay(self.model, guide)
        with Differentiable():
            try:
                model = self.trace(replayed, model_key, {**self.param_map, **mutables})
            except (TypeError, ValueError):  # JAX's words for shapes; the model's own trace tells where they differ
                check_match(self.trace(self.model, model_key, {**self.param_map, **mutables}), guide)
                raise
        mutables |= {name: site["value"] for name, site in model.items() if site["type"] == "mutable"}
        return guide, model, jax.tree.map(jnp.asarray, mutables)

    def _guide_trace(self, key: Array, drawing: Drawing) -> dict:
        """Return the guide's trace, its sites drawn as their estimators ask."""
        with drawing:
            guide = self.trace(self.guide, key, self.param_map)
        drawing.check_names()
        return guide

    def _hold_params(self, key: Array, drawing: Drawing, guide: dict) -> None:
        """Give the sites whose log q is to be taken with params held such a distribution, by a second run."""
        names = [name for name, site in drawing.sites.items() if site.estimator.holds_params]
        if not names:
            return
        values = {name: guide[name]["value"] for name, site in drawing.sites.items() if not site.scanned}
        with Recorded(values), Differentiable():
            held = self.trace(self.guide, split_key(key, (2,))[0], detached(self.param_map))
        for name in names:  # (what the draw left behind for log q depends on the params)
            guide[name] = {**guide[name], "fn": held[name]["fn"], "intermediates": []}

    def trace(self, program: Callable, key: Array, params: dict[str, Any]) -> dict:
        """Return the trace of a program, this guide, this model or another, on the arguments."""
        # plates have a key of their own, the same for all particles, for guide and model
        plates = numpyro.handlers.seed(program, self.plate_key, hide_types=["sample", "prng_key", "control_flow"])
        seeded = numpyro.handlers.seed(plates, key)
        return numpyro.handlers.trace(numpyro.handlers.substitute(seeded, data=params)).get_trace(
            *self.args, **self.kwargs
        )

    def _guide_term(self, run: Run, drawn: Site | None, site: dict, rank: int) -> Array:
        """Return −log q, and write down what the site's estimator asks for beside it."""
        own = tuple(site["cond_indep_stack"])
        if drawn is None:  # observed, or given from outside
            return -to_plates(scaled_log_prob(site), own, rank)
        log_q = _log_prob(site)
        plain = unmasked(site["fn"]).log_prob(site["value"]) if is_masked(site["fn"]) else log_q
        run.log_q[drawn.name] = to_plates(plain, own, rank)
        run.scales[drawn.name] = _scale(site, rank)
        if drawn.estimator.scored:
            self._beside(run, drawn, site, rank)
        return -to_plates(scale_and_mask(log_q, site["scale"]), own, rank)

    def _beside(self, run: Run, drawn: Site, site: dict, rank: int) -> None:
        """Write down a site's estimator's state, and what the estimator wants to know."""
        name, estimator = drawn.name, drawn.estimator
        run.states[name] = run.mutables.pop(state_site(name), None)
        prediction = site["infer"].get("prediction")
        if not site["infer"].get("registered") and _keeps(estimator):
            raise ValueError(
                f"site {name!r}: {estimator} keeps something from step to step: wrap the guide that SVI is given, "
                "estimators.use(guide), or hold `with estimators.use({...})` open around svi.init too"
            )
        observed = estimator.observe(drawn.fn, lax.stop_gradient(site["value"]))
        extra = observed if prediction is None else prediction
        if extra is not None:
            run.extras[name] = to_plates(extra, drawn.frames, rank)


def _plate_scale(site: dict) -> float:
    """Return how many elements of the plate one of the minibatch stands for."""
    size, subsample = site["args"]
    return size / subsample if subsample else 1.0


def _keeps(estimator: Estimator) -> bool:
    return estimator.init_state() is not None or estimator.learns


def _log_prob(site: dict) -> Array:
    return (
        site["fn"].log_prob(site["value"], site["intermediates"])
        if site["intermediates"]
        else site["fn"].log_prob(site["value"])
    )


def scaled_log_prob(site: dict) -> Array:
    """Return the log-density of a site, scaled and masked."""
    return scale_and_mask(_log_prob(site), site["scale"])


def _scale(site: dict, rank: int) -> Array:
    """Return the scale as a number over the plates; one per row of a plate is no unit for a baseline."""
    scale = 1.0 if site["scale"] is None or jnp.ndim(site["scale"]) else site["scale"]
    return jnp.asarray(scale, float).reshape((1,) * rank)


def _closed(name: str, site: dict, model_site: dict | None, drawn: Site | None) -> dict[Key, Array]:
    """Return −KL(q ‖ p), scaled, in one term or one for each layer; none where it is not known, or weighed differently
    in guide and model."""
    if model_site is None or drawn is None or drawn.scanned or not drawn.estimator.closed_form:
        return {}
    if set(site["cond_indep_stack"]) != set(model_site["cond_indep_stack"]) or not _same(
        site["scale"], model_site["scale"]
    ):
        return {}
    scaled = lambda kl: -scale_and_mask(kl, site["scale"])
    if (layers := _kl_of_layers(site, model_site["fn"], drawn)) is not None:
        return {("kl", name, layer): scaled(layers[..., layer]) for layer in range(layers.shape[-1])}
    whole = closed_kl(site["fn"], model_site["fn"])
    return {} if whole is None else {("kl", name): scaled(whole)}


def _kl_of_layers(site: dict, p: dist.Distribution, drawn: Site) -> Array | None:
    """Return KL(q_l ‖ p_l) of each layer given those before it, [*batch, L], where q knows it and draws by the path."""
    known = getattr(site["fn"], "kl_of_layers", None)
    if known is None or not isinstance(drawn.estimator, Pathwise) or is_masked(p):
        return None
    return known(p, site["value"], site["intermediates"])


def _same(a: Any, b: Any) -> bool:
    """Return whether two scales are known to be the same."""
    if a is b:
        return True
    known = not any(x is None or isinstance(x, jax.core.Tracer) for x in (a, b))
    return known and bool(np.array_equal(a, b))
