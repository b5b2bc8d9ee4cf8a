"""Reports of the laboratory as pictures, for ArviZ, and on the command line."""

import importlib.metadata
import itertools
import json

import jax
import numpy as np
import optax
import pytest
import xarray
from matplotlib.text import Text

from probgen.cli import compare, main
from probgen.evaluation import to_arviz
from probgen.inference import gradient_report
from probgen.inference.laboratory import PROBLEMS, bits, gaussian_square, shared_trajectory
from probgen.plotting import learning_bands, variance_against_cost, variance_along


def few(problem, *names):
    """A problem with these contenders alone: each costs seconds to compile."""
    return problem._replace(contenders={name: problem.contenders[name] for name in names})


def made(variance, bias_z=0.0, evaluations=1, step=None):
    """A report of made-up figures: variance [(step,) estimators, groups]."""
    variance = np.asarray(variance, float)
    dims = ("step", "estimator", "group")[-variance.ndim :]
    count = variance.shape[-2]
    return xarray.Dataset(
        {
            "variance_total": (dims, variance),
            "bias_z": (dims, np.broadcast_to(bias_z, variance.shape)),
            "evaluations": ("estimator", np.broadcast_to(evaluations, count)),
            "seconds": ("estimator", np.full(count, 1e-4)),
            "bias_limit": 3.0,
        },
        {"estimator": [f"e{i}" for i in range(count)]} | ({} if step is None else {"step": step}),
    )


@pytest.fixture(scope="module")
def point():
    toy = few(gaussian_square(), "score", "pathwise")
    args = jax.random.key(0), toy.params, toy.model, toy.guide
    return gradient_report(*args, estimators=toy.contenders, num_replicates=50, reference=toy.loss)


@pytest.fixture(scope="module")
def trajectory():
    b = few(bits(3), "score", "enumerate")
    points = shared_trajectory(
        jax.random.key(0), b.model, b.guide, optimizer=optax.adam(0.1), steps=4, every=2, estimators=b.contenders
    )
    args = jax.random.key(0), points, b.model, b.guide
    return gradient_report(*args, estimators=b.contenders, num_replicates=50, reference=b.loss)


def points_of(ax):
    """{name: (x, y, marker)}; names are written in the order of the points."""
    lines = [line for line in ax.lines if len(line.get_xdata()) == 1]
    return {
        text.get_text(): (float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_marker())
        for text, line in zip(ax.texts, lines, strict=True)
    }


# -- variance against cost


@pytest.mark.parametrize("cost", ["evaluations", "seconds"])
def test_points_are_where_the_report_says(point, cost):
    ax = variance_against_cost(point, cost=cost)
    drawn = points_of(ax)
    assert list(drawn) == ["score", "pathwise"]
    for name, (x, y, marker) in drawn.items():
        one = point.sel(estimator=name)
        assert x == float(one[cost]) and marker == "o"
        assert y == pytest.approx(float(one.variance_total.sum()))
    assert ax.get_xscale() == ax.get_yscale() == "log"
    ax.figure.canvas.draw()


def test_light_lines_are_of_constant_variance_times_cost(point):
    light = [line for line in variance_against_cost(point).lines if len(line.get_xdata()) == 2]
    assert len(light) == 8
    products = np.array([line.get_xdata() * line.get_ydata() for line in light])
    np.testing.assert_allclose(products[:, 0], products[:, 1])


def test_a_trajectory_is_its_geometric_mean(trajectory):
    drawn = points_of(variance_against_cost(trajectory))
    total = trajectory.variance_total.sum("group").sel(estimator="score")
    assert total.sizes == {"step": 3}
    assert drawn["score"][1] == pytest.approx(float(np.exp(np.log(total).mean())))
    assert drawn["enumerate: 0"][:2] == (2.0, variance_against_cost(trajectory).get_ylim()[0])


def test_what_a_log_axis_cannot_hold_is_at_its_edge():
    ax = variance_against_cost(made([[2.0, 3.0], [0.0, 0.0], [1e-17, 0.0], [np.inf, 1.0], [np.nan, 1.0]]))
    low, high = ax.get_ylim()
    drawn = {name: height for name, (_, height, _) in points_of(ax).items()}
    assert drawn == {"e0": 5.0, "e1: 0": low, "e2: 1e-17": low, "e3: inf": high, "e4: nan": high}
    assert 0.1 < low < high < 100


def test_nothing_but_exact_estimators():
    ax = variance_against_cost(made([[0.0]]))
    assert list(points_of(ax)) == ["e0: 0"]
    ax.figure.canvas.draw()


def test_biased_ones_are_crosses():
    z = np.array([[1.0, 2.9], [0.0, 3.1], [np.nan, 0.0]])
    ax = variance_against_cost(made(np.ones((3, 2)), z))
    assert [marker for _, _, marker in points_of(ax).values()] == ["o", "X", "X"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["biased: |z| > 3.0"]
    assert variance_against_cost(made(np.ones((3, 2))), ax=ax.figure.add_subplot()).get_legend() is None


def test_one_biased_step_is_enough():
    z = np.zeros((4, 2, 1))
    z[1, 1] = 5.0
    ax = variance_against_cost(made(np.ones((4, 2, 1)), z, step=np.arange(4)))
    assert [marker for _, _, marker in points_of(ax).values()] == ["o", "X"]


def test_names_do_not_overlap():
    ax = variance_against_cost(made(np.ones((8, 1))))
    ax.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the line to the point
    assert all(low.y1 <= high.y0 for low, high in itertools.pairwise(sorted(boxes, key=lambda box: box.y0)))
    assert all(ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1 for box in boxes)


def test_another_cost_is_refused(point):
    with pytest.raises(ValueError, match='cost: expected "evaluations" or "seconds", got \'work\''):
        variance_against_cost(point, cost="work")


# -- along a trajectory, and over seeds


def test_variance_along(trajectory):
    ax = variance_along(trajectory)
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["score", "enumerate: 0"]
    np.testing.assert_array_equal(lines["score"].get_xdata(), [0, 2, 4])
    want = trajectory.variance_total.sum("group").sel(estimator="score")
    np.testing.assert_allclose(lines["score"].get_ydata(), want)
    assert np.isnan(lines["enumerate: 0"].get_ydata()).all() and ax.get_yscale() == "log"
    ax.figure.canvas.draw()


def test_variance_along_needs_a_trajectory(point):
    with pytest.raises(ValueError, match="a dimension step"):
        variance_along(point)


def test_learning_bands_are_quantiles_over_seeds():
    curves = np.random.default_rng(0).normal(size=(41, 5))
    ax = learning_bands(curves, steps=[0, 10, 20, 30, 40], label="a", quantiles=(0.1, 0.9))
    (line,), (band,) = ax.lines, ax.collections
    np.testing.assert_allclose(line.get_ydata(), np.median(curves, 0))
    np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20, 30, 40])
    corners = band.get_paths()[0].vertices
    at = corners[corners[:, 0] == 20, 1]
    assert (at.min(), at.max()) == pytest.approx(tuple(np.quantile(curves[:, 2], (0.1, 0.9))))
    assert line.get_label() == "a"


def test_a_step_that_is_not_finite_for_a_seed_is_left_out():
    ax = learning_bands([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0], [1.0, 2.0, np.inf]])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3])


@pytest.mark.parametrize(("curves", "options", "message"), [
    (np.ones(3), {}, r"curves: expected \[seeds, steps\]"),
    (np.ones((0, 3)), {}, r"got shape \(0, 3\)"),
    (np.ones((2, 3)), {"steps": [1, 2]}, r"steps: expected shape \(3,\)"),
    (np.ones((2, 3)), {"quantiles": (0.9, 0.1)}, "quantiles"),
])  # fmt: skip
def test_curves_of_the_wrong_shape_are_refused(curves, options, message):
    with pytest.raises(ValueError, match=message):
        learning_bands(curves, **options)


# -- ArviZ


def test_to_arviz_is_what_the_installed_arviz_takes(point):
    import arviz

    major = int(importlib.metadata.version("arviz").split(".")[0])
    found = to_arviz(point)
    assert isinstance(found, xarray.DataTree if major else arviz.InferenceData)
    inside = found["gradients"]
    xarray.testing.assert_identical(inside.to_dataset() if major else inside, point)
    assert inside["variance_total"].dims == ("estimator", "group")
    assert inside.attrs == {"num_replicates": 50, "reference": "exact"}


def test_to_arviz_names_its_group(trajectory):
    assert to_arviz(trajectory, group="estimators")["estimators"]["loss"].dims == ("step", "estimator")
    for group in ("a/b", "two words", ""):
        with pytest.raises(ValueError, match="group: expected a name"):
            to_arviz(trajectory, group=group)


# -- the command


def test_every_problem_has_a_short_name():
    assert set(compare.SHORT_NAMES.values()) == set(PROBLEMS)


def strict(text):
    """Read JSON as the standard has it: without NaN and Infinity."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_compare_estimators(tmp_path, capsys, monkeypatch):
    contenders = "score", "enumerate"
    monkeypatch.setattr(compare, "SHORT_NAMES", {"bits": lambda: few(bits(), *contenders)})
    out = tmp_path / "a" / "b"
    arguments = ["compare-estimators", "--problem", "bits", "--replicates", "2000", "--stock", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (
        "10 bits: a plate of bits" in printed and "numpyro TraceGraph_ELBO" in printed and "2000 gradients" in printed
    )
    assert (out / "estimators.png").read_bytes()[:4] == b"\x89PNG"
    board = strict((out / "estimators.json").read_text(encoding="utf-8"))
    assert (board["seed"], board["replicates"], board["particles"]) == (0, 2000, 1)
    (problem,) = board["problems"]
    rows = {row["estimator"]: row for row in problem["estimators"]}
    assert list(rows) == [*contenders, "numpyro Trace_ELBO", "numpyro TraceGraph_ELBO"]
    assert set(rows["score"]) == {"estimator", "evaluations", "seconds", "work", "loss", "loss_se", "reason", "groups"}
    logits = {name: row["groups"]["logits"] for name, row in rows.items()}
    assert set(logits["score"]) == {"variance_mean", "variance_max", "variance_total", "bias_z", "snr", "cosine"}
    # numpyro's Trace_ELBO has no gradient through a bit, and says nothing
    assert logits["numpyro Trace_ELBO"]["bias_z"] > problem["bias_limit"] > logits["numpyro TraceGraph_ELBO"]["bias_z"]
    assert logits["enumerate"]["variance_total"] == 0 < logits["score"]["variance_total"]
    assert rows["score"]["work"] == pytest.approx(logits["score"]["variance_total"])


def test_a_problem_alone_draws_as_it_does_among_all():
    """Its number makes its key; its own name serves too."""
    alone, named = compare._problems("gaussian"), compare._problems("gaussian k=2")
    assert [(i, p.name) for i, p in alone] == [(i, p.name) for i, p in named] == [(1, "gaussian k=2")]
    assert [i for i, _ in compare._problems(None)] == [0, 1, 2, 3]


def test_figures_that_are_not_finite_are_null(point):
    broken = point.copy(deep=True)
    broken["snr"][0, 0], broken["seconds"][1] = np.nan, np.inf
    found = strict(json.dumps(compare.figures(broken), allow_nan=False))["estimators"]
    assert found[0]["groups"]["mean"]["snr"] is None and found[1]["seconds"] is None
    assert found[0]["seconds"] == float(point.seconds[0]) and isinstance(found[1]["evaluations"], int)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--problem", "nothing"], "there is no problem nothing; there are bernoulli, gaussian, bits, three-sites"),
    (["--replicates", "1"], "--replicates: expected at least 2"),
    (["--particles", "0"], "--particles: expected at least 1"),
    (["--out", "file"], "--out: file cannot be made a folder (File exists)"),
    (["--out", "file/inside"], "--out: file/inside cannot be made a folder (Not a directory)"),
])  # fmt: skip
def test_mistakes_are_one_sentence(arguments, message, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")  # the tests' folder is tmp_path
    assert main(["compare-estimators", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir() if file.name != "file"] in ([], ["probgen-estimators"])


def test_help_shows_it(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0 and "probgen compare-estimators --problem bits --stock" in capsys.readouterr().out
