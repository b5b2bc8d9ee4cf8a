"""Where the numbers of a numpyro program come from, read off its jaxpr."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.primitives import Messenger

from probgen.distributions.wrapped import family
from probgen.inference.engine.provenance import mark


class Marks(Messenger):
    """Mark the latent values, the params and the indices of the plates of a program with the names of their sites.

    For abstract runs only: a param is replaced by zeros, since the value that it begins with says nothing of those
    that it will have; so is a latent value that cannot be drawn.
    """

    def process_message(self, msg: Any) -> None:
        """Stand in for a draw that there is not."""
        if msg["type"] == "sample" and msg["value"] is None and isinstance(family(msg["fn"]), dist.ImproperUniform):
            msg["value"] = jnp.zeros(msg["fn"].shape(msg["kwargs"]["sample_shape"]))

    def postprocess_message(self, msg: Any) -> None:
        """Mark a value."""
        name = msg.get("name")
        if msg["type"] == "param":
            blank = lambda x: mark(name, jnp.zeros(jnp.shape(x), jnp.result_type(x)))
            msg["value"] = jax.tree.map(blank, msg["value"])
        elif msg["type"] == "plate" or (msg["type"] == "sample" and not msg["is_observed"]):
            msg["value"] = mark(name, msg["value"])
