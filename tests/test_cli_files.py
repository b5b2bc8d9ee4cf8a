"""The command line on files of one's own: tables, arrays, texts and pictures, end to end with little training."""

import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import probgen
from probgen.cli import main
from probgen.cli.splits import TableSplit, load_split
from probgen.cli.table_models import evaluate_table
from probgen.data import read

LITTLE = ("--quick", "--steps", "30")


def write_table(path, rows=160):
    rng = np.random.default_rng(0)
    lines = ["colour,age,size,planet,grade"]
    for _ in range(rows):
        colour = rng.choice(["blue", "red", "green"], p=[0.5, 0.3, 0.2])
        age = "" if rng.uniform() < 0.1 else str(int(rng.normal(60 if colour == "red" else 30, 8)))
        lines.append(f"{colour},{age},{np.exp(rng.normal(0, 0.5)):.2f},earth,{rng.integers(1, 6)}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table, and a model of it."""
    folder = tmp_path_factory.mktemp("table")
    write_table(folder / "people.csv")
    arguments = ["--data", str(folder / "people.csv"), "--out", str(folder / "m.safetensors"), "--set", "width=16"]
    assert main(["train", *LITTLE, *arguments, "--report", str(folder / "trained.html")]) == 0
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_a_table_is_described(table, capsys):
    text = run(capsys, "describe", table / "people.csv")
    assert "160 rows, 5 columns" in text and re.search(r"colour +categorical +blue, green, red", text)


def test_a_table_is_evaluated_in_its_units(table, capsys):
    text = run(capsys, "evaluate", table / "m.safetensors", table / "people.csv")
    model = probgen.load(table / "m.safetensors")
    split = load_split(str(table / "people.csv"))
    assert isinstance(split, TableSplit) and [len(part) for part in split[1:]] == [130, 14, 16]
    nats = -probgen.tables.log_prob(model, split.test).mean()
    assert f"= {nats:.4f} ± " in text and "16 rows, in the units of the table" in text
    everything = run(capsys, "evaluate", table / "m.safetensors", table / "people.csv", "--all-rows")
    assert "160 rows" in everything


def test_given_a_column_the_rest_costs_less_by_what_that_costs(table, capsys):
    model, split = probgen.load(table / "m.safetensors"), load_split(str(table / "people.csv"))
    key = jax.random.key(0)
    given = evaluate_table(model, split.test, "colour", key=key).values
    first = model.replace(orders=[(0, 1, 2, 3)])
    whole = evaluate_table(first, split.test, None, key=key).values
    codes = split.test.array[:, 0].astype(int)
    alone = jax.vmap(lambda x: first.head.log_prob(first._raw(x, np.zeros(4, bool)), x)[0])
    x = np.zeros((len(codes), 4), np.float32)
    x[:, 0] = codes
    one = evaluate_table(first, split.test, "colour", key=key).values
    np.testing.assert_allclose(one, whole - np.asarray(alone(x)), atol=1e-4)
    assert given.shape == (16,)
    text = run(capsys, "evaluate", table / "m.safetensors", table / "people.csv", "--context", "colour")
    assert "nats a row given colour" in text


def test_a_table_is_drawn_as_it_was_read(table, capsys, tmp_path):
    run(capsys, "sample", table / "m.safetensors", "--num", "50", "--out", tmp_path / "drawn.csv")
    drawn = read(tmp_path / "drawn.csv", columns=read(table / "people.csv").columns)
    assert len(drawn) == 50 and set(drawn.cells()["planet"]) == {"earth"}
    assert all(isinstance(age, int) for age in drawn.cells()["age"])
    assert all(re.fullmatch(r"-?\d+(\.\d{1,2})?", line.split(",")[2])
               for line in (tmp_path / "drawn.csv").read_text().splitlines()[1:])  # fmt: skip
    given = ("--context", "colour=red", "--context", "grade=2")
    run(capsys, "sample", table / "m.safetensors", "--num", "5", *given, "--out", tmp_path / "r.csv")
    assert {line.split(",")[4] for line in (tmp_path / "r.csv").read_text().splitlines()[1:]} == {"2"}
    assert {line.split(",")[0] for line in (tmp_path / "r.csv").read_text().splitlines()[1:]} == {"red"}


def test_the_report_of_a_table(table, capsys, tmp_path):
    out = ("--report", tmp_path / "r.html", "--json", tmp_path / "r.json")
    text = run(capsys, "evaluate", table / "m.safetensors", table / "people.csv", *out)
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["about"]["columns"] == 5 and found["about"]["test_rows"] == 16
    nats = found["likelihood"]["nats"]
    assert f"{nats['value']:.4f}" in text and nats["kind"] == "exact" and nats["se"] > 0
    assert {"energy_distance", "classifier_accuracy", "correlation_gap", "precision", "copies"} <= set(found["samples"])
    for page in (tmp_path / "r.html", table / "trained.html"):
        html = page.read_text()
        assert "given the others" in html and html.count("data:image/png;base64") >= 3 and "people.csv" in html


@pytest.mark.parametrize("model", ["nsf", "maf", "real_nvp", "mixture"])
def test_flows_of_a_table_without_missing_cells(model, capsys, tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", rng.normal(size=(120, 2)).astype(np.float32) @ [[2.0, 1.0], [0.0, 3.0]] + 50)
    file = tmp_path / "m.safetensors"
    text = run(capsys, "train", *LITTLE, "--model", model, "--data", tmp_path / "x.npy", "--out", file)
    assert "≤ " in text and "nats a row" in text
    evaluated = run(capsys, "evaluate", file, tmp_path / "x.npy")
    assert evaluated.splitlines()[0] in text
    run(capsys, "sample", file, "--num", "7", "--out", tmp_path / "s.csv")
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 8


def test_a_text_by_characters_and_by_lines(capsys, tmp_path):
    (tmp_path / "t.txt").write_text("so it goes and goes. " * 200)
    file = tmp_path / "m.safetensors"
    text = run(capsys, "train", *LITTLE, "--data", tmp_path / "t.txt", "--set", "width=8", "--out", file)
    assert "char_rnn on the test rows of" in text
    run(capsys, "sample", file, "--num", "2", "--data", tmp_path / "t.txt", "--out", tmp_path / "s.txt")
    assert [len(line) for line in (tmp_path / "s.txt").read_text().splitlines()] == [128, 128]
    (tmp_path / "n.txt").write_text("\n".join(["emma", "ava", "mia", "noa"] * 30) + "\n")
    lines = ("--data", tmp_path / "n.txt", "--text", "lines")
    run(capsys, "train", *LITTLE, "--model", "wavenet", *lines, "--set", "channels=4", "--out", file)
    run(capsys, "sample", file, "--num", "3", *lines, "--out", tmp_path / "s.txt")
    assert all(len(line) <= 5 for line in (tmp_path / "s.txt").read_text().splitlines())


def test_a_folder_of_pictures_of_classes(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(30):
            image = Image.fromarray((rng.integers(0, 2, (4, 4)) * 255).astype(np.uint8))
            image.save(tmp_path / "pets" / name / f"{i}.png")
    file = tmp_path / "m.safetensors"
    options = ("--set", "channels=4", "--set", "depth=1", "--context", "labels")
    run(capsys, "train", *LITTLE, "--data", tmp_path / "pets", *options, "--out", file)
    assert probgen.load(file).levels == 2
    run(capsys, "sample", file, "--context", "1", "--num", "4", "--out", tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_said_of_a_training_is_done(capsys, tmp_path, monkeypatch):
    seen = {}

    def fit(model, train, **options):
        seen.update(options, width=model.model.model.network.out.weight.shape[1])
        raise ValueError("that will do")

    monkeypatch.setattr("probgen.cli.training.fit", fit)
    write_table(tmp_path / "t.csv")
    arguments = ["--steps", "7", "--batch-size", "32", "--minutes", "2", "--learning-rate", "0.01", "--set", "width=24"]
    assert main(["train", "--data", str(tmp_path / "t.csv"), *arguments]) == 2
    assert (seen["steps"], seen["minutes"], seen["batch_size"], seen["width"]) == (7, 2.0, 32, 24)


def test_columns_are_left_out(capsys, tmp_path):
    write_table(tmp_path / "t.csv")
    file, drop = tmp_path / "m.safetensors", ("--drop", "age", "--drop", "planet")
    assert "3 columns" in run(capsys, "describe", tmp_path / "t.csv", *drop)
    trained = run(capsys, "train", *LITTLE, "--set", "width=8", "--data", tmp_path / "t.csv", *drop, "--out", file)
    assert run(capsys, "evaluate", file, tmp_path / "t.csv", *drop).splitlines()[0] in trained
    assert file.stat().st_mode & 0o777 == (tmp_path / "t.csv").stat().st_mode & 0o777  # others may read it, too


def test_models_and_version(capsys):
    text = run(capsys, "models")
    assert all(
        name in text for name in ("pixel_cnn", "char_rnn", "wavenet", "transformer", "made", "table", "nsf", "maf")
    )
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"probgen {probgen.__version__}\n"


def test_a_training_that_was_interrupted_goes_on(capsys, tmp_path, monkeypatch):
    write_table(tmp_path / "t.csv")
    whole, first, again = (tmp_path / f"{name}.safetensors" for name in ("whole", "first", "again"))
    common = ("train", "--quick", "--data", tmp_path / "t.csv", "--set", "width=8", "--steps", "30")
    run(capsys, *common, "--out", whole)
    kept = ("--checkpoint", tmp_path / "night")
    real = probgen.fit
    stop = lambda *args, **options: real(*args, **options, callback=lambda status: status.step >= 9)
    monkeypatch.setattr("probgen.cli.training.fit", stop)
    run(capsys, *common, *kept, "--out", first)
    monkeypatch.setattr("probgen.cli.training.fit", real)
    assert main([str(a) for a in (*common, *kept, "--out", again)]) == 2
    assert "resume" in capsys.readouterr().err
    run(capsys, *common, *kept, "--resume", "--out", again)
    assert whole.read_bytes() == again.read_bytes() != first.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "t.csv", "--model", "vae"], "--model: vae is no model of a table: table, nsf, maf"),
        (["train", "--model", "table"], "--model: table is no model of images: independent, mixture"),
        (["train", "--data", "t.csv", "--model", "nsf"], "'age' is missing in row"),
        (["train", "--data", "t.csv", "--context", "sise"], "there is no column 'sise'"),
        (["train", "--data", "t.csv", "--set", "widht=3"], "--set: any_order has the options width, depth, components"),
        (["train", "--data", "t.csv", "--set", "width"], "--set: expected OPTION=VALUE"),
        (["train", "--data", "t.csv", "--set", "width=wide"], "--set: width expects a number, as its default 256"),
        (["train", "--data", "t.csv", "--steps", "0"], "--steps: expected an integer of at least 1, got 0"),
        (["train", "--data", "t.csv", "--minutes", "-1"], "--minutes: expected a positive number, got -1"),
        (["train", "--data", "t.csv", "--report", "r.pdf"], "--report: expected a name ending in .html"),
        (["train", "--model", "mixture", "--learning-rate", "1"], "--learning-rate: mixture"),
        (["train", "--data", "t.csv", "--resume"], "--resume: expected the folder of --checkpoint"),
        (["train", "--data", "t.csv", "--model", "nsf", "--context", "colour"], "--context: a flow is no model of"),
        (
            ["evaluate", "m.safetensors", "t.csv", "--text", "lines"],
            "m.safetensors is a model of a table, and t.csv is",
        ),
        (["train", "--data", "few.csv"], "few.csv: expected at least 20 rows to train on and hold out, got 3"),
        (["train", "--data", "ragged.csv"], "ragged.csv: line 3"),
        (["train", "--data", "short.txt"], "short.txt: expected at least 2,560 characters, got 5"),
        (["train", "--data", "optdigits", "--text", "lines"], "--text: optdigits is a data set and no file"),
        (["evaluate", "m.safetensors", "other.csv"], "other.csv: expected columns 'colour', 'age'"),
        (["evaluate", "m.safetensors", "optdigits"], "m.safetensors is a model of a table, and optdigits is none"),
        (["evaluate", "m.safetensors", "t.csv", "--particles", "3"], "--particles: the model has an exact density"),
        (
            ["evaluate", "m.safetensors", "t.csv", "--context", "planet"],
            "--context: expected one of the columns colour",
        ),
        (["sample", "m.safetensors", "--out", "x.png"], "--out: expected a name ending in .csv, .tsv or .parquet"),
        (["sample", "m.safetensors", "--out", "x.csv", "--context", "red"], "--context: expected COLUMN=VALUE"),
        (["sample", "m.safetensors", "--out", "x.csv", "--context", "colour=pink"], "expected one of 'blue', 'green'"),
        (["sample", "m.safetensors", "--out", "x.csv", "--context", "age=old"], "expected a number for age, got 'old'"),
        (
            ["sample", "m.safetensors", "--out", "x.csv", "--context", "size=nan"],
            "a number for size, got 'nan'",
        ),
        (
            ["sample", "m.safetensors", "--out", "x.csv", "--context", "size=0"],
            "has 0, and takes numbers above 0",
        ),
        (
            ["sample", "m.safetensors", "--out", "x.csv", "--context", "size=0.333"],
            "numbers on steps of 0.01 only",
        ),
        (["describe", "t.csv", "--drop", "shoe"], "shoe"),
        (["describe", "nowhere.csv"], "there is no file nowhere.csv"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, table, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t.csv")
    (tmp_path / "few.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n5,6\n")
    (tmp_path / "short.txt").write_text("hello")
    (tmp_path / "other.csv").write_text("a,b\n" + "1,2\n3,4\n" * 20)
    (tmp_path / "m.safetensors").write_bytes((table / "m.safetensors").read_bytes())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
