"""A program's densities by those whose gradients are right everywhere."""

from typing import Any

from numpyro.primitives import Messenger

from probgen.distributions import differentiable


class Differentiable(Messenger):
    """A handler that replaces every site's distribution by its `differentiable` one, and refuses latent sites inside of
    a `cond`."""

    within = ""  # which control flow has run last

    def process_message(self, msg: Any) -> None:
        """Replace one site's distribution."""
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
