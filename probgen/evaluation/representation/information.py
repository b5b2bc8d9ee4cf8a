"""What codes say of data: the terms of the ELBO, and bounds of mutual information."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import as_numbers, check_sizes, split_key
from probgen.distributions.events import rows_where_they_are, widened
from probgen.distributions.wrapped import kind_of, log_density


class Surgery(NamedTuple):
    """The terms of the ELBO that `elbo_surgery` found, in nats per row; `str` prints them.

    Attributes:
        elbo: reconstruction − information − marginal_kl.
        reconstruction: the mean of log p(x | z).
        information: I(n; z), which row z came from; at most log N.
        marginal_kl: KL(q(z) ‖ p(z)) of the aggregate posterior.
        se_elbo: the standard error of each, over rows and their draws of z.
        se_reconstruction: of the reconstruction.
        se_information: of the information.
        se_marginal_kl: of the marginal KL.
        rows: N.
    """

    elbo: float
    reconstruction: float
    information: float
    marginal_kl: float
    se_elbo: float
    se_reconstruction: float
    se_information: float
    se_marginal_kl: float
    rows: int

    def __str__(self) -> str:
        return (
            f"ELBO {self.elbo:.3f} ± {self.se_elbo:.3f} = reconstruction {self.reconstruction:.3f} ± "
            f"{self.se_reconstruction:.3f} − information {self.information:.3f} ± {self.se_information:.3f} − "
            f"KL(q(z) ‖ p(z)) {self.marginal_kl:.3f} ± {self.se_marginal_kl:.3f} nats "
            f"({self.rows} rows, information ≤ {math.log(self.rows):.3f})"
        )


def elbo_surgery(model: Any, data: Any, *, batch_size: int = 128, key: Array) -> Surgery:
    """Return what the ELBO of rows consists of, where the KL of a row is what z says of it and what all z together are
    off the prior.

        ELBO = 1/N Σ_n E[log p(x_n | z)] − I(n; z) − KL(q(z) ‖ p(z))
        I(n; z) = E[log q(z | x_n) − log q(z)],   q(z) = 1/N Σ_n q(z | x_n)

    Each expectation is taken at one and the same draw of z for each row, so that the terms sum to the ELBO whatever is
    drawn. q(z) is that of these rows alone: I is at most log N, and where it comes close, more rows would leave less
    for KL(q(z) ‖ p(z)). It takes N² densities q(z | x). `probgen.latent.mutual_information` is the middle term alone.

    Args:
        model: of batch shape (), with `latent_prior`, `encode` and `decode`, such as a `LatentVariableModel`; a
            conditional one at a context. A prior or a likelihood with a bound only is taken at its bound.
        data: x, [N, *event_shape].
        batch_size: rows at a time.
        key: a `jax.random.key`.

    Raises ValueError where the model has no such parts, or q has no exact density, or where there are no rows, or some
    that are no event of it.

    References: ELBO surgery: yet another way to carve up the variational evidence lower bound (Hoffman, Johnson 2016),
    NIPS workshop on advances in approximate Bayesian inference.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.latent import vae
    >>> model = vae((3,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> found = elbo_surgery(model, jnp.eye(3, dtype=int), key=jax.random.key(1))
    >>> abs(found.reconstruction - found.information - found.marginal_kl - found.elbo) < 1e-5
    True
    """
    check_sizes(batch_size=batch_size)
    if not all(hasattr(model, name) for name in ("latent_prior", "encode", "decode")):
        raise ValueError(
            "model: expected one with latent_prior, encode and decode, at a context if it takes one, "
            f"got a {type(model).__name__}"
        )
    (x,) = rows_where_they_are("data", model, data)
    terms = jax.jit(lambda model, key, x: _terms(model, key, widened(x), batch_size))(model, key, jnp.asarray(x))
    given_z, log_prior, log_q, log_mean_q = (np.asarray(term, np.float64) for term in terms)
    parts = given_z + log_prior - log_q, given_z, log_q - log_mean_q, log_mean_q - log_prior
    means = [float(part.mean()) for part in parts]
    errors = [float(part.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else math.nan for part in parts]
    return Surgery._make([*means, *errors, len(x)])


def _terms(model: Any, key: Array, x: Array, batch_size: int) -> tuple[Array, Array, Array, Array]:
    """Return log p(x | z), log p(z), log q(z | x) and log q(z) of each row, at a draw of z for each."""
    draw_key, prior_key, key = split_key(key, (3,))
    posteriors = model.encode(x)
    if kind_of(posteriors) != "exact":
        raise ValueError(f"model: expected a posterior with an exact density, got a {type(posteriors).__name__}")
    z = posteriors.sample(draw_key)

    def of_row(i: Array) -> tuple[Array, Array, Array]:
        log_q = posteriors.log_prob(z[i])  # of this z under the posterior of each row
        given_z = log_density(model.decode(z[i]), jax.random.fold_in(key, i), x[i])
        return given_z, log_q[i], jax.nn.logsumexp(log_q) - jnp.log(log_q.size)

    given_z, log_q, log_mean_q = lax.map(of_row, jnp.arange(len(x)), batch_size=batch_size)
    return given_z, log_density(model.latent_prior, prior_key, z), log_q, log_mean_q


class Information(NamedTuple):
    """A bound of mutual information; `str` prints it.

    Attributes:
        nats: the bound.
        se_nats: its standard error over pairs, with each one's part as another's contrast.
        sign: "≥" where the information is at least this, "≤" where it is at most this, in the mean.
        rows: K, of one block.
    """

    nats: float
    se_nats: float
    sign: str
    rows: int

    def __str__(self) -> str:
        return f"I {self.sign} {self.nats:.3f} ± {self.se_nats:.3f} nats ({self.rows} rows at a time)"


def infonce(scores: Any) -> Information:
    """Return the bound of InfoNCE: how well a critic finds the partner of each y among K.

        I(X; Y) ≥ 1/K Σ_i [f(x_i, y_i) − log 1/K Σ_j exp f(x_j, y_i)] ≤ log K

    It is steady, and never more than log K. The best critic is log p(y | x), up to what depends on y alone: with an
    encoder of known density it is `infonce(q.log_prob(z[:, None]))`, as `sandwich` has it.

    Args:
        scores: f(x_j, y_i) in row i and column j, [K, K], the pairs on the diagonal, K at least 2; or [B, K, K] of B
            blocks, whose mean it is.

    Raises ValueError where they are no such matrix, or some are NaN or ∞, or −∞ on the diagonal.

    References: Representation Learning with Contrastive Predictive Coding (van den Oord, Li, Vinyals 2018),
    arXiv:1807.03748; On Variational Bounds of Mutual Information (Poole, Ozair, van den Oord, Alemi, Tucker 2019),
    arXiv:1905.06922.

    >>> import numpy as np
    >>> print(infonce(np.log(np.eye(8) + 1e-9)))  # who is certain has log K
    I ≥ 2.079 ± 0.000 nats (8 rows at a time)
    """
    f, pairs = _as_scores(scores)
    total = _logsumexp(f, -1)
    terms = pairs - total + math.log(f.shape[-1])
    # one row more is one pair more, and one contrast more for each of the others
    return _bound(terms, terms - np.exp(f - total[..., None]).sum(-2), "≥", f.shape[-1])


def nwj(scores: Any) -> Information:
    """Return the bound of Nguyen, Wainwright and Jordan.

        I(X; Y) ≥ 1/K Σ_i f(x_i, y_i) − 1/(K (K − 1)) Σ_{i≠j} exp(f(x_j, y_i) − 1)

    It is tight where f = 1 + log p(y | x) / p(y), and has no ceiling; its variance grows as exp I.

    Args:
        scores: f(x_j, y_i), as for `infonce`; here all of f counts, and not only what depends on x.

    Raises ValueError as `infonce`.

    References: Estimating Divergence Functionals and the Likelihood Ratio by Convex Risk Minimization (Nguyen,
    Wainwright, Jordan 2010), arXiv:0809.0853; as a bound of information Poole et al. 2019, arXiv:1905.06922.

    >>> import numpy as np
    >>> print(nwj(np.ones((8, 8))))  # what is independent has f = 1, and no information
    I ≥ 0.000 ± 0.000 nats (8 rows at a time)
    """
    f, pairs = _as_scores(scores)
    count = f.shape[-1]
    with np.errstate(over="ignore"):
        contrasts = np.exp(_without_pairs(f) - 1.0)
    if not np.isfinite(contrasts).all():
        raise ValueError(f"scores: expected at most 700, whose exponential is finite, got {_without_pairs(f).max():g}")
    of_rows, of_columns = contrasts.sum(-1) / (count - 1), contrasts.sum(-2) / (count - 1)
    return _bound(pairs - of_rows, pairs - of_rows - of_columns, "≥", count)


def sandwich(log_q: Any) -> tuple[Information, Information]:
    """Return the information that z gives about x between two bounds, for an encoder of known density.

        E[1/K Σ_i log q(z_i | x_i) / (1/K Σ_j q(z_i | x_j))] ≤ I(X; Z)
            ≤ E[1/K Σ_i log q(z_i | x_i) / (1/(K−1) Σ_{j≠i} q(z_i | x_j))]

    The density of z is the mean over the other rows, with the row itself below, and without it above. Where exp I is
    far above K they are far apart, and below is near log K.

    Args:
        log_q: log q(z_i | x_j) in row i and column j, [K, K] or [B, K, K] of B blocks; with the posteriors `q` of K
            rows and a draw `z` of each, it is `q.log_prob(z[:, None])`.

    Raises ValueError as `infonce`.

    References: On Variational Bounds of Mutual Information (Poole, Ozair, van den Oord, Alemi, Tucker 2019),
    arXiv:1905.06922, section 2.5.

    >>> import jax
    >>> import numpyro.distributions as dist
    >>> x = jax.random.normal(jax.random.key(0), (500,))  # I = ½ log(1 + 1 / 0.5²) = 0.805
    >>> q = dist.Normal(x, 0.5)
    >>> lower, upper = sandwich(q.log_prob(q.sample(jax.random.key(1))[:, None]))
    >>> lower.nats < upper.nats, abs(lower.nats - 0.805) < 0.1, abs(upper.nats - 0.805) < 0.1
    (True, True, True)
    """
    f, pairs = _as_scores(log_q, "log_q")
    others = _without_pairs(f)
    total = _logsumexp(others, -1)
    if not np.isfinite(total).all():
        raise ValueError("log_q: expected each z to be possible under another row, got one that is not: I ≤ ∞")
    terms = pairs - total + math.log(f.shape[-1] - 1)
    return infonce(f), _bound(terms, terms - np.exp(others - total[..., None]).sum(-2), "≤", f.shape[-1])


def _bound(terms: np.ndarray, influence: np.ndarray, sign: str, rows: int) -> Information:
    """Return the mean of the terms, with the standard error by how much each row moves the whole."""
    return Information(float(terms.mean()), float(influence.std(ddof=1) / math.sqrt(influence.size)), sign, rows)


def _as_scores(scores: Any, name: str = "scores") -> tuple[np.ndarray, np.ndarray]:
    """Return blocks [B, K, K] and their diagonals [B, K]."""
    f = np.asarray(as_numbers(name, scores), np.float64)
    if f.ndim not in (2, 3) or f.shape[-1] != f.shape[-2] or f.shape[-1] < 2 or not f.size:
        raise ValueError(f"{name}: expected [K, K] or [B, K, K] with K of at least 2, got shape {f.shape}")
    f = f.reshape(-1, *f.shape[-2:])
    pairs = np.diagonal(f, axis1=-2, axis2=-1)
    if np.isnan(f).any() or np.isposinf(f).any() or not np.isfinite(pairs).all():
        raise ValueError(f"{name}: expected finite numbers, or −∞ off the diagonal, got others")
    return f, pairs


def _without_pairs(f: np.ndarray) -> np.ndarray:
    return np.where(np.eye(f.shape[-1], dtype=bool), -np.inf, f)


def _logsumexp(f: np.ndarray, axis: int) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(f, axis=axis))
