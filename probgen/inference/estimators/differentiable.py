"""Densities whose gradients are right everywhere."""

import copy
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from numpyro.primitives import Messenger

_WRAPPERS = (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)
_CLIPPED = (dist.BernoulliLogits, dist.BinomialLogits)


def differentiable(fn: dist.Distribution) -> dist.Distribution:
    """The same distribution, moved by less than rounding where its log-density has a wrong derivative.

    numpyro writes the log-density of Bernoulli and Binomial logits with `clip(x, 0)` and `|x|`, whose derivatives at
    x = 0 add up to −0 and −1 instead of −½ each: a guide whose logits start at zero would get a false gradient.

    >>> import jax, numpyro.distributions as dist
    >>> float(jax.grad(lambda x: differentiable(dist.Bernoulli(logits=x)).log_prob(1))(0.0))
    0.5
    """
    if isinstance(fn, _WRAPPERS):
        inner = differentiable(fn.base_dist)
        if inner is fn.base_dist:
            return fn
        moved = copy.copy(fn)
        moved.base_dist = inner
        return moved
    if isinstance(fn, _CLIPPED):
        moved = copy.copy(fn)
        logits = jnp.asarray(fn.logits)
        tiny = 1e3 * jnp.finfo(logits.dtype).tiny
        moved.logits = logits + lax.stop_gradient(jnp.where(logits == 0, tiny, 0).astype(logits.dtype))
        return moved
    return fn


class Differentiable(Messenger):
    """Every site of a program by its `differentiable` distribution; latent sites inside of a `cond` are refused."""

    within = ""  # which control flow has run last

    def process_message(self, msg: Any) -> None:
        """Replace one site's."""
        if msg["type"] == "control_flow":
            self.within = msg["fn"].__name__
        if msg["type"] != "sample":
            return
        if msg.get("_control_flow_done") and not msg["is_observed"] and self.within.startswith("cond"):
            raise ValueError(
                f"site {msg['name']!r} is drawn inside a cond, where numpyro cannot give it the guide's value: "
                "draw it outside, and choose by jnp.where"
            )
        msg["fn"] = differentiable(msg["fn"])
