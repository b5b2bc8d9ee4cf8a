"""What has to be the same where a file is read: the model, the machine, the versions."""

import base64
import hashlib
import json
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen.core.files import to_numpy
from probgen.core.leaves import leaves_by_path
from probgen.core.settings import settings
from probgen.distributions.conditionals import inner_model

_FORMAT = 4


def identity(model: Any) -> dict[str, Any]:
    """Return what has to be the same where a file is read.

    Args:
        model: of the codec.
    """
    return {
        "format": _FORMAT,
        "event_shape": list(inner_model(model).event_shape),
        "model": fingerprint(model),
        "machine": machine(),
    }


def check_identity(facts: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise ValueError where a file's facts are not ours: it names the first. The machine of a portable file may be
    another one.

    Args:
        facts: of the file; where they say nothing of it, that it is not portable is added.
        ours: an `identity`.
    """
    portable = facts.setdefault("portable", False)
    if not isinstance(portable, bool):
        raise ValueError(f"the file's header is damaged: its portable is {portable!r}")
    for name, here in ours.items():
        if facts.get(name) != here and not (portable and name == "machine"):
            raise ValueError(f"the file's {name} is {facts.get(name)!r}, and here it is {here!r}")


def fingerprint(model: Any) -> str:
    """Return 128 bits of the SHA-256 of all numbers of a model, by their paths, and of its settings, in base64: equal
    where the model is the same, in whatever precision its numbers are kept.

    Args:
        model: any model.

    >>> import jax, probgen
    >>> make = lambda seed: probgen.autoregressive.made((3,), 2, hidden=(4,), key=jax.random.key(seed))
    >>> fingerprint(make(0)) == fingerprint(make(0)), fingerprint(make(0)) == fingerprint(make(1))
    (True, False)
    """
    digest = hashlib.sha256(json.dumps(settings(model), sort_keys=True).encode())
    for path, leaf in sorted(leaves_by_path(model).items()):
        array = to_numpy(leaf)
        array = array.astype("<f8") if np.issubdtype(array.dtype, np.floating) else array
        digest.update(f"{path} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return base64.b64encode(digest.digest()[:16]).decode().rstrip("=")


def machine() -> dict[str, str]:
    """Return what the numbers of a program depend on: versions, device, width of floats."""
    device = jax.devices()[0]
    return {
        "constriction": version("constriction"),
        "numpy": np.__version__,
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "device": f"{device.platform} {device.device_kind}",
        "floats": jnp.zeros(()).dtype.name,
    }
