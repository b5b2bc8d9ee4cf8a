"""`fit` on rows that memory does not hold: memory-mapped files, indexable sources, iterables of batches."""

import itertools
import pickle
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pyarrow
import pytest
from pyarrow import parquet

import probgen
from probgen import fit
from probgen.data import ParquetRows
from probgen.distributions import Model
from probgen.inference import Checkpoints, ShuffledBatches
from probgen.inference.training import clock, sources, stream

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(101, 2)).astype(np.float32) * [2.0, 0.5] + 1.0
X = X.astype(np.float32)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 8 rows, windows of 3 blocks, stacks of 4 batches: all of a large source, with few rows."""
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(sources, "_WINDOW_BYTES", 192)
    monkeypatch.setattr(stream, "_STACK_BYTES", 4 * 10 * 8)


def flow():
    return probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(2))


def quiet(model, data, **kwargs):
    return fit(model, data, **{"key": KEY, "progress": False, **kwargs})


def mapped(folder, x, name="x.npy"):
    np.save(folder / name, x)
    return np.load(folder / name, mmap_mode="r")


class Rows:
    """An indexable source of rows, as grain's are."""

    def __init__(self, x):
        self.x, self.read, self.threads = x, 0, set()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read += 1
        self.threads.add(threading.current_thread())
        return self.x[i]


class Batches:
    """An iterable that begins anew."""

    def __init__(self, x, size=10):
        self.x, self.size = x, size

    def __iter__(self):
        return (self.x[i : i + self.size] for i in range(0, len(self.x), self.size))


def in_parquet(folder, x):
    """Uneven groups: of 7 rows, and what is left."""
    columns = {str(i): column for i, column in enumerate(x.reshape(len(x), -1).T)}
    parquet.write_table(pyarrow.table(columns), folder / "x.parquet", row_group_size=7)
    return ParquetRows(folder / "x.parquet")


def of_kind(kind, folder, x=X):
    data = {
        "memmap": lambda: mapped(folder, x),
        "indexed": lambda: Rows(x),
        "parquet": lambda: in_parquet(folder, x),
        "batches": lambda: Batches(x),
        "shuffled": lambda: ShuffledBatches(Batches(x), window=3),
    }[kind]()
    return data, {} if kind in ("batches", "shuffled") else {"batch_size": 10}


KINDS = ("memmap", "indexed", "batches")


class Seen(Model):
    """Its loss of a row is the row itself."""

    pytree_data_fields = ("offset",)
    learnable_fields = ("offset",)
    support = dist.constraints.real

    def __init__(self):
        self.offset = jnp.zeros(())
        super().__init__(())

    def _log_prob(self, value):
        return -value + 0 * self.offset

    def _sample(self, key):
        return self.offset


# -- which rows


@pytest.mark.parametrize("kind", ["memmap", "indexed"])
def test_an_epoch_has_each_row_once_in_an_order_of_its_own(kind, tmp_path):
    numbers = np.arange(101, dtype=np.float32)
    data, options = of_kind(kind, tmp_path, numbers)
    result = quiet(Seen(), data, epochs=3, **{**options, "batch_size": 1})
    orders = result.losses.reshape(3, 101)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(numbers, (3, 1)))
    assert len({tuple(order) for order in orders}) == 3
    lag = np.abs(np.diff(orders, axis=1)) == 1  # a shuffled window of w rows has 2/w neighbours, of 101 few
    assert lag.mean() < 0.2
    again = quiet(Seen(), data, epochs=3, **{**options, "batch_size": 1})
    np.testing.assert_array_equal(result.losses, again.losses)
    other = quiet(Seen(), data, epochs=3, key=jax.random.key(1), **{**options, "batch_size": 1})
    assert not np.array_equal(result.losses, other.losses)


def test_rows_of_a_parquet_file_come_by_its_groups(tmp_path):
    rows = in_parquet(tmp_path, np.arange(200.0).reshape(100, 2))
    assert len(rows) == 100 and rows.columns == ("0", "1") and list(map(len, rows.row_groups)) == [7] * 14 + [2]
    np.testing.assert_array_equal([rows[0], rows[-1]], [[0.0, 1.0], [198.0, 199.0]])
    np.testing.assert_array_equal(rows.__getitems__([3, 99, 6, 7])[:, 0], [6.0, 198.0, 12.0, 14.0])
    with pytest.raises(IndexError, match="rows of 100, got 100"):
        rows[100]
    groups, read = [], rows._file.read_row_group
    rows._file = type(
        "File", (), {"read_row_group": lambda self, i, **options: groups.append(i) or read(i, **options)}
    )()
    windows = sources.Windows(sources.Indexed(rows), 5)
    batches = windows.batches(0, [0])
    found = np.concatenate([next(batches).data[0][0] for _ in range(20)])
    np.testing.assert_array_equal(np.sort(found[:, 0]), np.arange(0.0, 200.0, 2.0))
    assert sorted(groups) == [0, *range(15)]  # the first one for the first batch, and each of them once


def test_groups_of_a_parquet_file_may_be_empty(tmp_path):
    with parquet.ParquetWriter(tmp_path / "x.parquet", pyarrow.schema({"x": pyarrow.float32()})) as file:
        for size in (3, 0, 4, 0):
            file.write_table(pyarrow.table({"x": pyarrow.array(np.arange(size) + 10.0, pyarrow.float32())}))
    rows = ParquetRows(tmp_path / "x.parquet")
    assert len(rows) == 7 and rows[3] == 10.0
    batches = sources.Windows(sources.Indexed(rows), 1).batches(0, [0])
    found = [float(next(batches).data[0][0][0, 0]) for _ in range(7)]
    np.testing.assert_array_equal(np.sort(found), [10.0, 10.0, 11.0, 11.0, 12.0, 12.0, 13.0])


def test_rows_of_batches_are_shuffled_within_windows():
    """The last window has 21 rows in batches of 1, and one that is short in batches of 10."""
    numbers = np.arange(101, dtype=np.float32)
    data = ShuffledBatches(Batches(numbers, 1), window=20)
    orders = quiet(Seen(), data, steps=303).losses.reshape(3, 101)
    for order in orders:
        for start in range(0, 101, 20):
            np.testing.assert_array_equal(np.sort(order[start : start + 20]), numbers[start : start + 20])
    assert len({tuple(order) for order in orders}) == 3
    np.testing.assert_array_equal(quiet(Seen(), data, steps=303).losses, orders.ravel())
    assert not np.array_equal(quiet(Seen(), data, steps=303, key=jax.random.key(1)).losses, orders.ravel())
    whole = ShuffledBatches(Batches(numbers), window=20)
    losses = quiet(Seen(), whole, steps=40).losses.reshape(4, 10)  # 100 of 101 rows in each epoch, others each time
    assert len({round(epoch.sum()) for epoch in losses}) > 1
    assert (np.abs(losses.sum(1) * 10 - numbers.sum()) <= 100).all()
    one = quiet(Seen(), ShuffledBatches(Batches(numbers), window=1), steps=20).losses
    np.testing.assert_array_equal(one, quiet(Seen(), Batches(numbers), steps=20).losses)


@pytest.mark.parametrize("window", [None, 1, 3])
def test_a_source_may_fill_one_buffer_again(window):
    class Buffered(Batches):
        def __iter__(self):
            buffer = np.empty(self.size, np.float32)
            for batch in super().__iter__():
                if len(batch) == self.size:
                    buffer[:] = batch
                    yield buffer

    class Row(Rows):
        buffer = np.empty((), np.float32)

        def __getitem__(self, i):
            self.buffer[...] = self.x[i]
            return self.buffer

    numbers = np.arange(101, dtype=np.float32)
    wrap = (lambda batches: batches) if window is None else lambda batches: ShuffledBatches(batches, window=window)
    losses = [quiet(Seen(), wrap(kind(numbers[:100])), steps=30).losses for kind in (Batches, Buffered)]
    np.testing.assert_array_equal(*losses)
    losses = [quiet(Seen(), kind(numbers), batch_size=10, steps=30).losses for kind in (Rows, Row)]
    np.testing.assert_array_equal(*losses)


def test_batches_come_as_the_iterable_has_them_and_a_short_last_one_is_left_out():
    numbers = np.arange(25, dtype=np.float32)
    result = quiet(Seen(), Batches(numbers), steps=5)
    np.testing.assert_array_equal(result.losses, [4.5, 14.5, 4.5, 14.5, 4.5])
    endless = itertools.cycle([numbers[:10], numbers[10:20]])
    np.testing.assert_array_equal(quiet(Seen(), endless, steps=5).losses, result.losses)


def test_the_loss_is_that_of_the_same_batches_in_memory():
    """Against one batch of all rows, which is its own epoch."""
    x = X[:40]
    one = quiet(flow(), x, steps=12)
    for data, options in [(Batches(x, 40), {}), (Rows(x), {"batch_size": 40})]:
        np.testing.assert_allclose(quiet(flow(), data, steps=12, **options).losses, one.losses, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tuples_dicts_and_small_integers(kind, tmp_path):
    """Of a conditional model, and a program; in 64 bits, and in 8."""
    conditional = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY)
    context = np.tile(np.arange(3.0), (101, 1))

    def program(x, n):
        rate = numpyro.param("rate", 1.0, constraint=dist.constraints.positive)
        with numpyro.plate("N", len(x)):
            numpyro.sample("x", dist.Normal(numpyro.param("loc", 0.0), 1.0), obs=x)
            numpyro.sample("n", dist.Poisson(rate), obs=n)

    counts = np.arange(101).astype(np.uint8) % 7
    if kind == "memmap":
        pair = (mapped(tmp_path, X), mapped(tmp_path, context, "context.npy"))
        both = {"x": mapped(tmp_path, X[:, 0], "first.npy"), "n": counts}
    elif kind == "indexed":
        pair = Rows([(x, list(c)) for x, c in zip(X, context)])
        both = Rows([{"x": x, "n": n} for x, n in zip(X[:, 0], counts)])
    else:
        pair = Batches2([(X[i : i + 10], context[i : i + 10]) for i in range(0, 101, 10)])
        both = None
    size = {} if kind == "batches" else {"batch_size": 20}
    assert np.isfinite(
        quiet(conditional, pair, steps=12, validation=(X, context), validate_every=5, **size).losses
    ).all()
    if both is not None:
        result = quiet(program, both, epochs=60, learning_rate=0.05, **size)
        assert float(result.params["rate"]) == pytest.approx(counts.mean(), abs=0.3)
        assert float(result.params["loc"]) == pytest.approx(X[:, 0].mean(), abs=0.3)


class Batches2(Batches):
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_a_program_weighs_its_plates_by_all_rows(tmp_path):
    """Its posterior is that of all rows."""

    def program(x):
        loc = numpyro.sample("loc", dist.Normal(0.0, 10.0))
        with numpyro.plate("N", len(x)):
            numpyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def guide(x):
        scale = numpyro.param("scale", 0.5, constraint=dist.constraints.positive)
        numpyro.sample("loc", dist.Normal(numpyro.param("mean", 0.0), scale))

    data = mapped(tmp_path, X[:100, 0])
    rate = optax.cosine_decay_schedule(0.1, 1000)
    result = quiet(program, data, guide=guide, steps=1000, batch_size=10, learning_rate=rate, num_particles=8)
    assert float(result.params["scale"]) == pytest.approx((100 + 0.01) ** -0.5, rel=0.15)


# -- what does not show


@pytest.mark.parametrize("kind", [*KINDS, "parquet", "shuffled"])
def test_a_resumed_training_equals_one_that_went_through(kind, tmp_path, monkeypatch):
    data, options = of_kind(kind, tmp_path)
    options |= {"ema": 0.9, "validation": X, "validate_every": 7, "key": KEY, "progress": False}
    whole = fit(flow(), data, steps=60, **options)
    for steps in (13, 29, 60):
        monkeypatch.setattr(clock, "_CHUNK_SECONDS", 1e-9 if steps == 29 else 1e9)
        monkeypatch.setattr(stream, "_STACK_BYTES", 80 * steps)
        resumed = fit(
            flow(), data, steps=steps, checkpoint=Checkpoints(tmp_path / "c", every=5), resume=True, **options
        )
    np.testing.assert_array_equal(whole.losses, resumed.losses)
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)
    assert whole.history.identical(resumed.history)
    other = of_kind(kind, tmp_path, X + np.float32(1.0))[0]
    with pytest.raises(ValueError, match=r"^checkpoint: .* is that of another data: array 0"):
        fit(flow(), other, steps=70, checkpoint=tmp_path / "c", resume=True, **options)


def test_a_failure_is_found_in_the_middle_of_a_stack():
    explode = optax.chain(optax.sgd(0.01), optax.scale_by_schedule(lambda step: jnp.where(step < 6, 1.0, jnp.inf)))
    with pytest.warns(RuntimeWarning, match="step 7"):
        result = quiet(flow(), Batches(X), steps=20, optimizer=explode)
    np.testing.assert_array_equal(result.losses, quiet(flow(), Batches(X), steps=6, optimizer=optax.sgd(0.01)).losses)


def test_rows_are_read_as_they_are_needed_and_by_a_thread():
    data = Rows(np.zeros((100_000, 2), np.float32) + X[0])
    quiet(flow(), data, steps=2, batch_size=10)
    assert data.read < 500 and len(data.threads) == 2  # the first batch is read before
    assert not any(thread.is_alive() for thread in data.threads - {threading.current_thread()})


MEMORY = """
import resource, sys
import numpy as np
from probgen.inference.training import sources

sources._BLOCK_BYTES, sources._WINDOW_BYTES = 2**20, 2**23
with open(sys.argv[1], "wb") as file:
    file.truncate(2**29)
rows = sources.Windows(sources.Mapped(np.memmap(sys.argv[1], np.float32, "r", shape=(2**23, 16))), 2**10)
most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
batches, before = rows.batches(0, [0]), most()
for _ in range(rows.epoch_steps):
    next(batches).blocks.clear()
print((most() - before) / 2**10)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Of half a gigabyte, a few windows of 8 MB are held."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "rows")]
    assert float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 100


# -- what is wrong


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_no_event_is_named_when_it_is_read(kind, tmp_path):
    bad = X.copy()
    bad[57, 1] = np.nan
    data, options = of_kind(kind, tmp_path, bad)
    with pytest.raises(ValueError, match=r"^data: expected finite numbers, got nan in row 57$"):
        quiet(flow(), data, steps=20, **options)
    counts = np.ones((101, 2), np.int64)
    counts[95, 0] = 3
    data, options = of_kind(kind, tmp_path, counts)
    with pytest.raises(ValueError, match=r"^data: row 95 lies outside the model's support"):
        quiet(probgen.mixtures.histogram((2,), 3), data, steps=20, **options)
    with pytest.raises(ValueError, match=r"^data: expected rows of shape \(3,\), got \(2,\)"):
        quiet(probgen.flows.real_nvp(3, layers=2, hidden=(4,), key=KEY), data, steps=20, **options)


def test_an_observation_outside_its_support_is_named_when_it_is_read(tmp_path):
    counts = np.ones(101, np.int32)
    counts[100] = -1

    def program(n):
        with numpyro.plate("N", len(n)):
            numpyro.sample("n", dist.Poisson(numpyro.param("rate", 1.0)), obs=n)

    with pytest.raises(ValueError, match=r"^data: site 'n' observes -1, outside the support of its Poisson"):
        quiet(program, mapped(tmp_path, counts), steps=20, batch_size=10)


ODD = [X[:10], X[:10, :1], X[10:20]]


@pytest.mark.parametrize(("data", "options", "message"), [
    (lambda: iter([X[:10], X[10:20]]), {},
     "data: expected batches that can be gone through again, got an iterator that has ended after 1 epoch"),
    (lambda: iter([]), {}, "data: expected batches, got an iterable that has none"),
    (lambda: Batches2(ODD), {}, r"data: expected each batch like the first, float32\[2\], got float32\[1\] in batch 1"),
    (lambda: Batches2([X[:10], X[:10].astype(int)]), {}, "data: expected each batch like the first, float32"),
    (lambda: Batches2([X[:10], X[:5], X[:10]]), {}, "data: expected 10 rows in .* but the last, got 5 in batch 1"),
    (lambda: Batches2([X[:10], X[:11]]), {}, "data: expected 10 rows in all batches but the last, got 11 in batch 1"),
    (lambda: Batches2([X[:0]]), {}, "data: expected arrays with one number of rows, got"),
    (lambda: Batches2([(X[:5], X[:4])]), {}, "data: expected arrays with one number of rows, got"),
    (lambda: Batches(X), {"batch_size": 10}, "batch_size: the batches of an iterable have their own"),
    (lambda: Batches(X), {"steps": None, "epochs": 2}, "epochs: an iterable does not say how many batches there are"),
    (lambda: Batches(X), {"validation": X}, "validate_every: expected steps, for an iterable does not say"),
    (lambda: Batches(X), {"model": lambda x: None}, "data: a program has to know how many rows there are in all"),
    (lambda: Rows(X), {}, "batch_size: expected rows of a step, for data that are read on the way, got None"),
    (lambda: Rows(X), {"batch_size": 102}, "batch_size: expected 1 to 101 .the rows of data., got 102"),
    (lambda: Rows(X[:0]), {"batch_size": 1}, "data: expected at least one row, got none"),
    (lambda: Rows([*X[:30], X[0, :1]]), {"batch_size": 10}, r"data: expected each row like .*\[1\] in row 30"),
    (lambda: Rows(["a"] * 10), {"batch_size": 10}, "data: expected numbers"),
])  # fmt: skip
def test_unusable_sources(data, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        quiet(**{"model": flow(), "data": data(), "steps": 20, **options})


def test_unusable_parquet_files_and_batches(tmp_path):
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"x": [1.0, 2.0, None], "name": ["a", "b", "c"]}), path, row_group_size=2)
    with pytest.raises(ValueError, match=r"^columns: expected numbers, got string in 'name'"):
        ParquetRows(path)
    with pytest.raises(ValueError, match=r"^columns: expected names that the file has once, among .*, got 'z'"):
        ParquetRows(path, ["x", "z"])
    with pytest.raises(ValueError, match=r"^columns: expected a list of names, got 'x'"):
        ParquetRows(path, "x")
    rows = ParquetRows(path, ["x"])
    assert rows[1] == 2.0
    with pytest.raises(ValueError, match=r"x.parquet: expected no missing values, got one in row 2 of 'x'"):
        rows[2]
    with pytest.raises(ValueError, match=r"^path: expected a file"):
        ParquetRows(tmp_path / "y.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"x.parquet: it is truncated, corrupted or another file"):
        ParquetRows(path)
    with pytest.raises(ValueError, match=r"^columns: expected a list of names, got \(\)"):
        ParquetRows(path, ())


def test_rows_of_a_parquet_file_by_their_numbers(tmp_path):
    whole = np.arange(14.0).reshape(7, 2)
    rows = in_parquet(tmp_path, whole)
    np.testing.assert_array_equal(rows.__getitems__([-1, 0, -7]), whole[[-1, 0, 0]])
    for wrong in ([7], [-8], [], [True, False], [1.5], [[0]]):
        with pytest.raises(IndexError, match=r"^expected (numbers of )?rows"):
            rows.__getitems__(wrong)
    for wrong in (1.5, "a", slice(0, 3), [0, 1]):
        with pytest.raises(TypeError, match="integer"):
            rows[wrong]
    other = pickle.loads(pickle.dumps(ParquetRows(tmp_path / "x.parquet", ["1"], dtype=np.float32)))
    assert other.columns == ("1",) and other[3].dtype == np.float32 and other[3] == 7.0
    parquet.write_table(pyarrow.table({"n": [1, 2, 3]}), tmp_path / "n.parquet")
    assert ParquetRows(tmp_path / "n.parquet")[1].dtype == np.int64
    assert ParquetRows(tmp_path / "n.parquet", dtype=float)[1].tolist() == [2.0]


def test_batches_that_are_shuffled_are_looked_at_as_they_come():
    bad = X.copy()
    bad[57, 1] = np.nan
    with pytest.raises(ValueError, match=r"^data: expected finite numbers, got nan in row 57$"):
        quiet(flow(), ShuffledBatches(Batches(bad), window=4), steps=20)
    for batches, message in [
        ([X, X[:, :1]], r"data: expected each batch like the first, .* in batch 1"),
        ([X, (X, X)], r"data: expected each batch like the first"),
        ([X[:0], X], r"data: expected arrays with one number of rows"),
        ([X[:10], X[:5], X[:10]], r"data: expected 10 rows in all batches but the last, got 5 in batch 1"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            quiet(flow(), ShuffledBatches(batches, window=2), steps=20)
    with pytest.raises(ValueError, match=r"^data: .* an iterator that has ended after 1 epoch"):
        quiet(flow(), ShuffledBatches(iter([X, X]), window=2), steps=20)
    with pytest.raises(ValueError, match=r"^window: "):
        ShuffledBatches([X], window=0)
    with pytest.raises(ValueError, match=r"^batches: expected an iterable of them, got a int"):
        ShuffledBatches(3)
    with pytest.raises(ValueError, match=r"^batch_size: the batches of an iterable have their own"):
        quiet(flow(), ShuffledBatches([X]), steps=2, batch_size=3)


@pytest.mark.parametrize("change", ["a row", "groups", "window"])
def test_other_rows_and_other_orders_are_other_data(change, tmp_path):
    """A change in a late row, or in what is shuffled together alone, is seen before training goes on."""
    options = {"batch_size": 4, "checkpoint": tmp_path / "c"}
    if change == "window":
        del options["batch_size"]
        begun, other = (ShuffledBatches(Batches(X), window=window) for window in (3, 4))
    else:
        begun = in_parquet(tmp_path, X)
        quiet(flow(), begun, steps=6, **options)
        x, size = X.copy(), 7 if change == "a row" else 5
        x[60] += 5.0 if change == "a row" else 0.0
        columns = {str(i): column for i, column in enumerate(x.T)}
        parquet.write_table(pyarrow.table(columns), tmp_path / "y.parquet", row_group_size=size)
        other = ParquetRows(tmp_path / "y.parquet")
    if change == "window":
        quiet(flow(), begun, steps=6, **options)
    with pytest.raises(
        ValueError, match=r"^checkpoint: .* is that of another data: " + ("array" if change == "a row" else "order")
    ):
        quiet(flow(), other, steps=12, resume=True, **options)


def test_what_a_source_raises_is_the_users():
    class Broken(Rows):
        def __getitem__(self, i):
            if i == 40:
                raise OSError("the disk is gone")
            return super().__getitem__(i)

    with pytest.raises(OSError, match="the disk is gone"):
        quiet(flow(), Broken(X), steps=20, batch_size=10)


class Counting:
    """Rows that count how often they are read."""

    def __init__(self, x):
        self.x, self.reads = x, 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.reads += 1
        return self.x[index]


@pytest.mark.parametrize("steps", [1, 10])
def test_no_more_is_read_than_steps_take(steps):
    rows = Counting(np.asarray(jax.random.normal(KEY, (600, 2))))
    model = probgen.flows.real_nvp(2, layers=2, hidden=(4,), key=KEY)
    probgen.fit(model, rows, batch_size=50, steps=steps, key=KEY, progress=False)
    assert rows.reads <= 50 + 600 * (1 + steps * 50 // 600)  # the first batch, and whole windows
