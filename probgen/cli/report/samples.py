"""The model's draws beside the data: pictures, two-sample tests, neighbourhoods, and whether rows were memorized."""

import math
from collections.abc import Iterator

import jax
import numpy as np

from probgen.cli.report import pictures
from probgen.cli.report.findings import Finding, Item, Listing, Picture, Section, gathered
from probgen.cli.report.subject import NEIGHBOURS, Subject
from probgen.evaluation import classifier_test, energy_test, memorization, precision_recall

_SHOWN = 64  # images of each kind
_LINES = 16  # texts of each kind
_SMALLEST = 0.01  # p-value below which a test is said to tell samples apart


def section(about: Subject) -> Section:
    """Return the draws beside the data, in pictures and in numbers.

    Args:
        about: the model and its data.
    """
    draws, rows = len(about.draws[0]), len(about.some[0])
    what = _features_in_words(about)
    at = "" if len(about.draws) == 1 or about.split.ragged else " The draws are at the contexts of training rows."
    text = (
        f"{draws} draws of the model beside {rows} test rows.{at} {what} A p-value is the chance of a difference as "
        "large if draws and rows were of one distribution: a small one says that the samples differ, a large one that "
        "so many rows do not show it, and not that the model is right. Likelihood and samples are two things: a model "
        "may be good at one of them alone."
    )
    parts = {
        "pictures": lambda: _pictures(about),
        "energy test": lambda: _energy(about),
        "classifier test": lambda: _classifier(about),
        "neighbourhoods": lambda: _neighbourhoods(about),
        "memorization": lambda: _memorization(about),
    }
    return gathered("samples", "What the model draws", text, parts)


def features(about: Subject, rows: np.ndarray) -> np.ndarray:
    """Return rows as they are compared: symbols as indicators, the columns of tables in units of their spread.

    Args:
        about: the model and its data.
        rows: x, [N, *event].
    """
    if about.alphabet:
        return np.eye(len(about.alphabet), dtype=np.float32)[rows]
    if about.are_images or about.split.levels:
        return rows
    spread = about.train[0].std(0)
    return np.asarray((rows - about.train[0].mean(0)) / np.where(spread > 0, spread, 1.0), np.float32)


def _features_in_words(about: Subject) -> str:
    if about.alphabet:
        return "Texts are compared symbol by symbol, by the places where they differ."
    if about.are_images:
        return "Distances are those of the pixels, which see strokes and not what they mean."
    if about.split.levels:
        return "Distances are those of the numbers."
    return "Distances are those of the numbers, each in units of its standard deviation among the training rows."


def _pictures(about: Subject) -> Iterator[Item]:
    rows, draws = about.some[0], about.draws[0]
    if about.are_images:
        shown = {"test rows": rows[:_SHOWN], "draws": draws[:_SHOWN]}
        yield Picture("draws", "Test rows and draws, both at random.", pictures.grids(shown, about.split.levels))
        return
    if about.alphabet:
        for key, title, x in (("test_rows", "Test rows", rows), ("draws", "Draws", draws)):
            yield Listing(key, title, about.spelled(x[:_LINES]))
        return
    flat, drawn = (x.reshape(len(x), math.prod(about.event_shape)) for x in (rows, draws))
    size = flat.shape[1]
    if not about.split.levels:
        known = about.split.columns
        names = known if len(known) == size else [f"x{i + 1}" for i in range(size)]
        first = f"The first 4 of {size}" if size > 4 else "All"
        caption = f"{first} numbers, each alone and each two of them against one another."
        yield Picture("numbers", caption, pictures.vectors({"test rows": flat, "draws": drawn}, names))
    if size > 4 or about.split.levels:
        caption = "The mean of each number: on the line where rows and draws agree."
        yield Picture("means", caption, pictures.means(flat, drawn))


def _both(about: Subject) -> tuple[np.ndarray, np.ndarray]:
    return features(about, about.draws[0]), features(about, about.some[0])


def _energy(about: Subject) -> Iterator[Item]:
    found = energy_test(*_both(about), key=jax.random.fold_in(about.key, 1))
    meaning = "How much farther draws are from test rows than either are from their own kind; 0 for one distribution."
    yield Finding("energy_distance", "energy distance of draws and test rows", found.statistic, meaning=meaning)
    yield _p_value("energy_p_value", "p-value of the energy distance", found.p_value, found.se_p_value)


def _classifier(about: Subject) -> Iterator[Item]:
    found = classifier_test(*_both(about), key=jax.random.fold_in(about.key, 2))
    count = sum(found.rows)
    meaning = f"How often a small network tells draws from test rows, on {count} that it has not seen; ½ is a coin's."
    error = math.sqrt(found.statistic * (1 - found.statistic) / count)
    yield Finding("classifier_accuracy", "a classifier is right", found.statistic, "share", error, meaning=meaning)
    yield _p_value("classifier_p_value", "p-value of the classifier", found.p_value, found.se_p_value)


def _p_value(key: str, label: str, value: float, error: float) -> Finding:
    verdict = "told apart" if value < _SMALLEST else "not told apart"
    meaning = f"Draws and test rows are {verdict} at the level {_SMALLEST:g}."
    return Finding(key, label, value, "probability", error, meaning=meaning)


def _neighbourhoods(about: Subject) -> Iterator[Item]:
    draws, rows = _both(about)
    count = min(len(draws), len(rows))  # what the figures are compared at
    found = precision_recall(rows[:count], draws[:count])
    meanings = {
        "precision": "The share of draws within the neighbourhoods of test rows; low where draws look like no data.",
        "recall": "The share of test rows within the neighbourhoods of draws; low where some data are never drawn.",
        "density": "In how many of those neighbourhoods a draw lies, over k; about 1 is right if few rows are equal.",
        "coverage": f"The share of those neighbourhoods with a draw in them; about {1 - 2.0**-found.k:.2f} is right.",
    }
    for (name, meaning), value, error in zip(meanings.items(), found[:4], found.se, strict=True):
        unit = "" if name == "density" else "share"
        yield Finding(name, name, value, unit, error, meaning=meaning)


def _memorization(about: Subject) -> Iterator[Item]:
    draws, rows = _both(about)
    seen = about.train[0][: max(1, NEIGHBOURS // max(1, draws[0].size))]
    found = memorization(features(about, seen), rows, draws)
    of = f"all {len(seen)}" if len(seen) == len(about.train[0]) else f"{len(seen)} of {len(about.train[0])}"
    meaning = (
        f"The chance that a draw is nearer to a training row ({of}) than a test row is; about ½ is right. Above, the "
        "model copies; below, it misses the data."
    )
    yield Finding("nearer", "draws nearer to training rows", found.nearer, "probability", found.se, meaning=meaning)
    meaning = "The chance of as much or more if draws were like test rows; a small one says that rows were copied."
    yield Finding(
        "memorization_p_value", "p-value of their being nearer", found.p_value, "probability", meaning=meaning
    )
    meaning = f"Equal to a training row in every number, of {len(draws)} draws; rows of few values may well be."
    yield Finding("copies", "draws that are copies", found.copies, "draws", kind="exact", meaning=meaning)
