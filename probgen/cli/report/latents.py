"""What the latent variables of a model say of its rows."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen import plotting
from probgen.cli.report import pictures
from probgen.cli.report.findings import Finding, Item, Picture, Section, gathered
from probgen.cli.report.subject import Subject
from probgen.distributions import ConditionalModel
from probgen.evaluation import elbo_surgery
from probgen.latent.model import Latent, mean_of
from probgen.latent.monitor import kl_of_units

_ACTIVE = 0.01  # the variance of a mean above which a latent number is active
_SHOWN = 20  # rows that are reconstructed


def section(about: Subject) -> Section:
    """Return what latent variables say; nothing of models without any.

    Args:
        about: the model and its data.
    """
    parts = {
        "posterior means": lambda: _means(about),
        "divergences": lambda: _divergence(about),
        "divergences of latent numbers": lambda: _units(about),
        "parts of the bound": lambda: _surgery(about),
        "reconstructions": lambda: _reconstructions(about),
    }
    if isinstance(about.model, ConditionalModel):
        del parts["parts of the bound"]  # of which each context has its own
    if not about.are_images:
        del parts["reconstructions"]
    text = (
        "Each row is thought of as made from a code z, and the model's encoder says which codes a row may have: what "
        f"the codes of {len(about.chosen)} test rows look like."
    )
    return gathered("latent", "Latent variables", text, parts if isinstance(about.inner, Latent) else {})


def _at(about: Subject) -> tuple[Any, np.ndarray]:
    """Return the model, at contexts where it takes some, and its rows."""
    return (about.model(about.some[1]) if len(about.some) > 1 else about.model), about.some[0]


def _means(about: Subject) -> Iterator[Item]:
    model, x = _at(about)
    encode = jax.jit(lambda model, key, x: mean_of(model.encode(x), key))
    z = np.asarray(encode(model, jax.random.fold_in(about.key, 5), x)).reshape(len(x), -1)
    variance = z.var(0)
    active, size = int((variance > _ACTIVE).sum()), z.shape[1]
    meaning = f"Of {size} latent numbers, those whose posterior mean varies over rows by more than {_ACTIVE:g}."
    yield Finding("active_units", "latent numbers in use", active, "numbers", kind="exact", meaning=meaning)
    yield Finding("units", "latent numbers", size, "numbers", kind="exact")
    if size > 1:
        i, j = np.sort(np.argsort(-variance)[:2])
        labels = None if about.labels is None else about.labels[about.chosen]
        colours = "" if labels is None else ", coloured by the class of the row, which the model has not seen"
        if labels is not None and len(about.some) > 1:
            colours = ", coloured by the class of the row"
        caption = f"Posterior means of numbers {i + 1} and {j + 1} of z, which vary the most{colours}."
        axes = {"xlabel": f"number {i + 1} of z", "ylabel": f"number {j + 1} of z"}
        draw = lambda ax: plotting.latent_space(z[:, [i, j]], labels, size=10.0, ax=ax).set(**axes)
        yield Picture("latent_space", caption, pictures.of_axes(draw, width=4.8, height=4.4))


def _divergence(about: Subject) -> Iterator[Item]:
    model, x = _at(about)
    kl = np.asarray(jax.jit(lambda model, key, x: model.kl(key, x))(model, jax.random.fold_in(about.key, 6), x))
    error = float(kl.std(ddof=1) / np.sqrt(len(kl))) if len(kl) > 1 else None
    meaning = "How much the codes tell of a row: near 0 the model makes no use of them."
    yield Finding("kl", "KL(q(z | x) ‖ p(z))", float(kl.mean()), "nats/row", error, meaning=meaning)


def _units(about: Subject) -> Iterator[Item]:
    rows = about.some if len(about.some) > 1 else about.some[0]
    key = jax.random.fold_in(about.key, 7)
    each = np.ravel(jax.jit(kl_of_units)(about.model, key, jax.tree.map(jnp.asarray, rows)))
    label = "number of z, the most telling first"
    picture = pictures.bars(each, label=label, unit="KL, nats/row")
    yield Picture("kl_of_units", "What each latent number tells; those near 0 are not in use.", picture)


def _surgery(about: Subject) -> Iterator[Item]:
    found = elbo_surgery(about.model, about.some[0], key=jax.random.fold_in(about.key, 8))
    rows = found.rows
    for key, label, value, error, meaning in (
        ("elbo", "the ELBO", found.elbo, found.se_elbo, "The lower bound of log p that the model was trained by."),
        ("reconstruction", "its reconstruction, E[log p(x | z)]", found.reconstruction, found.se_reconstruction, ""),
        (
            "information",
            "less the information I(row; z)",
            found.information,
            found.se_information,
            f"How well a code tells which of {rows} rows it is of; at most log {rows} = {np.log(rows):.2f}, near which "
            "more rows would be needed.",
        ),
        (
            "marginal_kl",
            "less KL(q(z) ‖ p(z))",
            found.marginal_kl,
            found.se_marginal_kl,
            "How far the codes of all rows together are from the prior that draws are made from: the larger, the more "
            "draws come from places that no row uses.",
        ),
    ):
        yield Finding(key, label, value, "nats/row", error, meaning=meaning)


def _reconstructions(about: Subject) -> Iterator[Item]:
    model, x = _at(about)
    found = jax.jit(lambda model, key, x: model.reconstruct(key, x))(model, jax.random.fold_in(about.key, 9), x)
    shown = {"test rows": x[:_SHOWN], "their reconstructions": np.asarray(found)[:_SHOWN]}
    caption = "Rows, and the means of what the model makes of one code of each."
    yield Picture("reconstructions", caption, pictures.grids(shown, about.split.levels, columns=10))
