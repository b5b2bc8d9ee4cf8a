"""The command line, end to end with little training."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import probgen
from probgen.cli import main
from probgen.cli.models import MODELS
from probgen.cli.splits import load_rows
from probgen.cli.training import Settings
from probgen.data import DATASETS, Data

NAMES = ["independent", "mixture", "real_nvp", "pixel_cnn", "vae", "vp_score"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    assert not jax.config.read("jax_disable_most_optimizations")  # it was for the quick demo alone
    return out


def test_the_split_is_fixed():
    images = load_rows("optdigits")
    assert (len(images.train), len(images.validation), len(images.test)) == (3323, 500, 1797)
    assert images.levels == 17 and images.shape == (8, 8)
    again = load_rows("optdigits")
    np.testing.assert_array_equal(images.validation, again.validation)


def test_the_leaderboard(demo):
    board = json.loads((demo / "leaderboard.json").read_text())
    assert [row["model"] for row in board["models"]] == NAMES
    kinds = dict.fromkeys(NAMES, "exact") | {"real_nvp": "weights", "vae": "weights", "vp_score": "bound"}
    for row in board["models"]:
        assert set(row) == {
            "model",
            "bits_per_dim",
            "kind",
            "se",
            "nats",
            "parameters",
            "train_seconds",
            "ms_per_sample",
            "bytes_per_image",
        }
        if row["model"] == "vp_score":
            assert row["bytes_per_image"] is None  # noise levels without an end have no code
        else:  # of 100 images, with what is in a file besides
            assert 0.9 * row["bits_per_dim"] * 8 < row["bytes_per_image"] < 1.2 * row["bits_per_dim"] * 8 + 60
        assert row["kind"] == kinds[row["model"]]
        assert row["bits_per_dim"] == pytest.approx(row["nats"] / 64 / np.log(2))
        assert 1.7 < row["bits_per_dim"] < 4.09 and 0 < row["se"] < 0.05
    by_name = {row["model"]: row for row in board["models"]}
    assert by_name["independent"]["bits_per_dim"] == pytest.approx(2.43, abs=0.01)
    assert by_name["mixture"]["bits_per_dim"] < 2.25
    assert by_name["independent"]["parameters"] == 1 + 64 * 17


def test_the_histogram_is_a_count():
    """The table's first row by NumPy alone."""
    images = load_rows("optdigits")
    counts = np.stack([np.bincount(column, minlength=17) for column in images.train.reshape(-1, 64).T]) + 1e-3
    table = np.log2(counts / counts.sum(1, keepdims=True))
    want = -table[np.arange(64), images.test.reshape(-1, 64)].mean()
    entry = MODELS[0]
    trained = entry.train(images, key=jax.random.key(0), settings=Settings(quick=True))
    got = probgen.evaluation.evaluate(trained.model, images.test)
    assert got.bits_per_dim == pytest.approx(want, abs=2e-3)


def test_pictures(demo):
    for name in ("samples.png", "curves.png"):
        assert (demo / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_models(demo, name, capsys, tmp_path):
    file = str(demo / f"{name}.safetensors")
    out = tmp_path / "draws.npy"
    assert main(["sample", file, "--num", "5", "--out", str(out)]) == 0
    draws = np.load(out)
    assert draws.shape == (5, 8, 8) and draws.min() >= 0 and draws.max() <= 16 and draws.dtype.kind == "i"
    if name == "mixture":
        capsys.readouterr()
        assert main(["evaluate", file]) == 0
        board = json.loads((demo / "leaderboard.json").read_text())["models"]
        want = next(row for row in board if row["model"] == name)["bits_per_dim"]
        assert f"= {want:.4f}" in capsys.readouterr().out


def test_sample_writes_a_picture(demo, tmp_path):
    out = tmp_path / "digits.png"
    assert main(["sample", str(demo / "mixture.safetensors"), "--num", "9", "--out", str(out)]) == 0
    assert out.read_bytes()[:4] == b"\x89PNG"


def few_rows(name):
    """Of each part 200 rows; of names some that nobody has."""
    if name != "names":
        whole = probgen.data.datasets.load(name)
        return dataclasses.replace(whole, parts={part: rows[:200] for part, rows in whole.parts.items()})
    lengths = np.random.RandomState(0).randint(2, 7, 200)
    rows = np.random.RandomState(1).randint(1, 27, (200, 8)) * (np.arange(8) < lengths[:, None] - 1)
    return Data(name, {"train": rows, "train_lengths": lengths}, 27, alphabet=DATASETS[name].alphabet)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr("probgen.data.load", few_rows)


def test_train_is_reproducible_by_its_seed(few, tmp_path, capsys):
    texts = []
    for seed, name in [("1", "a"), ("1", "b"), ("2", "c")]:
        out = tmp_path / f"{name}.safetensors"
        assert main(["train", "--model", "mixture", "--quick", "--seed", seed, "--out", str(out)]) == 0
        texts.append(out.read_bytes())
    assert texts[0] == texts[1] != texts[2]
    assert "mixture on the test rows of optdigits: = " in capsys.readouterr().out


def test_a_model_of_each_class(few, tmp_path, capsys):
    file, out = str(tmp_path / "vae.safetensors"), str(tmp_path / "draws.npy")
    assert main(["train", "--model", "vae", "--quick", "--context", "labels", "--out", file]) == 0
    assert main(["evaluate", file, "--context", "labels"]) == 0
    trained, _, evaluated = capsys.readouterr().out.splitlines()
    assert trained == f"vae on the test rows of optdigits: {evaluated}" and "200 rows, 256 particles" in evaluated
    want = probgen.load(file)(np.array(3)).sample(jax.random.key(0), (4,))
    assert main(["sample", file, "--num", "4", "--context", "3", "--out", out]) == 0
    np.testing.assert_array_equal(np.load(out), want)


@pytest.mark.parametrize("entry", [entry for entry in MODELS if entry.conditional], ids=lambda entry: entry.name)
def test_conditional_models_are_files_alone(entry, monkeypatch, tmp_path):
    untrained = lambda model, *args, **kwargs: SimpleNamespace(model=model, history=None)
    monkeypatch.setattr("probgen.cli.models.by_gradients", untrained)
    data = load_rows("optdigits", "labels")
    if entry.event_dim == 1:
        data = data._replace(train=(data.train[0].reshape(-1, 64), data.train[1]))
    probgen.save(
        tmp_path / "model.safetensors", entry.train(data, key=jax.random.key(0), settings=Settings(quick=True)).model
    )
    assert probgen.load(tmp_path / "model.safetensors").levels == 10


def test_contexts_stay_with_their_rows():
    whole, split = probgen.data.load("optdigits"), load_rows("optdigits", "labels")
    seen = {row.tobytes(): label for row, label in zip(whole.train, whole.train_labels, strict=True)}
    for x, context in (split.train, split.validation):
        assert [seen[row.tobytes()] for row in x] == context.tolist()
    np.testing.assert_array_equal(split.test[1], whole.test_labels)


def test_words_of_several_lengths(few, tmp_path, capsys):
    file, draws, text = (str(tmp_path / name) for name in ("words.safetensors", "words.npy", "words.txt"))
    assert main(["train", "--model", "char_rnn", "--quick", "--data", "names", "--out", file]) == 0
    assert main(["evaluate", file, "names"]) == 0
    trained, _, evaluated = capsys.readouterr().out.splitlines()
    assert evaluated in trained
    model, (x, lengths) = probgen.load(file), load_rows("names").test
    assert len(x) == 20
    costs = np.where(np.arange(8) < lengths[:, None], -model.conditionals(x).log_prob(x), 0.0)  # the end included
    assert f"= {costs.sum(-1).mean():.3f} ± " in evaluated
    assert main(["sample", file, "--num", "9", "--out", draws]) == 0
    assert main(["sample", file, "--num", "9", "--out", text, "--data", "names"]) == 0
    words = ["".join(chr(96 + i) for i in row).split("`")[0] for row in np.load(draws)]
    assert (tmp_path / "words.txt").read_text().splitlines() == words


@pytest.mark.parametrize(("arguments", "message"), [
    (["evaluate", "nowhere.safetensors"], "there is no model file at nowhere.safetensors"),
    (["sample", "nowhere.safetensors"], "there is no model file"),
    (["train", "--data", "nothing"], "nothing is no file, and none of the data sets optdigits, mnist"),
    (["train", "--model", "vae", "--out", "no/such/folder/x.safetensors"], "there is no folder"),
    (["train", "--model", "vae", "--data", "power"], "integer levels"),
    (["train", "--model", "vae", "--out", "."], "--out: . is a folder"),
    (["demo", "--out", "a_file"], "--out: a_file cannot be made a folder (File exists)"),
    (["sample", "bits.safetensors", "--num", "-1"], "--num: expected at least 1, got -1"),
    (["sample", "bits.safetensors", "--out", "no/such/folder/z.png"], "--out: there is no folder no/such/folder"),
    (["sample", "bits.safetensors", "--out", "."], "--out: . is a folder"),
    (["sample", "points.safetensors"], "no images"),
    (["evaluate", "bits.safetensors", "--particles", "0"], "--particles: expected at least 1, got 0"),
    (["evaluate", "bits.safetensors"], "optdigits is no data for bits.safetensors: row 0 lies outside"),
    (["evaluate", "flow.safetensors"], "optdigits is no data for flow.safetensors: row 0 lies outside"),
    (["evaluate", "points.safetensors"], "optdigits is no data for points.safetensors: expected rows of shape (2,)"),
    (["fit"], "there is no command 'fit'; there are demo, train, evaluate, sample, describe, models, compare"),
    (["nope", "--help"], "there is no command 'nope'; there are demo, train"),
    (["evaluate", "changed.safetensors"], "so that the command line cannot rebuild it: in Python, probgen.load(path"),
    (["evaluate", "."], "there is no model file at ."),
    (["evaluate", "bits.safetensors", "nowhere"], "nowhere is no file"),
    (["evaluate", "of_classes.safetensors"], "expected one, for of_classes.safetensors holds a model of labels"),
    (["sample", "of_numbers.safetensors"], "of_numbers.safetensors holds a model of contexts of 3 numbers"),
    (["sample", "of_numbers.safetensors", "--context", "0,nan,1"], "3 numbers with commas between them, got '0,nan,1'"),
    (["sample", "of_classes.safetensors"], "of_classes.safetensors holds a model of labels 0..2"),
    (["evaluate", "of_classes.safetensors", "--context", "labels"], "optdigits has 10 classes, of_classes"),
    (["sample", "of_classes.safetensors", "--context", "3"], "--context: expected a class 0..2, got '3'"),
    (["sample", "of_classes.safetensors", "--context", "0,nan,1"], "expected a class 0..2, got '0,nan,1'"),
    (["sample", "bits.safetensors", "--context", "3"], "--context: expected none, for the model of bits.safetensors"),
    (["evaluate", "bits.safetensors", "--context", "labels"], "--context: expected none"),
    (["train", "--model", "mixture", "--context", "labels"], "takes none; real_nvp, pixel_cnn, vae, vp_score, made,"),
    (["train", "--model", "vae", "--context", "size"], "--context: optdigits has no size"),
    (["train", "--model", "char_rnn"], "optdigits: char_rnn is for sequences"),
    (["sample", "bits.safetensors", "--out", "x.txt"], "--data: a text (.txt), and nothing else"),
    (["sample", "bits.safetensors", "--data", "names"], "--data: a text (.txt), and nothing else"),
    (["sample", "bits.safetensors", "--data", "names", "--out", "x.txt"], "does not model sequences of the symbols of"),
    (["sample", "bits.safetensors", "--data", "mnist", "--out", "x.txt"], "or the name of a data set that has"),
])  # fmt: skip
def test_mistakes_are_one_sentence(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROBGEN_DATA", raising=False)
    (tmp_path / "a_file").touch()
    key = jax.random.key(0)
    for name, model in [
        ("bits", probgen.mixtures.histogram((8, 8), 2)),
        ("flow", probgen.flows.on_levels(probgen.flows.real_nvp(64, layers=2, hidden=(8,), key=key), (8, 8), 4)),
        ("points", probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=key)),
        ("of_classes", probgen.autoregressive.made((8, 8), 17, hidden=(8,), context_levels=3, key=key)),
        ("of_numbers", probgen.autoregressive.made((8, 8), 17, hidden=(8,), context_dim=3, key=key)),
    ]:
        if f"{name}.safetensors" in arguments:
            probgen.save(f"{name}.safetensors", model)
    if "changed.safetensors" in arguments:
        with pytest.warns(UserWarning, match="no recipe"):
            probgen.save("changed.safetensors", probgen.mixtures.histogram((8, 8), 2).replace(recipe=None))
    if "power" in arguments:
        rows = np.zeros((4, 6))
        monkeypatch.setattr("probgen.data.load", lambda name: probgen.data.Data(name, {"train": rows, "test": rows}))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_the_system_says_is_a_sentence(capsys, monkeypatch, tmp_path):
    """Of Python's own errors of files, the number alone would be shown."""
    probgen.save(tmp_path / "bits.safetensors", probgen.mixtures.histogram((8, 8), 2))

    def full(path, draws):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("numpy.save", full)
    assert main(["sample", str(tmp_path / "bits.safetensors"), "--out", str(tmp_path / "x.npy")]) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and "x.npy" in error and error.count("\n") == 1


def test_likelihood_refuses_what_is_no_event():
    model = probgen.mixtures.histogram((2,), 3)
    for x, message in [
        ([[0, 3]], "data: row 0 lies outside"),
        ([[0.5, 1.0]], "data: the model is over integers"),
        (np.zeros((0, 2), int), "data: expected at least one row"),
    ]:
        with pytest.raises(ValueError, match=message):
            probgen.evaluation.evaluate(model, x)


def test_help_says_it_all(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("demo", "train", "evaluate", "sample", "examples"))
