"""Densities of tables: masses and densities of every kind of column, any order, missing cells, units, files."""

import itertools
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import pytest
from registry import KEY

import probgen
from probgen.data import Column, Table
from probgen.distributions import ConditionalModel
from probgen.tables import (
    AnyOrderTable,
    Completed,
    FlowTable,
    Observed,
    any_order,
    impute,
    log_prob,
    mixed_flow,
    rows_of,
)
from probgen.tables import sample as tables_sample
from probgen.tables.layout import decoded, encoded, layout_of, log_units
from probgen.tables.numbers import NumberHead, is_rounded, of_columns

NUMBERS = (
    Column("rounded", "real", "float", step=0.5, offset=-1.0, loc=0.3, spread=1.7),
    Column("count", "count", "int", step=1.0, low=0.0, loc=3.0, spread=2.5, atoms=(0.0,)),
    Column("share, rounded", "bounded", "float", step=0.1, low=0.0, high=1.0, loc=0.5, spread=0.3),
    Column("price", "positive", "float", step=0.01, low=0.0, scale="log", loc=-1.0, spread=0.7),
    Column("length, rounded", "positive", "float", step=0.2, offset=0.1, low=0.0, loc=1.0, spread=0.6),
    Column("real", "real", "float", loc=2.0, spread=3.0, atoms=(0.0,)),
    Column("share", "bounded", "float", low=0.0, high=1.0, loc=0.5, spread=0.3),
    Column("length", "positive", "float", low=0.0, loc=1.0, spread=0.8),
    Column("weight", "positive", "float", low=0.0, scale="log", loc=1.0, spread=0.8),
    Column("halves among wholes", "real", "float", step=0.5, offset=-1.0, loc=0.3, spread=1.7, coarse=2),
    Column("share, mostly tenths", "bounded", "float", step=0.02, low=0.0, high=0.96, loc=0.5, spread=0.3, coarse=5),
    Column("pay", "positive", "int", step=1.0, offset=3.0, low=0.0, scale="log", loc=3.0, spread=0.25, coarse=10),
)
COINS = tuple(
    Column(name, "categorical", "str", ("no", "perhaps", "yes")[:n]) for name, n in (("a", 2), ("b", 3), ("c", 2))
)
MIXED = (
    Column("colour", "categorical", "str", ("blue", "green", "red")),
    Column("age", "count", "int", step=1.0, low=0.0, loc=40.0, spread=12.0),
    Column("planet", "constant", "str", ("earth",)),
    Column("size", "positive", "float", low=0.0, scale="log", loc=0.5, spread=0.4),
    Column("hue", "categorical", "str", ("b", "g", "r"), same_as="colour"),
)


def stirred(model, scale=0.5):
    """Weights that are not those of the start, whose outputs are zero."""
    params, rest = probgen.partition(model)
    keys = jax.random.split(KEY, len(params))
    moved = {name: x + scale * jax.random.normal(k, x.shape) / math.sqrt(max(x.shape[-1:] or (1,)))
             for k, (name, x) in zip(keys, sorted(params.items()))}  # fmt: skip
    return probgen.combine(moved, rest)


def small(columns, **options):
    return stirred(any_order(columns, width=8, depth=1, components=2, **options, key=KEY), 1.0)


def test_each_precision_has_constants_of_its_own():
    """JAX remembers what it made of a constant by the array's identity: `test_gradients` after `test_distributions`,
    in one process, met 32 bits in a program of 64."""
    assert layout_of(MIXED) is layout_of(MIXED)
    with jax.enable_x64(True):
        assert layout_of(MIXED) is (wide := layout_of(MIXED))
    assert wide is not layout_of(MIXED) and wide.numbers.step is not layout_of(MIXED).numbers.step


HEAD = NumberHead(of_columns(NUMBERS), 3)
RAW = jax.random.normal(KEY, (len(NUMBERS), HEAD.num_params))
LOG_PROB = jax.jit(jax.vmap(lambda cells: HEAD.log_prob(RAW, cells)))


def column_of(values, j):
    cells = np.zeros((len(values), len(NUMBERS)), np.float32)
    cells[:, j] = values
    return np.asarray(LOG_PROB(cells))[:, j].astype(float)


@pytest.mark.parametrize("j", range(len(NUMBERS)), ids=[column.name for column in NUMBERS])
def test_masses_sum_to_one_and_densities_integrate_to_one(j):
    column, numbers = NUMBERS[j], HEAD.numbers
    low, high = float(numbers.low[j]), float(numbers.high[j])
    if is_rounded(column):
        cells = np.arange(max(low, -3000), min(high, 60000) + 1)
        total = np.exp(column_of(cells, j)).sum()
    else:
        z = np.linspace(max(low, -60), min(high, 60), 400_001)
        total = np.trapezoid(np.exp(column_of(z, j)), z)
        total += np.exp(column_of(numbers.atoms[j][~np.isnan(numbers.atoms[j])], j)).sum()
    assert abs(total - 1) < 1e-5


def test_draws_of_numbers_have_their_masses():
    draws = jax.jit(jax.vmap(lambda key: HEAD.sample(key, RAW)))(jax.random.split(KEY, 100_000))
    assert bool(HEAD.numbers.contain(draws).all())
    for j, column in enumerate(NUMBERS):
        values, counts = np.unique(np.asarray(draws[:, j]), return_counts=True)
        often = np.argsort(-counts)[:3] if is_rounded(column) or column.atoms else []
        for value, count in zip(values[often], counts[often]):
            if is_rounded(column) or value == HEAD.numbers.atoms[j][0]:
                p = math.exp(column_of([value], j)[0])
                assert abs(count / 1e5 - p) < 5 * math.sqrt(p * (1 - p) / 1e5), column.name
        if not is_rounded(column):  # the share below the draws' median of what is no atom
            free = values[counts == 1]
            z = np.linspace(max(float(HEAD.numbers.low[j]), -60), np.median(free), 100_001)
            z, free_mass = z.astype(np.float32).astype(float), counts[counts == 1].sum() / 1e5
            assert abs(np.trapezoid(np.exp(column_of(z, j)), z) - free_mass / 2) < 0.01, column.name


def test_draws_of_a_number_that_is_mostly_round_are_as_round_as_its_probabilities():
    draws = np.asarray(jax.jit(jax.vmap(lambda key: HEAD.sample(key, RAW)))(jax.random.split(KEY, 20_000)))
    for j, column in enumerate(NUMBERS):
        if column.coarse > 1:
            cells = np.arange(max(float(HEAD.numbers.low[j]), -3000), min(float(HEAD.numbers.high[j]), 60000) + 1)
            p, on = np.exp(column_of(cells, j)), cells % column.coarse == 0
            share = p[on].sum()
            assert share > 1.2 / column.coarse, column.name  # or nothing is tested
            assert abs(np.mean(draws[:, j] % column.coarse == 0) - share) < 5 * math.sqrt(share / 2e4), column.name


def test_a_number_that_is_mostly_round_is_learned_so():
    rng = np.random.default_rng(0)
    places = np.rint(20 * rng.normal(size=2000)).astype(int)
    values = np.where(rng.uniform(size=2000) < 0.96, 10 * np.rint(places / 10), places)
    table = Table.from_cells({"pay": (0.5 * values + 100).tolist()})
    assert table.columns[0].coarse == 10 and table.columns[0].step == 0.5
    found = []
    for columns in (table.columns, (table.columns[0]._replace(coarse=1),)):
        model = any_order(columns, width=8, depth=1, components=4, dropout=0.0, key=KEY)
        _, x = rows_of(model, Table(columns, table.array))
        result = probgen.fit(model, x, steps=400, batch_size=256, optimizer=optax.adam(2e-2), key=KEY, progress=False)
        found.append(log_prob(result.model, Table(columns, table.array)).mean())
    q, counts = 0.96 + 0.04 / 10, np.unique(values, return_counts=True)[1]
    assert found[0] - found[1] > 0.9 * (q * math.log(10) + q * math.log(q) + (1 - q) * math.log(1 - q))
    assert found[0] < -np.sum(counts / 2000 * -np.log(counts / 2000)) + 0.01  # no more than the rows themselves say


def test_gradients_are_finite_at_extremes_and_as_differences_say():
    cells = np.stack([HEAD.numbers.cells(jnp.full(len(NUMBERS), z)) for z in (-30.0, 0.3, 30.0)])
    value = lambda raw: jnp.sum(jax.vmap(lambda x: HEAD.log_prob(raw, x))(cells))
    for scale in (1.0, 30.0):
        gradient = jax.grad(value)(scale * RAW)
        assert bool(jnp.isfinite(gradient).all()) and bool(jnp.isfinite(value(scale * RAW)))
    direction = jax.random.normal(jax.random.key(3), RAW.shape)
    of_direction = float(jnp.sum(jax.grad(value)(RAW) * direction))
    difference = float(value(RAW + 1e-2 * direction) - value(RAW - 1e-2 * direction)) / 2e-2
    assert abs(of_direction - difference) < 2e-2 * abs(difference)


ALL = jnp.array(list(itertools.product(range(2), range(3), range(2))), float)


@pytest.mark.parametrize("orders", [None, [(2, 0, 1)], [(0, 1, 2), (1, 2, 0)]])
def test_probabilities_of_all_rows_sum_to_one_in_any_orders(orders):
    model = small(COINS, orders=orders)
    assert abs(float(jnp.exp(model.log_prob(ALL)).sum()) - 1) < 1e-5
    assert abs(float(model.log_prob(ALL).std())) > 0.1  # and are not all the same


def test_the_density_is_the_product_of_what_the_network_says():
    model, x = small(COINS, orders=[(2, 0, 1)]), jnp.array([1.0, 2.0, 0.0])
    total, known = 0.0, jnp.zeros(3, bool)
    for i in (2, 0, 1):
        total += model.head.log_prob(model._raw(x, known), x)[i]
        known = known.at[i].set(True)
    assert abs(float(total - model.log_prob(x))) < 1e-5


def test_what_comes_later_changes_nothing():
    """The conditionals are causal: perturb the last cell of the order, and the others' do not move."""
    model = small(COINS, orders=[(2, 0, 1)])
    first = Observed(model, jnp.array([True, False, True]))
    blank = lambda x: jnp.where(jnp.array([True, False, True]), x, 0.0)
    both = jnp.exp(first.log_prob(jax.vmap(blank)(ALL)))
    summed = jnp.stack([jnp.exp(model.log_prob(ALL))[(ALL[:, 0] == x[0]) & (ALL[:, 2] == x[2])].sum() for x in ALL])
    np.testing.assert_allclose(both, summed, rtol=1e-5)  # what is missing comes last: the margin is exact


def test_rows_with_missing_cells_are_distributions():
    model, mask = small(COINS), jnp.array([True, False, True])
    seen = jnp.array([row for row in ALL.tolist() if row[1] == 0.0])
    assert abs(float(jnp.exp(Observed(model, mask).log_prob(seen)).sum()) - 1) < 1e-5
    assert float(Observed(model, mask).log_prob(jnp.array([0.0, 1.0, 0.0]))) == -jnp.inf
    draws = Observed(model, mask).sample(KEY, (50,))
    assert bool((draws[:, 1] == 0).all()) and draws.shape == (50, 3)


def test_completions_are_distributions_and_their_draws_have_their_masses():
    model = small(COINS, orders=[(0, 1, 2), (2, 1, 0)])
    known, x = jnp.array([False, True, False]), jnp.array([jnp.nan, 2.0, -1.0])
    completed = model.given(x, known)
    assert isinstance(completed, Completed)
    p = jnp.exp(completed.log_prob(ALL))
    assert abs(float(p.sum()) - 1) < 1e-5 and bool((p[ALL[:, 1] != 2] == 0).all())
    draws = completed.sample(jax.random.key(1), (20_000,))
    for row, mass in zip(ALL, p):
        assert abs(float((draws == row).all(-1).mean()) - float(mass)) < 5 * math.sqrt(0.25 / 20_000)


def test_the_training_loss_is_the_mean_over_all_orders():
    model, x = small(COINS), jnp.array([1.0, 2.0, 1.0])
    orders = list(itertools.permutations(range(3)))
    mean = np.mean([float(model.replace(orders=[order]).log_prob(x)) for order in orders])
    losses = jax.jit(lambda key: model.training_loss(key, jnp.broadcast_to(x, (60_000, 3))))(KEY)
    assert abs(float(losses.mean()) + mean) < 4 * float(losses.std()) / math.sqrt(60_000)
    assert float(losses.std()) > 0.01


def test_a_loss_of_observed_cells_is_the_mean_over_their_orders():
    model, x, mask = small(COINS), jnp.array([1.0, 0.0, 1.0]), jnp.array([True, False, True])
    mean = np.mean([float(Observed(model.replace(orders=[o]), mask).log_prob(x)) for o in ((0, 1, 2), (2, 1, 0))])
    conditional = ConditionalModel(Observed(model), (3,))
    masks = jnp.broadcast_to(mask, (40_000, 3))
    losses = jax.jit(lambda key: conditional(masks).training_loss(key, jnp.broadcast_to(x, (40_000, 3))))(KEY)
    assert abs(float(losses.mean()) + mean) < 4 * float(losses.std()) / math.sqrt(40_000)


def table(rows=400, missing=True):
    rng = np.random.default_rng(0)
    colour = rng.choice(["blue", "green", "red"], rows, p=[0.5, 0.3, 0.2])
    age = np.clip(np.round(rng.normal(np.where(colour == "red", 60, 30), 8)), 0, None).astype(int)
    size = np.exp(rng.normal(0.1 * age - 3, 0.5))
    cells = {"colour": list(colour), "age": age.tolist(), "planet": ["earth"] * rows, "size": size.tolist()}
    cells["hue"] = [c[0] for c in colour]
    if missing:
        cells["age"] = [None if u < 0.2 else a for u, a in zip(rng.uniform(size=rows), cells["age"])]
    return Table.from_cells(cells)


def test_rows_are_encoded_and_decoded_in_their_units():
    made = table()
    x, observed = encoded(made.columns, made.array)
    assert x.shape == observed.shape == (400, 3) and x.dtype == np.float32
    assert layout_of(made.columns).contain(x).all()
    back = decoded(made.columns, x)
    kept = ~np.isnan(made.array)
    np.testing.assert_allclose(back[kept], made.array[kept], rtol=1e-5)
    exactly = [column.name != "size" for column in made.columns]
    np.testing.assert_array_equal(back[:, exactly][kept[:, exactly]], made.array[:, exactly][kept[:, exactly]])


def test_a_density_is_that_of_the_units_of_the_table():
    """Of a table in other units, log p differs by the logarithm of the unit; of rounded numbers, not at all."""
    metres = Table.from_cells({"x": [1.0, 2.0, 4.5, 3.25, 0.03125], "k": [1, 2, 3, 700, 900]})
    metres = metres.overrule(x={"step": None})
    feet = Table.from_cells({"x": (metres.array[:, 0] * 4).tolist(), "k": [1, 2, 3, 700, 900]}).overrule(
        x={"step": None}
    )
    models = [small(t.columns) for t in (metres, feet)]
    np.testing.assert_allclose(log_prob(models[0], metres), log_prob(models[1], feet) + math.log(4), rtol=1e-4)


def test_a_log_normal_column_has_its_density():
    column = Column("x", "positive", "float", low=0.0, scale="log", loc=1.0, spread=0.5)
    x = np.array([[0.5], [2.0], [30.0]])
    model = any_order((column,), components=1, width=4, depth=0, key=KEY)
    z = encoded((column,), x)[0]
    steps = 1e-3 * x
    shift = np.log(encoded((column,), x + steps)[0] - encoded((column,), x - steps)[0]) - np.log(2 * steps)
    np.testing.assert_allclose(log_units((column,), x), shift[:, 0], atol=1e-3)
    made = Table((column,), x)
    np.testing.assert_allclose(log_prob(model, made), np.asarray(model.log_prob(z)) + shift[:, 0], atol=1e-3)


def fitted(model, made, steps=400):
    model, rows = rows_of(model, made)
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))
    result = probgen.fit(model, rows, steps=steps, batch_size=100, optimizer=optimizer, key=KEY, progress=False)
    return result.model


def test_it_learns_a_table_with_missing_cells_and_fills_them_in():
    made = table(2000)
    model = fitted(any_order(made.columns, width=48, depth=1, components=2, dropout=0.0, key=KEY), made).model.model
    assert isinstance(model, AnyOrderTable)
    whole = table(2000, missing=False)
    p = {"blue": 0.5, "green": 0.3, "red": 0.2}
    entropy = -sum(q * math.log(q) for q in p.values()) + 2 * 0.5 * math.log(2 * math.pi * math.e) + math.log(8 * 0.5)
    cells = whole.cells()
    truth = -entropy - np.mean(np.log(cells["size"]))
    assert truth - 0.15 < log_prob(model, whole).mean() < truth + 0.1
    filled = impute(model, jax.random.key(5), made).cells()
    red = [a for c, a, was in zip(filled["colour"], filled["age"], made.cells()["age"]) if c == "red" and was is None]
    assert abs(np.mean(red) - 60) < 4 and all(isinstance(a, int) for a in red)
    drawn = probgen.tables.sample(model, jax.random.key(6), 500).cells()
    assert set(drawn["colour"]) <= set(p) and [c[0] for c in drawn["colour"]] == drawn["hue"]
    assert set(drawn["planet"]) == {"earth"}
    assert abs(np.mean([c == "blue" for c in drawn["colour"]]) - 0.5) < 0.12


def test_a_flow_on_the_numbers_learns_the_same_table():
    made = table(1000, missing=False)
    flow = probgen.flows.nsf(2, passes=None, layers=1, hidden=(24,), context_dim=3, key=KEY)
    model = fitted(mixed_flow(made.columns, flow=flow, width=24, dropout=0.0, key=KEY), made, 500)
    assert isinstance(model, FlowTable) and model.kind == "weights"
    _, x = rows_of(model, made)
    bound = float(model.log_prob_bound(KEY, x, 64).mean()) + float(log_units(made.columns, made.array).mean())
    entropy = 1.0297 + math.log(2 * math.pi * math.e) + math.log(8 * 0.5)
    truth = -entropy - np.mean(np.log(made.cells()["size"]))
    assert truth - 0.35 < bound < truth + 0.1
    drawn = probgen.tables.sample(model, jax.random.key(6), 200).cells()
    assert all(isinstance(age, int) and age >= 0 for age in drawn["age"])


def test_masses_of_a_flow_sum_to_no_more_than_one():
    columns = (Column("a", "categorical", "str", ("x", "y")), Column("k", "real", "int", step=1.0, loc=1.0, spread=2.0))
    flow = probgen.flows.maf(1, layers=1, hidden=(8,), context_dim=2, key=KEY)
    model = stirred(mixed_flow(columns, flow=flow, width=8, dropout=0.0, key=KEY), 1.0)
    rows = jnp.array([(a, k) for a in (0.0, 1.0) for k in range(-40, 41)])
    weights = jax.jit(lambda key: model.log_weights(key, rows, 400))(KEY)
    assert abs(float(jnp.exp(weights).mean(0).sum()) - 1) < 0.02


def test_a_model_of_a_table_is_a_site_and_a_file(tmp_path):
    model = small(MIXED)
    probgen.save(tmp_path / "table.safetensors", model)
    x = model.sample(KEY, (4,))
    script = (
        "import sys, jax, numpy as np, probgen; m = probgen.load(sys.argv[1]); "
        "print(repr(np.asarray(m.log_prob(np.float32(eval(sys.argv[2])))).round(4).tolist()))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "table.safetensors"), repr(np.asarray(x).tolist())]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "3"}
    )
    np.testing.assert_allclose(eval(printed.stdout), model.log_prob(x), atol=2e-4)

    def program(rows):
        with numpyro.plate("rows", len(rows)):
            numpyro.sample("x", model, obs=rows)

    trace = numpyro.handlers.trace(numpyro.handlers.seed(program, 0)).get_trace(x)
    assert trace["x"]["fn"].log_prob(x).shape == (4,)
    conditional = ConditionalModel(Observed(model), (3,))
    assert conditional(jnp.ones((4, 3), bool)).log_prob(x).shape == (4,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: any_order((MIXED[2],), key=KEY), "columns: expected some that vary"),
        (lambda: small(COINS).replace(orders=[(0, 1)]), "orders: expected permutations of 0..2"),
        (lambda: small(COINS).given(ALL, jnp.ones(3)), "mask: expected booleans"),
        (lambda: Observed(small(COINS)).log_prob(ALL), "this model is conditional"),
        (lambda: Observed(3), "model: expected an AnyOrderTable, got a int"),
        (lambda: AnyOrderTable(lambda f, known: jnp.zeros(3), COINS).log_prob(ALL), "network: expected an output of 7"),
        (lambda: mixed_flow(COINS, key=KEY), "columns: expected some of numbers"),
        (lambda: mixed_flow(NUMBERS[5:7], key=KEY), "'real' is not rounded and repeats the value 0"),
        (lambda: mixed_flow(MIXED, flow=probgen.flows.maf(2, key=KEY), key=KEY), "flow: expected one of 2 numbers"),
        (lambda: rows_of(small(COINS), table()), "table: expected the columns that the model is of, a, b, c"),
        (lambda: rows_of(mixed_flow(table().columns, key=KEY), table()), "'age' is missing in row"),
        (lambda: log_prob(mixed_flow(MIXED, key=KEY), table()), "expected an AnyOrderTable"),
        (lambda: encoded(COINS, np.zeros((2, 2))), "array: expected rows of 3 columns"),
        (lambda: probgen.tables.sample(small(COINS), KEY, 0), "num: expected an integer of at least 1, got 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_rows_outside_of_a_columns_bounds_are_refused():
    made = Table.from_cells({"k": list(range(30)) * 3, "c": ["a", "b", "c"] * 30})
    model = any_order(made.columns, width=8, depth=1, key=KEY)
    outside = Table(made.columns, np.where(made.array == 7, -2.0, made.array))
    with pytest.raises(ValueError, match="column 'k' has -2, and takes numbers from 0"):
        rows_of(model, outside)


def test_numbers_off_their_grid_have_no_probability():
    made = Table.from_cells({"price": [0.25 * i for i in range(1, 31)], "n": list(range(30))})
    model = any_order(made.columns, width=8, depth=1, key=KEY)
    for wrong, message in [
        (np.add(made.array, [0.1, 0]), r"column 'price' has 0\.35, and takes numbers on steps of 0\.25 only"),
        (np.add(made.array, [0, 0.5]), "column 'n' has 0.5, and takes numbers on steps of 1 only"),
        (made.array - [[0.25, 0]], "column 'price' has 0, and takes numbers above 0"),
    ]:
        for ask in (rows_of, log_prob):
            with pytest.raises(ValueError, match=message):
                ask(model, Table(made.columns, wrong))


def test_few_numbers_without_a_step_are_warned_of():
    ages = [20.0 + i % 40 for i in range(400)]
    made = Table.from_cells({"age": ages}).overrule(age={"kind": "real", "step": None})
    model = any_order(made.columns, width=8, depth=1, key=KEY)
    with pytest.warns(UserWarning, match="column 'age' has 40 distinct numbers in 400 cells, and no step"):
        rows_of(model, made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t, m: any_order(t, key=KEY), "columns: expected those of a table, table.columns, got a Table"),
        (lambda t, m: any_order(t.columns, orders=[["x", "k"]], key=KEY), "orders: expected permutations of 0..1"),
        (lambda t, m: log_prob(m, t.array), "table: expected a probgen.data.Table, got a ndarray"),
        (lambda t, m: impute(m, 0, t), "key: expected a jax.random.key, got 0"),
        (lambda t, m: t[3], "rows: expected a slice, indices"),
        (lambda t, m: t["x"], "rows: expected a slice, indices"),
        (lambda t, m: t.overrule(x=3), "x must be a dict of fields"),
        (lambda t, m: Table.from_cells([[1, 2]]), "cells must be a mapping of columns"),
        (lambda t, m: probgen.data.read("x.csv", columns=["x"]), "columns must be those of a table"),
        (
            lambda t, m: probgen.fit(m, t, steps=1, key=KEY),
            "data: a table goes in as its rows: model, rows =",
        ),
    ],
)
def test_tables_where_something_else_is_meant(make, message):
    made = Table.from_cells({"x": [0.5 * i for i in range(40)], "k": [i % 3 for i in range(40)]})
    with pytest.raises(ValueError, match=message):
        make(made, any_order(made.columns, width=8, depth=1, key=KEY))


def test_what_fit_returns_is_taken_as_it_is():
    sizes = [None if i % 3 == 1 else 0.37 * i * i for i in range(27)]
    table = Table.from_cells({"colour": ["red", "blue", None] * 9, "size": sizes})
    model = small(table.columns)
    view, _ = rows_of(model, table)
    np.testing.assert_array_equal(log_prob(view, table), log_prob(model, table))
    np.testing.assert_array_equal(impute(view, KEY, table).array, impute(model, KEY, table).array)
    np.testing.assert_array_equal(probgen.tables.sample(view, KEY, 5).array, probgen.tables.sample(model, KEY, 5).array)
    again, (x, observed) = rows_of(view, table)
    _, (want, masks) = rows_of(model, table)
    assert type(again) is type(view) and (x == want).all() and (observed == masks).all()
    rows, names = table[:0], [c.name for c in table.columns]
    assert log_prob(view, rows).shape == (0,) and impute(view, KEY, rows).array.shape == (0, len(names))
    flow = mixed_flow(table.columns, width=8, key=KEY)
    for call in (lambda: log_prob(flow, table), lambda: impute(flow, KEY, table)):
        with pytest.raises(
            ValueError, match=r"^model: expected an AnyOrderTable, which has a density, got a FlowTable"
        ):
            call()
    with pytest.raises(ValueError, match=r"^key: "):
        probgen.tables.sample(view, 0, 5)
    for other in (numpyro.distributions.Normal(), None):
        with pytest.raises(ValueError, match=r"^model: expected one of a table, got a N"):
            rows_of(other, table)
        with pytest.raises(ValueError, match=r"^model: expected one of a table, got a N"):
            probgen.tables.sample(other, KEY, 5)


@pytest.mark.parametrize(
    ("first", "step", "span"),
    [(1.7e9, 1.0, 3000), (1.7e12, 1.0, 3000), (2.0240101e7, 1.0, 1130), (1e6, 1e-3, 5000), (-(2.0**40), 0.25, 99)],
)
def test_large_numbers_in_small_steps_are_told_apart(first, step, span):
    """Dates, times, prices: float32 counts no steps from 0 to there."""
    places = np.random.default_rng(0).integers(0, span, 500)
    table = Table.from_cells({"t": [round(first + step * int(k), 3) for k in places]})
    (column,) = table.columns
    assert column.step == step
    x, _ = encoded(table.columns, table.array)
    assert len(np.unique(x)) == len(np.unique(places))
    np.testing.assert_allclose(decoded(table.columns, x), table.array, rtol=0, atol=0.01 * step)
    model = any_order(table.columns, width=8, depth=1, key=KEY)
    around = np.arange(x.min() - 20 * span, x.max() + 20 * span, dtype=np.float32)[:, None]
    np.testing.assert_allclose(np.exp(jax.jit(model.log_prob)(around)).sum(), 1.0, atol=2e-3)
    draws = tables_sample(model, KEY, 300)
    assert len(np.unique(draws.array)) > 0.5 * min(300, span)
    rows_of(model, draws)  # of which each lies on the steps


def test_a_column_of_nothing_stays_one():
    table = Table.from_cells({"a": [1, 2, 3, None] * 10, "z": [None] * 40})
    model = any_order(table.columns, width=8, depth=1, key=KEY)
    assert tables_sample(model, KEY, 3).cells()["z"] == [None] * 3
    filled = impute(model, KEY, table)
    assert filled.cells()["z"] == [None] * 40 and None not in filled.cells()["a"]
