"""How likely the test rows are, and whether they are typical of the model; and the rows at both ends."""

from collections.abc import Iterator

import numpy as np

from probgen import plotting
from probgen.cli.report import pictures
from probgen.cli.report.findings import Finding, Item, Listing, Picture, Section, gathered, in_digits
from probgen.cli.report.subject import Subject
from probgen.core.density import DensityKind
from probgen.evaluation import typicality_test

_ENDS = 16  # rows that are shown at each end
_SHOWN = 8  # numbers of a row that is no picture

_CLAIMS: dict[DensityKind, str] = {
    "exact": "This model has an exact density (=): the number is its likelihood itself, and the only error is that "
    "other test rows would have given another mean.",
    "weights": "This model's density is known by importance weights (≤): in the mean, the true −log p is at most the "
    "number, and more particles come closer to it.",
    "bound": "Of this model's density only a bound is known (≤): in the mean, the true −log p is at most the number. "
    "How far below, nothing here can say.",
    "estimate": "This model's density comes of a solver or a random trace (≈): it is near the number, on neither side "
    "of it for certain.",
}


def kind_of(about: Subject) -> DensityKind:
    """Return what kind of number a −log p of the model is.

    Args:
        about: the model and its data.
    """
    return "estimate" if about.evaluation.sign == "≈" else about.evaluation.kind


def section(about: Subject) -> Section:
    """Return the numbers and the histogram of −log p.

    Args:
        about: the model and its data.
    """
    text = (
        f"{_CLAIMS[kind_of(about)]} Less is better. Two standard errors on either side hold the mean of all rows of "
        "this kind with a probability of about 95 %."
    )
    parts = {
        "likelihood": lambda: _test(about),
        "training rows": lambda: _training(about),
        "entropy": lambda: _entropy(about),
        "histogram": lambda: _histogram(about),
        "typicality": lambda: _typicality(about),
    }
    return gathered("likelihood", "How likely the test rows are", text, parts)


def _test(about: Subject) -> Iterator[Item]:
    found, kind = about.evaluation, kind_of(about)
    per_number = f"A row's −log₂ p over the {found.event_size} numbers that it has: "
    if about.split.levels:
        per_number += "what each takes in a file by this model."
    else:
        per_number += "of a density, it depends on the unit of the data, and compares models of the same data only."
    yield Finding(
        "bits_per_dim",
        "−log p of the test rows, per number",
        found.bits_per_dim,
        "bits/dim",
        found.se,
        kind,
        per_number,
    )
    yield Finding("nats", "−log p of the test rows", found.nats, "nats/row", found.se_nats, kind, "The same per row.")
    yield Finding("rows", "test rows", found.rows, "rows", kind="exact")
    if about.particles > 1:
        yield Finding("particles", "particles of the bound", about.particles, "particles/row", kind="exact")
    if found.tolerance:
        meaning = "How far a step of the solver may be off."
        yield Finding("tolerance", "tolerance", found.tolerance, "nats", kind="exact", meaning=meaning)
    if impossible := int(np.isinf(_costs(about)[0]).sum()):
        meaning = "The model gives them probability 0, so that the mean is infinite."
        yield Finding("impossible", "test rows that are impossible", impossible, "rows", kind="exact", meaning=meaning)
    seconds, meaning = round(found.seconds, 2), "By the clock, compilation included."
    yield Finding("seconds", "time that the test rows took", seconds, "seconds", kind="exact", meaning=meaning)


def _costs(about: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return −log p of test rows, training rows and draws."""
    return -about.evaluation.pointwise.log_likelihood.values, -about.train_log_p, -about.draws_log_p


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean, and its standard error."""
    if not np.isfinite(values).all():
        return float(values.mean()), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _training(about: Subject) -> Iterator[Item]:
    (test, test_se), (mean, se) = map(_mean, _costs(about)[:2])
    count = len(about.train_log_p)
    meaning = f"Of {count} of them, at random."
    yield Finding("training_nats", "−log p of training rows", mean, "nats/row", se, kind_of(about), meaning)
    meaning = "Clearly above 0: the model knows its training rows by heart, or the test rows are of another kind."
    error = float(np.hypot(test_se, se))
    yield Finding(
        "test_minus_training", "test rows beyond training rows", test - mean, "nats/row", error, meaning=meaning
    )


def _entropy(about: Subject) -> Iterator[Item]:
    (test, test_se), _, (mean, se) = map(_mean, _costs(about))
    meaning = f"The mean −log p of {len(about.draws_log_p)} of its own draws: how much there is to say of one."
    yield Finding("entropy", "entropy of the model", mean, "nats/row", se, kind_of(about), meaning)
    meaning = (
        "Near 0, the test rows are as likely as what the model draws. Above, they surprise it: it misses or mistakes "
        "some of them. Below, it spreads over more than the data."
    )
    if kind_of(about) != "exact":
        meaning += " Neither is exact here, and their difference no more than both are off by alike."
    error = float(np.hypot(test_se, se))
    yield Finding("test_minus_entropy", "test rows beyond the entropy", test - mean, "nats/row", error, meaning=meaning)


def _histogram(about: Subject) -> Iterator[Item]:
    kept = [cost[np.isfinite(cost)] for cost in _costs(about)]
    columns = dict(zip(("test rows", "training rows", "the model's own draws"), kept, strict=True))
    columns = {name: cost for name, cost in columns.items() if len(cost)}
    entropy = _mean(_costs(about)[2])[0]
    known = entropy if np.isfinite(entropy) else None
    picture = pictures.of_axes(lambda ax: plotting.typical_set(columns, entropy=known, ax=ax))
    yield Picture("histogram", "−log p of each row; H is the entropy of the model. Lower is likelier.", picture)


def _typicality(about: Subject) -> Iterator[Item]:
    test, training, _ = _costs(about)
    found = typicality_test(-test, -training, key=about.key)
    meaning = (
        f"Whether the mean −log p of the test rows is within {found.threshold:.3g} nats of that of the training rows, "
        f"which such batches exceed with a probability of {found.level:g}. Too likely is not typical either; a model "
        "that has learned its training rows by heart fails it too."
    )
    yield Finding("typical", "test rows typical beside the training rows", found.typical, meaning=meaning)
    meaning = "The chance of as large a difference if the rows were of one kind to the model."
    yield Finding("typicality_p_value", "p-value of their being typical", found.p_value, "probability", meaning=meaning)


def ends(about: Subject) -> Section:
    """Return the test rows that are the likeliest, and those that are the least likely.

    Args:
        about: the model and its data.
    """
    text = (
        "The least likely rows are where to look for errors in the data and for what the model has not learned. The "
        "likeliest are often the simplest, and not the most typical."
    )
    return gathered("ends", "The least and the most likely test rows", text, {"rows": lambda: _ends(about)})


def _ends(about: Subject) -> Iterator[Item]:
    costs = _costs(about)[0]
    order = np.argsort(-costs, kind="stable")
    worst, best = order[:_ENDS], order[::-1][:_ENDS]
    x = about.test[0]
    if about.are_images:
        by_title = {"least likely": x[worst], "most likely": x[best]}
        high, low, least, more = (in_digits(float(costs[i])) for i in (worst[0], worst[-1], best[0], best[-1]))
        caption = f"Row by row, −log p from {high} down to {low} nats, and from {least} up to {more} nats."
        yield Picture("ends", caption, pictures.grids(by_title, about.split.levels))
        return
    for key, title, rows in (("worst", "Least likely", worst), ("best", "Most likely", best)):
        texts = about.spelled(x[rows]) if about.alphabet else [_numbers(row) for row in x[rows]]
        lines = [f"{costs[i]:9.2f} nats   row {i:<6d} {text}" for i, text in zip(rows, texts, strict=True)]
        yield Listing(key, title, lines)


def _numbers(row: np.ndarray) -> str:
    shown = ", ".join(f"{value:.4g}" for value in row.ravel()[:_SHOWN])
    return shown + (", …" if row.size > _SHOWN else "")
