"""Tables: the kinds of columns, values to numbers and back, and what is said of them."""

import json

import jax
import numpy as np
import pytest

import probgen
from probgen.core.rounding import grid
from probgen.data import Column, Table, holdout, read
from probgen.data.kinds import coarse_grid, is_heavy_tailed

RNG = np.random.default_rng(0)


def column(values, **fields):
    """What is found of a column of values, which are named "x"."""
    table = Table.from_cells({"x": values})
    return (table.overrule(x=fields) if fields else table).column("x")


@pytest.mark.parametrize(
    "values, kind, dtype",
    [
        ([True, False, None], "categorical", "bool"),
        (["b", "a", "b"], "categorical", "str"),
        (["a", None, "a"], "constant", "str"),
        ([None, None], "constant", "float"),
        ([2, 2, 2], "constant", "int"),
        ([1, 2, 3, 2, 1], "ordinal", "int"),
        ([0, 1, 1, 0], "ordinal", "int"),
        ([-1, 0, 1], "ordinal", "int"),
        (list(range(20)), "ordinal", "int"),
        (list(range(21)), "count", "int"),
        ([0, 5, 10, 15, 10] * 2, "ordinal", "int"),
        ([0, 1, 2, 3, 5, 8], "count", "int"),
        ([101, 305, 999] * 10, "ordinal", "int"),
        ([-7, 3, 100], "real", "int"),
        ([1.0, 2.0, None, 3.0], "ordinal", "float"),
        ([-0.31, 0.69] * 5, "ordinal", "float"),
        ([0.5, 1.5, 2.25], "positive", "float"),
        ([-0.5, 1.5, 2.25], "real", "float"),
        ([0.0, 1.5, 2.25], "real", "float"),
        ([1, 2.5, None], "positive", "float"),
    ],
)
def test_the_kind_of_values(values, kind, dtype):
    found = column(values)
    assert (found.kind, found.dtype, found.missing) == (kind, dtype, values.count(None))
    if kind in ("ordinal", "categorical", "constant"):
        assert found.values == tuple(sorted({value for value in values if value is not None}))


@pytest.mark.parametrize("step", [0.01, 0.05, 0.25, 0.5, 1.0, 5.0, 100.0, 0.001])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_step_is_found_in_spite_of_rounding(step, dtype):
    k = RNG.integers(-40, 40, 200)
    assert grid((k * step).astype(dtype).astype(float)) == (step, 0.0)
    values = np.cumsum(np.full(50, step))  # whose error grows
    assert grid(values) == (step, 0.0)


@pytest.mark.parametrize(("step", "loc"), [(0.01, 1000.0), (1e-5, 0.99), (0.5, 1e5)])
def test_the_step_of_numbers_that_were_float32_is_found_far_from_zero(step, loc):
    x = (step * (np.rint(loc / step) + RNG.integers(-40, 40, 200))).astype(np.float32).astype(float)
    assert grid(x) == (step, 0.0)
    table = Table.from_cells({"x": x.tolist()})
    clean = Table(table.columns, step * np.rint(table.array / step))
    model = probgen.tables.any_order(table.columns, width=8, depth=1, key=jax.random.key(0))
    log_p = probgen.tables.log_prob(model, table)
    np.testing.assert_array_equal(log_p, probgen.tables.log_prob(model, clean))
    assert log_p.max() < 0  # probabilities of steps


def test_the_step_has_an_offset():
    assert grid(0.5 + np.arange(20.0)) == (1.0, 0.5)
    assert grid(3.0 + 4 * RNG.integers(0, 9, 100)) == (4.0, 3.0)


def test_numbers_of_full_precision_have_no_step():
    for x in (
        RNG.normal(size=3),
        RNG.normal(size=1000),
        RNG.uniform(size=50).astype(np.float32),
        RNG.normal(1000.0, 1.0, size=10).astype(np.float32),
        10 ** RNG.normal(size=99),
    ):
        assert grid(x.astype(float)) == (None, 0.0)
    assert grid(1e-10 * RNG.normal(size=20)) == (None, 0.0)  # which is not 0, however small
    assert grid(np.array([0.1, 0.2, 1e9])) == (None, 0.0)  # steps beyond what a model could tell apart
    assert grid(np.array([0.0, 1.0, 1e12])) == (1.0, 0.0)  # integers are what they are


def test_few_numbers_do_not_prove_a_coarse_step():
    assert column([0.5, 1.0, 2.0]).step == 0.1
    assert column([0.5, 1.0, 2.0] * 4).step == 0.5


def test_a_heavy_tail_is_taken_on_a_logarithmic_scale():
    incomes = np.exp(RNG.normal(10, 1.5, 2000))
    found = column(incomes)
    assert (found.kind, found.scale, found.low) == ("positive", "log", 0.0)
    assert found.loc == pytest.approx(np.log(incomes).mean()) and found.spread == pytest.approx(np.log(incomes).std())
    whole = column(np.rint(incomes).astype(int))
    assert (whole.kind, whole.scale, whole.step, whole.dtype) == ("positive", "log", 1.0, "int")
    assert not is_heavy_tailed(RNG.normal(10, 1, 2000)) and not is_heavy_tailed(RNG.uniform(1, 2, 2000))
    assert column(RNG.poisson(3, 500) ** 2).scale == "linear"  # it has zeros


def test_counts_begin_at_zero_or_near_their_smallest():
    assert column(RNG.integers(0, 90, 200)).low == 0.0
    years = RNG.integers(1950, 2020, 200)
    assert column(years).low == years.min()


def test_a_column_is_plain_json():
    table = Table.from_cells({"a": np.array([1.5, 2.5]), "b": np.array([True, False]), "c": np.array(["x", "y"])})
    assert Table.from_cells(
        table.cells(), columns=[Column(*json.loads(json.dumps(c))) for c in table.columns]
    ).cells() == (table.cells())


CELLS = {
    "real": [0.1, -2.5, None, 3.25, 1e-3],
    "int": [-5, 300, None, 7, 12],
    "flag": [True, None, False, True, True],
    "town": ["Ülm", "a,b", 'say "x"', None, "a\nb"],
    "one": [None, 3, 3, 3, 3],
    "none": [None] * 5,
}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".feather", ".arrow"])
def test_cells_come_back_from_a_file(suffix):
    if suffix not in (".csv", ".tsv"):
        pytest.importorskip("pyarrow")
    table = Table.from_cells(CELLS)
    assert table.cells() == CELLS
    table.save(f"t{suffix}")
    for again in (read(f"t{suffix}", columns=table.columns), read(f"t{suffix}")):
        assert again.cells() == CELLS and again.columns == table.columns
        assert [[type(x) for x in column] for column in again.cells().values()] == [
            [type(x) for x in column] for column in CELLS.values()
        ]


def test_random_tables_come_back_bit_for_bit():
    for i in range(30):
        n = int(RNG.integers(1, 30))
        cells = {
            "x": RNG.normal(size=n) * 10.0 ** RNG.integers(-9, 9),
            "r": np.round(RNG.normal(size=n), int(RNG.integers(0, 4))),
            "k": RNG.poisson(10, n) - int(RNG.integers(0, 12)),
            "s": RNG.choice(["a", "b", "c"], n),
        }
        table = Table.from_cells(
            {name: [None if RNG.random() < 0.1 else v for v in values] for name, values in cells.items()}
        )
        table.save("t.csv")
        again = read("t.csv", columns=table.columns)
        assert np.array_equal(again.array, table.array, equal_nan=True) and again.cells() == table.cells(), i


@pytest.mark.parametrize("text", [" a", "NA", "", "a\rb"])
def test_what_a_delimited_file_cannot_keep_is_refused(text):
    with pytest.raises(ValueError, match=r"'x': .* would be read as another"):
        Table.from_cells({"x": [text, "b"]}).save("t.csv")


def test_a_name_that_a_delimited_file_cannot_keep_is_refused():
    for name in (" a", "", "a\rb"):
        with pytest.raises(ValueError, match="the name would be read as another one"):
            Table.from_cells({name: [1, 2]}).save("t.csv")


def test_the_name_of_a_file_to_save_says_its_form():
    with pytest.raises(ValueError, match=r"path must end in .csv, .tsv, .parquet.*; it is t.xls"):
        Table.from_cells({"x": [1, 2]}).save("t.xls")


def test_rows_and_columns_are_chosen():
    table = Table.from_cells({"a": [1.5, 2.5, None], "b": ["x", "y", "x"], "c": [7, 9, 400]})
    assert len(table) == 3 and table.names == ("a", "b", "c") and repr(table).startswith("3 rows: a (positive), b (cat")
    assert table.observed.tolist() == [[True] * 3, [True] * 3, [False, True, True]]
    assert table[[2, 0]].cells()["c"] == [400, 7] and len(table[:1]) == 1 and len(table[table.array[:, 2] > 8]) == 2
    assert table.select(["c", "a"]).names == ("c", "a") and table.drop(["b"]).array.shape == (3, 2)
    assert table[:2].columns == table.columns
    for call in (lambda: table.column("d"), lambda: table.select(["d"]), lambda: table.drop(["d"])):
        with pytest.raises(ValueError, match="there is no column 'd', only 'a', 'b', 'c'"):
            call()
    with pytest.raises(ValueError, match="expected a name for each, got 'a' twice"):
        table.select(["a", "a"])
    with pytest.raises(ValueError, match=r"expected \[N, 3\] for 3 columns, got \[3, 2\]"):
        Table(table.columns, table.array[:, :2])


def test_a_share_is_held_out_as_everywhere():
    table = Table.from_cells({"x": list(range(100)), "y": RNG.normal(size=100)})
    rest, test = table.split(test=0.2, seed=3)
    expected = holdout(np.arange(100), 20, seed=3)
    assert rest.cells()["x"] == expected[0].tolist() and test.cells()["x"] == expected[1].tolist()
    assert [len(part) for part in holdout(table, 7)] == [93, 7]
    for test in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match="test must be a share between 0 and 1"):
            table.split(test=test)
    with pytest.raises(ValueError, match="size must be between"):
        table[:1].split()


def test_columns_that_repeat_another():
    n = 60
    town = RNG.choice(["A", "B", "C"], n)
    cells = {
        "x": RNG.normal(size=n),
        "town": town,
        "zip": [{"A": 30, "B": 10, "C": 21}[t] for t in town],
        "x again": None,
        "other": RNG.choice(["A", "B", "C"], n),
        "town again": town,
    }
    cells["x again"] = cells["x"]
    cells["zip"] = [{"A": "z3", "B": "z1", "C": "z2"}[t] for t in town]
    table = Table.from_cells(cells)
    assert [c.same_as for c in table.columns] == [None, None, "town", "x", None, "town"]
    assert table.column("zip").values == ("z3", "z1", "z2")
    for c, j in zip(table.columns, range(6)):
        if c.same_as is not None:
            assert np.array_equal(table.array[:, j], table.array[:, table.names.index(c.same_as)])
    assert table.cells() == {name: list(values) for name, values in cells.items()}
    # the first of those that are left is no repetition
    alone = table.select(["zip", "town again"])
    assert [c.same_as for c in alone.columns] == [None, "zip"] and alone.column("zip").values == ("z1", "z2", "z3")
    assert alone.cells() == {name: list(cells[name]) for name in alone.names}
    with pytest.raises(ValueError, match="column 'x again', row 0: expected what goes with 'x'"):
        Table.from_cells(cells | {"x again": cells["x"] + 1}, columns=table.columns)
    # what goes together by chance, or differs in what is missing, is its own
    assert Table.from_cells({"a": [0, 1, 1], "b": ["x", "y", "y"]}).column("b").same_as is None
    assert Table.from_cells({"a": [1.5, 2.5, None], "b": [1.5, 2.5, 2.5]}).column("b").same_as is None


def test_the_user_overrules():
    table = Table.from_cells({"k": [1, 2, 3, 1], "s": ["a", "b", "a", "c"], "x": [0.0, 0.5, 1.0, 0.25]})
    as_count = table.overrule(k={"kind": "count"})
    assert as_count.column("k")._replace(loc=0, spread=0) == Column(
        "k", "count", "int", step=1.0, low=0.0, loc=0, spread=0
    )
    assert as_count.array[:, 0].tolist() == [1, 2, 3, 1] and as_count.cells() == table.cells()
    assert as_count.overrule(k={"kind": "ordinal"}).columns == table.columns
    assert table.overrule(k={"kind": "categorical"}).column("k").values == (1, 2, 3)
    assert table.overrule(s={"kind": "ordinal"}).column("s").kind == "ordinal"
    bounded = table.overrule(x={"kind": "bounded", "low": 0.0, "high": 1.0, "step": None}).column("x")
    assert (bounded.low, bounded.high, bounded.step) == (0.0, 1.0, None)
    years = Table.from_cells({"y": list(range(1950, 2000))}).overrule(y={"step": None}).column("y")
    assert (years.kind, years.low, years.step) == ("count", 1950.0, None)  # what was not said stays
    shifted = Table.from_cells({"x": [-1.0, 0.5, 3.5]}).overrule(x={"step": 1.5}).column("x")
    assert (shifted.step, shifted.offset) == (1.5, 0.5)
    logged = table.overrule(k={"kind": "positive", "scale": "log"}).column("k")
    assert logged.loc == pytest.approx(np.log([1, 2, 3, 1]).mean())


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"kind": "integer"}, "kind must be one of real, "),
        ({"colour": 1}, "expected fields of kind, .*, got 'colour'"),
        ({"kind": "count"}, "kind 'count' needs integers"),
        ({"kind": "positive"}, "needs numbers above 0; the least is -1"),
        ({"kind": "bounded"}, "needs low and high"),
        ({"kind": "bounded", "low": 0, "high": 9}, "expected numbers from 0 to 9; there are -1 to 2.5"),
        ({"kind": "bounded", "low": 9, "high": 0}, "low < high"),
        ({"scale": "log"}, "scale must be 'linear', or 'log' where all numbers are positive"),
        ({"scale": "square"}, "scale must be"),
        ({"step": -1.0}, "step must be positive or None"),
        ({"step": "1"}, "step must be a number; it is '1'"),
        ({"offset": None}, "offset must be a number; it is None"),
        ({"low": float("nan")}, "low must be a number; it is nan"),
        ({"step": 1.0}, r"step 1 and offset 0 must give all numbers, as offset \+ k·step"),
        ({"low": 0.0}, "'real' has no low"),
        ({"high": 9.0}, "'real' has no high"),
        ({"kind": "positive", "low": None}, "'positive' has a low"),
        ({"kind": "constant"}, "needs one value; there are 3"),
        ({"kind": "ordinal", "step": 1.0}, "'step' does not apply to kind 'ordinal'"),
    ],
)
def test_what_a_column_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"column 'x': .*{message}"):
        column([-1.0, 0.5, 2.5], **fields)


def test_text_is_no_number():
    with pytest.raises(ValueError, match="kind must be ordinal or categorical or constant for text"):
        column(["a", "b"], kind="real")
    with pytest.raises(ValueError, match="there is no column 'z'"):
        Table.from_cells({"x": [1, 2]}).overrule(z={"kind": "real"})


@pytest.mark.parametrize(
    "values, message",
    [
        ([1, "a"], "row 1: expected int as in the rows before, got str 'a'"),
        ([True, 2], "row 1: expected bool as in the rows before, got int 2"),
        ([1.0, float("inf")], "row 1: expected a number up to 3e38, got inf"),
        ([1, 2, 2**53 + 2], "row 2: expected integers up to"),
        ([float("inf")] * 2, "row 0: expected a number up to 3e38, got inf"),
        ([1.0, -1e39], "row 1: expected a number up to 3e38, got -1e\\+39"),
        ([1, 10**400], "row 1: expected "),
        ([1, object()], "row 1: expected numbers, booleans or strings, got object"),
    ],
)
def test_cells_that_no_column_holds(values, message):
    with pytest.raises(ValueError, match=f"column 'x', {message}"):
        column(values)


def test_cells_are_columns_of_one_length():
    for cells in ({}, {"x": []}, {"x": [1], "y": [1, 2]}):
        with pytest.raises(ValueError, match="cells must be columns of one length, at least 1"):
            Table.from_cells(cells)


def test_names_and_texts_are_no_categories():
    names = [f"name {i}" for i in range(40)]
    with pytest.raises(ValueError, match=r"too many to be categories \('n' has 40 in 40 rows\); drop=\['n', 't'\]"):
        Table.from_cells({"n": names, "x": [1, 2] * 20, "t": names[:30] + names[:10]})
    assert len(column(names * 3).values) == 40 and len(column(names[:20]).values) == 20


@pytest.mark.parametrize(
    "cells, message",
    [
        ({"s": ["d"], "x": [1.0], "k": [3]}, "column 's', row 0: expected one of 'a', 'b', got 'd', which is unknown"),
        ({"s": ["a"], "x": ["u"], "k": [3]}, "column 'x', row 0: expected float, got str 'u'"),
        ({"s": ["a"], "x": [True], "k": [3]}, "column 'x', row 0: expected float, got bool True"),
        ({"s": ["a"], "x": [1], "k": [3.5]}, "column 'k', row 0: expected an integer, got 3.5"),
        ({"s": ["a"], "x": [1.0]}, "there is no 'k'"),
        ({"s": ["a"], "x": [1.0], "k": [1], "z": [1]}, "'z' is none of them"),
    ],
)
def test_further_rows_are_of_known_columns(cells, message):
    train = Table.from_cells({"s": ["a", "b"], "x": [0.5, 1.5], "k": [-40, 700]})
    with pytest.raises(ValueError, match=message):
        Table.from_cells(cells, columns=train.columns)
    more = Table.from_cells({"k": [None, 9], "x": [3, None], "s": [None, "a"]}, columns=train.columns)
    assert more.columns == train.columns
    assert np.array_equal(more.array, [[np.nan, 3, np.nan], [0, np.nan, 9]], equal_nan=True)


def test_the_description_says_what_is_done_and_why():
    n = 50
    table = Table.from_cells(
        {
            "id": list(range(1, n + 1)),
            "income": np.exp(RNG.normal(8, 2, n)),
            "price": [None, *np.round(RNG.normal(size=n - 1), 2)],
            "sex": ["f", "m"] * 25,
            "town": [f"t{i % 20}" for i in range(n)],
            "one": [1] * n,
            "empty": [None] * n,
            "sex2": [0, 1] * 25,
            "grade": [1, 2, 3, 4, 5] * 10,
            "spikes": [0.123456789012, 2.0, np.pi] * 16 + [2.0, 2.0],
        }
    ).overrule(grade={"kind": "bounded", "low": 1.0, "high": 5.0})
    described = {row.name: row for row in table.describe().columns}
    said = {name: row.plan for name, row in described.items()}
    assert "it counts the rows" in said["id"] and "heavy-tailed (skewness" in said["income"]
    assert said["income"].endswith("standardized") and "rounded" in said["price"] and "may be missing" in said["price"]
    assert said["sex"] == "one of 2 categories, one-hot" and said["town"] == "one of 20 categories, embedded"
    assert said["one"] == "left out: it has one value" and said["empty"] == "left out: all of it is missing"
    assert said["sex2"] == "left out: it repeats 'sex'" and "between 1 and 5" in said["grade"]
    assert "spike" in said["spikes"] and "spike" not in said["price"]
    assert (
        described["price"].missing == "1 (2%)"
        and described["price"].step == "0.01"
        and described["sex"].range == "f, m"
    )
    lines = str(table.describe()).splitlines()
    assert lines[0] == "50 rows, 10 columns" and len(lines) == 12
    assert lines[1].split() == "column kind range distinct step missing what is done with it".split()


def test_an_integer_too_long_to_be_written_is_named_by_its_size():
    for values in ([1, 10**5000], [10**5000, 2], ["a", 10**5000]):
        with pytest.raises(ValueError, match="an integer of 16610 bits"):
            column(values)


def test_codes_and_numbers_that_stand_for_nothing_are_refused():
    table = Table.from_cells({"s": ["a", "b"], "x": [0.5, 1e30]})
    for array in ([[2.0, 1.0]], [[-1.0, 1.0]], [[0.5, 1.0]]):
        with pytest.raises(ValueError, match=r"column 's': expected places 0\.\.1 of its values, got others"):
            Table(table.columns, np.array(array)).cells()
    with pytest.raises(ValueError, match="column 'x': expected finite numbers"):
        Table(table.columns, np.array([[0.0, np.inf]])).cells()


def test_numbers_of_any_size_are_described_without_a_warning():
    for size in (1e-300, 1e-30, 1.0, 1e30, 3e38):
        found = column((size * RNG.uniform(0.5, 1, 100)).tolist())
        assert np.isfinite([found.loc, found.spread]).all() and found.spread > 0 and found.step is None
        assert str(Table.from_cells({"x": [size, 2 * size / 3, -size]}).describe())


def test_a_frame_of_pandas_is_cells():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.5, None], "k": [3, 400], "s": ["a", None], "b": [True, False]})
    assert Table.from_cells(frame).cells() == {"x": [1.5, None], "k": [3, 400], "s": ["a", None], "b": [True, False]}


def test_a_price_has_its_step_though_its_range_is_wide():
    fares = np.array([7.25, 71.2833, 7.925, 512.3292, 0.0, 8.05] * 3)
    assert grid(fares) == (0.0001, 0.0)


def test_a_coarser_grid_of_most_numbers_is_seen():
    rng = np.random.default_rng(0)
    x = 10.0 * np.rint(30 * rng.normal(size=1000))
    x[::20] += 3
    assert coarse_grid(x, 1.0, 0.0) == (10, 0.0)
    assert coarse_grid(x + 4, 1.0, 0.0) == (10, 4.0)
    assert coarse_grid(0.5 * x, 0.5, 0.0) == (10, 0.0)


def test_a_mode_is_no_coarser_grid():
    rng = np.random.default_rng(0)
    for x in (
        rng.geometric(0.6, 2000) - 1,
        rng.poisson(30, 2000),
        np.rint(rng.lognormal(3, 1, 2000)),
        rng.binomial(9, 0.5, 2000),
    ):
        assert coarse_grid(x.astype(float), 1.0, 0.0) == (1, 0.0)
    assert coarse_grid(10.0 * np.arange(50), 1.0, 0.0) == (1, 0.0)  # too few to say
