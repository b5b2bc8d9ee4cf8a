"""What a latent-variable model's latent numbers say of data: functions of (model, key, rows), such as `fit` watches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import in_words
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.distributions.supports import check_within
from probgen.latent.model import Latent, mean_of


def active_units(model: Any, key: Array, rows: Any, *, least: float = 0.01) -> Array:
    """Return how many latent numbers are active: those of which the posterior's mean differs from row to row.

        Σ_i [Var_x E_q[z_i | x] > 0.01]

    Args:
        model: a `LatentVariableModel`, or a `ConditionalModel` of one.
        key: draws the posterior's means where they are not known, 64 times for each row.
        rows: x, [N, *event_shape]; (x, contexts) of a `ConditionalModel`.
        least: the variance above which a number is active.

    Raises ValueError where the model has no posterior, or there are no rows, or some that are no events of the model.

    References: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov 2016), arXiv:1509.00519.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> int(active_units(model, jax.random.key(1), jnp.eye(3, dtype=int)))
    0
    """
    q = _posterior(model, rows)
    return jnp.sum(jnp.var(mean_of(q, key), 0) > least)


def kl_of_units(model: Any, key: Array, rows: Any) -> Array:
    """Return the mean KL(q(z_i | x) ‖ p(z_i)) of each latent number, in nats, [*latent_shape].

    What is near zero says nothing of x.

    Args:
        model: a `LatentVariableModel`, or a `ConditionalModel` of one.
        key: draws what else `elbo_terms` tells.
        rows: x, [N, *event_shape]; (x, contexts) of a `ConditionalModel`.

    Raises ValueError where the model has no posterior, where there are no rows, or some that are no events of the
    model, or where prior and posterior are no products of numbers whose KL is known in closed form.

    References: Auto-Encoding Variational Bayes (Kingma, Welling 2014), arXiv:1312.6114.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> kl_of_units(model, jax.random.key(1), jnp.eye(3, dtype=int)).shape
    (2,)
    """
    at, x = _at_rows(model, rows)
    each = at.elbo_terms(key, x).kl_of_each
    if each is None:
        raise ValueError(
            "model: expected a prior and a posterior of independent numbers whose KL has a closed form; "
            "model.kl(key, x) is there for all of them together"
        )
    return each.mean(0)


def mutual_information(model: Any, key: Array, rows: Any) -> Array:
    """Return the information that z gives about which row it came from, in nats.

        I_q(x; z) = E[log q(z | x) − log q(z)],   q(z) = 1/N Σ_n q(z | x_n),   z ~ q(z | x)

    At one draw for each row; at most log N, so that rows have to be many more than exp I. With the mean of `kl` it
    tells how far q(z) is from the prior: KL(q(z) ‖ p(z)) = E_x KL(q(z | x) ‖ p(z)) − I_q(x; z). It takes N² densities.

    Args:
        model: a `LatentVariableModel`, or a `ConditionalModel` of one.
        key: draws z.
        rows: x, [N, *event_shape]; (x, contexts) of a `ConditionalModel`.

    Raises ValueError where the model has no posterior, or there are no rows, or some that are no events of the model.

    References: ELBO surgery: yet another way to carve up the variational evidence lower bound (Hoffman, Johnson 2016);
    Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He, Spokoyny, Neubig,
    Berg-Kirkpatrick 2019), arXiv:1901.05534.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> bool(abs(mutual_information(model, jax.random.key(1), jnp.eye(3, dtype=int))) < 0.1)
    True
    """
    q = _posterior(model, rows)
    z = q.sample(key)

    def information(i: Array) -> Array:
        log_q = q.log_prob(z[i])  # of this z under the posterior of each row
        return log_q[i] - jax.nn.logsumexp(log_q) + jnp.log(log_q.size)

    return lax.map(information, jnp.arange(len(z))).mean()


def _at_rows(model: Any, rows: Any) -> tuple[Any, Array]:
    """Return the model, at its contexts where it takes some, and rows x [N, *event_shape]."""
    inner = inner_model(model)
    if not isinstance(inner, Latent):
        raise ValueError(
            "model: expected one with a posterior of each row, such as a LatentVariableModel, "
            f"got a {type(inner).__name__}"
        )
    if isinstance(model, ConditionalModel):
        if not (isinstance(rows, tuple) and len(rows) == 2):
            raise ValueError(f"rows: expected (x, contexts), got {in_words(rows)}")
        model, rows = model(rows[1]), rows[0]
    x, event = jnp.asarray(rows), inner.event_shape
    if x.shape[1:] != event or not x.size:
        raise ValueError(f"rows: expected [N, {', '.join(map(str, event))}] of at least one row, got shape {x.shape}")
    check_within("rows", x, inner)
    return model, x


def _posterior(model: Any, rows: Any) -> dist.Distribution:
    at, x = _at_rows(model, rows)
    posteriors: dist.Distribution = at.encode(x)
    return posteriors
