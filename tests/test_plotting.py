"""Pictures have what they say: the right lines, cells, colours and words; and the gallery shows every one of them."""

import inspect
import re
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from matplotlib.colors import to_rgba

from probgen import plotting
from probgen.autoregressive import Order
from probgen.core import Dependence

GALLERY = Path(__file__).parent.parent / "docs" / "gallery.md"


def normal(x):
    """log p of independent standard normals, of numbers [N] or points [N, D]."""
    x = x[:, None] if x.ndim == 1 else x
    return -0.5 * (x**2 + np.log(2 * np.pi)).sum(1)


# -- densities


def test_a_density_curve_is_the_density_and_has_its_area():
    ax = plotting.density_curve(normal, low=-8.0, high=6.0, points=701, label="normal")
    plotting.density_curve(lambda x: normal(x - 1.0), low=-8.0, high=6.0, label="moved")
    line, moved = ax.lines
    x, p = line.get_data()
    assert (x[0], x[-1], len(x)) == (-8.0, 6.0, 701) and len(moved.get_xdata()) == 400
    np.testing.assert_allclose(p, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), rtol=1e-4)
    np.testing.assert_allclose(np.trapezoid(p, x), 1.0, atol=1e-5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["normal", "moved"]
    assert line.get_color() != moved.get_color() and ax.get_ylim()[0] == 0.0 and ax.get_xlim() == (-8.0, 6.0)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "density")


def test_a_density_has_its_cells_where_they_are():
    ax = plotting.density(lambda x: normal(x - np.array([1.0, -2.0])), low=(-2.0, -6.0), high=(4.0, 2.0), cells=41)
    (image,) = ax.get_images()
    p = np.asarray(image.get_array())
    row, column = np.unravel_index(p.argmax(), p.shape)
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-2.0, 4.0, -6.0, 2.0) and image.origin == "lower"
    assert left + (column + 0.5) * 6 / 41 == pytest.approx(1.0) and bottom + (row + 0.5) * 8 / 41 == pytest.approx(-2.0)
    np.testing.assert_allclose(p.sum() * (6 / 41) * (8 / 41), 1.0, atol=5e-3)
    assert image.get_clim() == (0.0, np.quantile(p, 0.995)) and ax.get_aspect() == 1.0
    assert plotting.density(normal, low=-1, high=1, darkest=0.5, ax=ax).get_images()[1].get_clim() == (0.0, 0.5)


def test_samples_are_points_in_the_box():
    x = np.random.default_rng(0).normal(size=(50, 2))
    ax = plotting.samples(x, low=(-3.0, -4.0), high=3.0, size=7.0)
    (dots,) = ax.collections
    np.testing.assert_array_equal(dots.get_offsets(), x)
    assert dots.get_sizes().tolist() == [7.0] and ax.get_xlim() == (-3.0, 3.0) and ax.get_ylim() == (-4.0, 3.0)


# -- training


@pytest.mark.parametrize("suffix", ["", "_bits_per_dim"])
def test_a_learning_curve_is_a_running_mean_and_the_held_out_loss(suffix):
    train, steps = np.array([4.0, 2.0, 3.0, 1.0]), [1, 2, 3, 4]
    columns = {"train": ("step", train), "validation": ("validation_step", [5.0, 1.5])}
    columns |= {name + suffix: column for name, column in columns.items()}
    history = xarray.Dataset(columns, {"step": steps, "validation_step": [0, 4]})
    ax = plotting.learning_curve(history, smooth=2, label="flow")
    mean, held_out = ax.lines
    assert mean.get_xydata().tolist() == [[2, 3.0], [3, 2.5], [4, 2.0]]
    assert held_out.get_xydata().tolist() == [[1, 5.0], [4, 1.5]]  # a logarithmic axis has no 0
    assert held_out.get_color() == mean.get_color() and held_out.get_linewidth() > mean.get_linewidth()
    assert held_out.get_label() == "flow" and ax.get_xscale() == "log"
    assert ax.get_ylabel() == ("bits/dim" if suffix else "nats per datum")
    alone = plotting.learning_curve(history[["train"]], label="alone", ax=ax.figure.add_subplot())
    assert [line.get_label() for line in alone.lines] == ["alone"]


# -- what moves points


def test_a_warped_grid_has_its_lines_where_the_map_sends_them():
    swap = lambda x: np.stack([x[:, 1] + 10.0, 2.0 * x[:, 0]], 1)
    ax = plotting.warped_grid(swap, low=(0.0, -1.0), high=(3.0, 1.0), lines=4, points=5)
    base, upright, level = ax.lines[:8], ax.lines[8:12], ax.lines[12:]
    assert len(ax.lines) == 16 and {line.get_color() for line in base} == {"0.88"}
    for i, (before, after) in enumerate(zip(base[:4], upright, strict=True)):  # x = i becomes y = 2 i
        assert set(before.get_xdata()) == {i} and (before.get_ydata()[0], before.get_ydata()[-1]) == (-1.0, 1.0)
        assert set(after.get_ydata()) == {2 * i} and len(after.get_xdata()) == 5
    assert [line.get_xdata()[0] for line in level] == pytest.approx([9.0, 9 + 2 / 3, 10 + 1 / 3, 11.0])
    assert {line.get_color() for line in upright} == {"C0"} and {line.get_color() for line in level} == {"C1"}
    assert len(plotting.warped_grid(swap, low=0, high=1, lines=4, base=False, ax=ax.figure.add_subplot()).lines) == 8


def test_what_is_not_finite_leaves_a_gap():
    with np.errstate(divide="ignore", invalid="ignore"):
        ax = plotting.warped_grid(lambda x: 1 / x, low=-1.0, high=1.0, lines=3, base=False)
    middle = ax.lines[1]  # x = 0 goes to infinity
    assert np.isnan(middle.get_xdata()).all() and np.isfinite(ax.lines[0].get_xdata()).all()
    walks = plotting.trajectories([0.0, 1.0, 2.0], [[1.0, np.inf, 3.0]], ax=ax.figure.add_subplot())
    np.testing.assert_array_equal(walks.lines[0].get_ydata(), [1.0, np.nan, 3.0])
    ax.figure.canvas.draw()


@pytest.mark.parametrize("tail", [(), (1,)])
def test_trajectories_of_numbers_run_over_time(tail):
    times, x = np.linspace(1.0, 0.0, 6), np.random.default_rng(0).normal(size=(3, 6))
    ax = plotting.trajectories(times, x.reshape(3, 6, *tail))
    *paths, ends = ax.lines
    for path, row in zip(paths, x, strict=True):
        np.testing.assert_array_equal(path.get_xydata(), np.stack([times, row], 1))
    assert ends.get_xydata().tolist() == [[0.0, value] for value in x[:, -1]] and ends.get_linestyle() == "None"
    assert len({line.get_color() for line in ax.lines}) == 1 and (ax.get_xlabel(), ax.get_ylabel()) == ("t", "x")


def test_trajectories_in_the_plane_have_the_colour_of_their_time():
    times, x = np.array([0.0, 1.0, 3.0]), np.random.default_rng(0).normal(size=(4, 3, 2))
    ax = plotting.trajectories(times, x)
    (steps,), (ends,) = ax.collections, ax.lines
    segments = np.array(steps.get_segments()).reshape(4, 2, 2, 2)
    np.testing.assert_array_equal(segments[:, :, 0], x[:, :-1])
    np.testing.assert_array_equal(segments[:, :, 1], x[:, 1:])
    assert steps.get_array().tolist() == [0.5, 2.0] * 4 and steps.get_clim() == (0.0, 3.0)
    np.testing.assert_array_equal(ends.get_xydata(), x[:, -1])
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    assert left < x[..., 0].min() and x[..., 0].max() < right and low < x[..., 1].min() and x[..., 1].max() < high
    assert ax.figure.axes[1].get_ylabel() == "t" and ax.get_aspect() == 1.0


# -- images and their pixels


def test_an_image_grid_has_each_image_in_its_place():
    images = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    ax = plotting.image_grid(images, columns=3, levels=40, title="five")
    canvas = np.ma.filled(ax.get_images()[0].get_array(), np.nan)
    assert canvas.shape == (2 * 3 + 1, 3 * 4 + 1) and ax.get_title() == "five"
    np.testing.assert_array_equal(canvas[4:6, 5:8], images[4])  # second row, second column
    assert np.isnan(canvas[::3]).all() and np.isnan(canvas[:, ::4]).all() and np.isnan(canvas[4:6, 9:12]).all()
    assert ax.get_images()[0].get_clim() == (0.0, 39.0)
    own = plotting.image_grid(images + 7, ax=ax.figure.add_subplot()).get_images()[0]
    assert own.get_array().shape == (7, 13) and own.get_clim() == (7.0, 36.0)


def test_a_receptive_field_is_one_row_of_the_dependence():
    jacobian = np.zeros((6, 6))
    jacobian[4] = [0.1, -10.0, 0.0, 0.0, 7.0, 1.0]
    ax = plotting.receptive_field(jacobian, (2, 3), (1, 1))
    (image,), (cross,) = ax.get_images(), ax.lines
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan).ravel()[[0, 1, 5]], [-1.0, 1.0, 0.0])
    assert np.ma.filled(image.get_array(), np.nan)[1, 0] != image.get_array()[0, 0]  # a zero is no small number
    assert image.get_clim() == (-3.0, 1.0) and image.get_cmap().name == "Blues"
    assert cross.get_xydata().tolist() == [[1, 1]] and ax.get_title() == "depends on 3 of 5" and not ax.patches
    of_two = plotting.receptive_field([jacobian, np.eye(6)], (2, 3), (1, 1), ax=ax.figure.add_subplot())
    assert of_two.get_title() == "depends on 3 of 5"  # the largest over points, its own not counted


def test_a_blind_spot_is_grey_and_a_fault_is_framed():
    jacobian = np.zeros((6, 6), bool)
    jacobian[4, [1, 3, 5]] = True
    ax = plotting.receptive_field(jacobian, (2, 3), (1, 1), order=Order.raster((2, 3)))
    assert ax.get_title() == "depends on 2 of 4 before it, and on 1 others"
    places = {patch.get_xy(): patch for patch in ax.patches}
    assert set(places) == {(-0.5, -0.5), (1.5, -0.5), (1.5, 0.5)}  # positions 0 and 2, and 5
    assert places[(-0.5, -0.5)].get_facecolor() == to_rgba("0.9") and places[(-0.5, -0.5)].get_fill()
    assert places[(1.5, 0.5)].get_edgecolor() == to_rgba("C3") and not places[(1.5, 0.5)].get_fill()
    back = plotting.receptive_field(jacobian, (2, 3), (1, 1), order=range(5, -1, -1), ax=ax.figure.add_subplot())
    assert back.get_title() == "depends on 1 of 1 before it, and on 2 others"


def test_an_order_map_numbers_the_steps():
    order = Order.random((3, 4), key=jax.random.key(0))
    ax = plotting.order_map(order, (3, 4))
    steps = ax.get_images()[0].get_array()
    np.testing.assert_array_equal(steps, order.places.reshape(3, 4) + 1)
    assert [int(text.get_text()) for text in ax.texts] == steps.ravel().tolist()
    assert [text.get_position() for text in ax.texts[:5]] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]
    assert ax.get_images()[0].get_clim() == (1, 12) and len(ax.figure.axes) == 1


def test_an_order_of_groups_has_a_step_for_each():
    dependence = Dependence.in_order([3, 1, 0, 2], passes=2)
    ax = plotting.order_map(dependence.groups, (2, 2), numbers=False)
    assert ax.get_images()[0].get_array().tolist() == [[2, 1], [2, 1]]
    assert not ax.texts and ax.figure.axes[1].get_ylabel() == "step"


def test_an_entropy_map_is_in_bits():
    nats = np.log(2.0) * np.array([[0.0, 1.0, 2.0], [3.0, 0.5, 0.25]])
    ax = plotting.entropy_map(nats)
    np.testing.assert_allclose(ax.get_images()[0].get_array(), [[0.0, 1.0, 2.0], [3.0, 0.5, 0.25]])
    assert ax.get_images()[0].get_clim() == pytest.approx((0.0, 3.0)) and ax.get_title() == "6.8 bits in all"
    assert ax.figure.axes[1].get_ylabel() == "bits"
    below = plotting.entropy_map(nats - np.log(2.0), high=4.0, ax=ax.figure.add_subplot())  # as densities have it
    assert below.get_images()[0].get_clim() == pytest.approx((-1.0, 4.0))


# -- what depends on what


def test_a_graph_has_parents_above_children():
    adjacency = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]
    ax = plotting.graph(adjacency, names="abcd")
    places = {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}
    assert [places[name][1] for name in "abcd"] == [0, -1, -1, -2] and places["b"][0] < places["c"][0]
    arrows = [text for text in ax.texts if not text.get_text()]
    ends = {(tuple(arrow.xyann), tuple(arrow.xy)) for arrow in arrows}
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    assert ends == {(places[parent], places[child]) for parent, child in edges} and ax.get_title() == "4 edges"


def test_the_zeros_of_a_jacobian_are_white_and_its_edges_framed():
    jacobian = np.array([[1.0, 0.0, 0.0], [-10.0, 1.0, 0.0], [0.0, 0.0, 1e-9]])
    ax = plotting.jacobian_zeros(jacobian, adjacency=[[0, 0, 0], [0, 0, 0], [0, 1, 0]], names="abc")
    shades = np.ma.getmaskarray(np.ma.masked_invalid(ax.get_images()[0].get_array()))
    np.testing.assert_array_equal(shades, jacobian == 0)
    assert ax.get_title() == "4 of 9 are not zero, 1 outside of the graph"
    framed = {tuple(np.round(patch.get_xy()).astype(int)) for patch in ax.patches}
    assert framed == {(0, 0), (1, 1), (2, 2), (1, 2)}  # (column, row)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    both = plotting.jacobian_zeros([jacobian, jacobian.T], ax=ax.figure.add_subplot())
    assert both.get_title() == "5 of 9 are not zero" and not both.patches


# -- models beside each other


def test_a_forest_has_intervals_and_kinds():
    ax = plotting.forest("abc", [1.0, 2.0, 3.0], [0.1, 0.0, 0.2], signs=["=", "≤", "≈"], unit="nats a row")
    thin, thick, points = ax.lines[0::3], ax.lines[1::3], ax.lines[2::3]
    np.testing.assert_allclose(thin[0].get_xdata(), [1 - 0.196, 1 + 0.196])
    np.testing.assert_allclose(thick[2].get_xdata(), [2.8, 3.2])
    assert [point.get_xydata().tolist() for point in points] == [[[1.0, 0]], [[2.0, 1]], [[3.0, 2]]]
    assert [point.get_marker() for point in points] == ["o", "<", "D"]  # the truth may be left of a bound
    assert [point.get_markerfacecolor() for point in points] == ["C0", "C0", "white"]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["= 1.000 ± 0.100", "≤ 2.000 ± 0.000", "≈ 3.000 ± 0.200"]
    bottom, top = ax.get_ylim()
    assert bottom > top and ax.get_xlabel() == "nats a row"  # the first above
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    plain = plotting.forest(["a"], [1.0], [0.5], ax=ax.figure.add_subplot())
    assert [text.get_text() for text in plain.texts] == ["1.000 ± 0.500"] and plain.get_xlabel() == "nats"


# -- mistakes


@pytest.mark.parametrize(("call", "message"), [
    (lambda: plotting.density_curve(lambda x: x[:, None], low=0, high=1), r"log_prob: .*each of 400 points"),
    (lambda: plotting.density_curve(lambda x: x * np.nan, low=0, high=1), "log_prob: .*got NaN for 0.0"),
    (lambda: plotting.density_curve(normal, low=1.0, high=1.0), "low < high"),
    (lambda: plotting.density_curve(normal, low=0.0, high=1.0, points=1), "points: .*at least 2"),
    (lambda: plotting.density(lambda x: x, low=0, high=1, cells=3), r"each of 9 points, got shape \(9, 2\)"),
    (lambda: plotting.density(lambda x: normal(x) * np.nan, low=0, high=1), "got NaN"),
    (lambda: plotting.density(normal, low=(0, 2), high=1), "low < high"),
    (lambda: plotting.density(normal, low=0, high=1, cells=0), "cells"),
    (lambda: plotting.samples(np.ones((3, 3)), low=0, high=1), r"x: expected points \[N, 2\], got shape \(3, 3\)"),
    (lambda: plotting.samples(np.ones((3, 2)), low=0, high=np.nan), "low < high"),
    (lambda: plotting.warped_grid(lambda x: x[:, :1], low=0, high=1, lines=2, points=2), r"forward: .*\(8, 2\), got"),
    (lambda: plotting.warped_grid(lambda x: x, low=0, high=1, lines=1), "lines: .*at least 2"),
    (lambda: plotting.warped_grid(lambda x: x, low=0, high=1, points=1), "points: .*at least 2"),
    (lambda: plotting.warped_grid(lambda x: x, low=1, high=0), "low < high"),
    (lambda: plotting.trajectories([0.0], np.ones((1, 1))), "times: expected two or more"),
    (lambda: plotting.trajectories([0.0, np.nan], np.ones((1, 2))), "times: .*finite"),
    (lambda: plotting.trajectories([0.0, 1.0], np.ones((1, 3))), r"paths: expected \[N, 2\].*got shape \(1, 3\)"),
    (lambda: plotting.trajectories([0.0, 1.0], np.ones((1, 2, 3))), "paths"),
    (lambda: plotting.trajectories([0.0, 1.0], np.ones(2)), "paths"),
    (lambda: plotting.trajectories([0.0, 1.0], np.ones((0, 2))), "paths"),
    (lambda: plotting.image_grid(np.ones((4, 4))), r"images: expected \[N, H, W\]"),
    (lambda: plotting.image_grid(np.ones((0, 4, 4))), "with N ≥ 1"),
    (lambda: plotting.image_grid(np.ones((2, 4, 4)), columns=0), "columns"),
    (lambda: plotting.receptive_field(np.eye(5), (2, 3), (0, 0)), "jacobian: expected 6 rows and columns"),
    (lambda: plotting.receptive_field(np.ones((2, 3)), (2, 3), (0, 0)), r"jacobian: expected \[D, D\]"),
    (lambda: plotting.receptive_field(np.eye(6) * np.nan, (2, 3), (0, 0)), "jacobian: expected finite"),
    (lambda: plotting.receptive_field(np.eye(6), (2, 3), (2, 0)), r"pixel: .*inside of \(2, 3\), got \(2, 0\)"),
    (lambda: plotting.receptive_field(np.eye(6), (2, 3), (0, -1)), "pixel"),
    (lambda: plotting.receptive_field(np.eye(6), (6,), (0, 0)), r"shape: expected \(H, W\), got \(6,\)"),
    (lambda: plotting.receptive_field(np.eye(6), (2, 3), (0, 0), order=range(5)), "order: .*0..5 once"),
    (lambda: plotting.order_map([0, 1, 1, 2], (2, 2)), "order: .*0..3 once"),
    (lambda: plotting.order_map([0, 1, 2, 4], (2, 2)), "order: .*0..3 once"),
    (lambda: plotting.order_map([0, 1.5, 2, 3], (2, 2)), "order: .*0..3 once"),
    (lambda: plotting.order_map(range(8), (2, 2, 2)), r"shape: expected \(H, W\)"),
    (lambda: plotting.entropy_map(np.ones(4)), r"nats: expected finite numbers \[H, W\], got shape \(4,\)"),
    (lambda: plotting.entropy_map([[np.nan]]), "nats"),
    (lambda: plotting.entropy_map([[1.0]], high=0.0), "high: expected a positive number"),
    (lambda: plotting.graph([[0, 1], [1, 0]]), "cycle"),
    (lambda: plotting.graph([[0, 0], [1, 0]], names="a"), "names: expected 2, got 1"),
    (lambda: plotting.jacobian_zeros(np.ones((2, 3))), r"jacobian: expected \[D, D\]"),
    (lambda: plotting.jacobian_zeros([[np.inf]]), "jacobian: expected finite"),
    (lambda: plotting.jacobian_zeros(np.eye(2), adjacency=np.eye(3)), "adjacency"),
    (lambda: plotting.jacobian_zeros(np.eye(2), names="abc"), "names: expected 2, got 3"),
    (lambda: plotting.forest(["a"], [1.0, 2.0], [0.1]), "values: expected 1 finite numbers"),
    (lambda: plotting.forest(["a"], [1.0], [np.nan]), "se: expected 1 finite numbers"),
    (lambda: plotting.forest(["a"], [1.0], [-0.1]), "se: expected none below 0, got -0.1"),
    (lambda: plotting.forest(["a"], [1.0], [0.1], signs=["<"]), "signs: "),
    (lambda: plotting.forest(["a"], [1.0], [0.1], signs=["=", "="]), "signs: "),
    (lambda: plotting.forest([], [], []), "signs|names"),
])  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums() or not plt.gca().has_data()


# -- the gallery


def test_the_gallery_draws_every_picture_and_says_so():
    page = GALLERY.read_text()
    cells = re.findall(r"^```\{code-cell\}.*?^```$", page, re.M | re.S)
    drawn = set(re.findall(r"plotting\.(\w+)\(", "".join(cells)))
    said = set(re.findall(r"`(\w+)`", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)))
    assert drawn == set(plotting.__all__) == said


def test_every_picture_is_drawn_where_one_says():
    """`ax=` is the last of every signature, and keyword-only."""
    for name in plotting.__all__:
        *_, last = inspect.signature(getattr(plotting, name)).parameters.values()
        assert (last.name, last.kind, last.default) == ("ax", last.KEYWORD_ONLY, None), name
