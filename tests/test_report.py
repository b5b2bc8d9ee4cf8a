"""The report of `probgen evaluate`: its numbers, its page, and what a user may do wrong."""

import base64
import json
import math
import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

import probgen
from probgen.autoregressive import char_rnn, made
from probgen.cli import main
from probgen.cli.report import in_code, likelihood
from probgen.cli.report.findings import Finding, as_json, as_text, gathered
from probgen.cli.report.page import as_page
from probgen.cli.report.subject import prepared, up_to_the_end
from probgen.cli.splits import load_rows
from probgen.core.recipes import Recipe
from probgen.data import Data

KEY = jax.random.key(0)
VOID = {"meta", "img", "link", "br", "hr", "input", "!DOCTYPE"}


class Page(HTMLParser):
    """A page's tags, texts and attributes; refuses what is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def checked(path):
    """The page at a path, which refers to nothing outside of it."""
    text = path.read_text(encoding="utf-8")
    found = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("href", "srcset", "style")]
    for source in (value for name, value in found.attributes if name == "src"):
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64" and base64.b64decode(data, validate=True)[:4] == b"\x89PNG"
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    assert found.texts.count("What was evaluated") == 1 and found.tags.count("h1") == 1
    return found


def digits(name):
    whole = probgen.data.datasets.load("optdigits")
    parts = {"train": 300, "train_labels": 300, "test": 150, "test_labels": 150}
    return Data(name, {part: whole[part][:count] for part, count in parts.items()}, 17)


def words(name):
    lengths = np.random.RandomState(0).randint(2, 7, 300)
    rows = np.random.RandomState(1).randint(1, 4, (300, 6)) * (np.arange(6) < lengths[:, None] - 1)
    return Data(name, {"train": rows, "train_lengths": lengths}, 4, alphabet=".<&z")


def table(name):
    rows = np.random.RandomState(0).standard_normal((300, 3)).astype(np.float32) * [1.0, 10.0, 0.1]
    columns = ("a", "b < c", "<b>bold</b>")
    return Data(name, {"train": rows[:200].astype(np.float32), "test": rows[200:].astype(np.float32)}, None, columns)


MODELS = {
    "histogram": (digits, lambda: trained_histogram()),
    "made": (digits, lambda: made((8, 8), 17, hidden=(8,), context_levels=10, key=KEY)),
    "vae": (digits, lambda: probgen.latent.vae((8, 8), 17, latent_dim=2, hidden=(16,), key=KEY)),
    "real_nvp": (
        digits,
        lambda: probgen.flows.on_levels(probgen.flows.real_nvp(64, layers=2, hidden=(8,), key=KEY), (8, 8), 17),
    ),
    "char_rnn": (words, lambda: char_rnn(6, 4, width=8, key=KEY)),
    "flow": (table, lambda: probgen.flows.real_nvp(3, layers=2, hidden=(8,), key=KEY)),
}


def trained_histogram():
    model = probgen.mixtures.histogram((8, 8), 17)
    step = probgen.mixtures.EM(model, smoothing=1e-3)
    return step.update(digits("digits").train, KEY).model


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """For each model what was printed, its JSON and its page; made once, when first asked for."""
    made_before = {}

    def of(name, capsys):
        if name not in made_before:
            data, model = MODELS[name]
            folder = tmp_path_factory.mktemp(name)
            file = folder / "a<script>&.safetensors"
            probgen.save(file, model())
            arguments = ["evaluate", str(file), "<script>alert(1)</script>"]
            arguments += ["--report", str(folder / "r.html"), "--json", str(folder / "r.json")]
            arguments += ["--context", "labels"] if name == "made" else []
            arguments += ["--particles", "32"] if name in ("vae", "real_nvp") else []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("probgen.data.load", data)
                patch.setattr("probgen.cli.report.subject.DRAWS", 120)
                assert main(arguments) == 0
            text = (folder / "r.json").read_text(encoding="utf-8")
            found = json.loads(text, parse_constant=lambda name: pytest.fail(f"JSON has no {name}"))
            made_before[name] = capsys.readouterr().out, found, folder / "r.html"
        return made_before[name]

    return of


@pytest.mark.parametrize("name", MODELS)
def test_what_is_printed_is_in_the_file_and_on_the_page(name, reports, capsys):
    printed, found, path = reports(name, capsys)
    page = checked(path)
    sections = [value for key, value in found.items() if key != "about"]
    findings = [finding for section in sections for finding in section.values()]
    lines = printed.splitlines()
    for finding in findings:
        assert set(finding) == {"value", "se", "kind", "unit", "what"}
        assert finding["kind"] in ("exact", "weights", "bound", "estimate")
        (line,) = [line for line in lines if line.startswith(f"  {finding['what']}  ")]
        assert finding["what"] in page.texts and line.split("  ")[-1].strip() in page.texts
        number = re.search(r"[−\d][\d.,]*(e[−\d]+)?", line[56:])
        if isinstance(finding["value"], float):
            shown = float(number.group().replace("−", "-").replace(",", ""))
            assert shown == pytest.approx(finding["value"], rel=1e-2, abs=0.5 * (finding["se"] or 0))
    likelihood = found["likelihood"]
    assert f"{likelihood['bits_per_dim']['value']:.4f} ± {likelihood['bits_per_dim']['se']:.4f} bits/dim" in lines[0]
    assert likelihood["bits_per_dim"]["unit"] == "bits/dim" and likelihood["nats"]["unit"] == "nats/row"
    titles = " ".join(page.texts)
    assert "a<script>&.safetensors on <script>alert(1)</script>" in titles  # as text, and as no tag


def test_what_applies_to_which_model(reports, capsys):
    sections = {name: {k: set(v) for k, v in reports(name, capsys)[1].items()} for name in MODELS}
    assert {name for name, of in sections.items() if "latent" in of} == {"vae"}
    assert {name for name, of in sections.items() if "pareto_k_above" in of.get("calibration", ())} == {
        "vae",
        "real_nvp",
    }
    with_places = {name for name, of in sections.items() if "pit_p_value" in of.get("calibration", ())}
    assert with_places == {"histogram", "made", "char_rnn", "flow"}
    for of in sections.values():
        assert {"energy_p_value", "classifier_p_value", "precision", "recall", "nearer", "copies"} <= of["samples"]
        assert {"entropy", "test_minus_training", "typical", "seconds", "rows"} <= of["likelihood"]
    kinds = {name: reports(name, capsys)[1]["likelihood"]["nats"]["kind"] for name in MODELS}
    assert kinds == dict.fromkeys(MODELS, "exact") | {"vae": "weights", "real_nvp": "weights"}
    pictures = {name: checked(reports(name, capsys)[2]).tags.count("img") for name in MODELS}
    assert pictures == {"histogram": 4, "made": 4, "vae": 6, "real_nvp": 3, "char_rnn": 2, "flow": 3}


def test_the_entropy_of_a_histogram_is_that_of_its_pixels(reports, capsys):
    found = reports("histogram", capsys)[1]["likelihood"]
    data = digits("digits").train
    counts = np.stack([np.bincount(column, minlength=17) for column in data.reshape(-1, 64).T]) + 1e-3
    p = counts / counts.sum(1, keepdims=True)
    want = -(p * np.log(p)).sum()
    assert found["entropy"]["value"] == pytest.approx(want, abs=4 * found["entropy"]["se"])
    test = -np.log(p)[np.arange(64), digits("digits").test.reshape(-1, 64)].sum(1)
    assert found["nats"]["value"] == pytest.approx(test.mean(), rel=1e-4)
    gap = found["nats"]["value"] - found["entropy"]["value"]
    assert found["test_minus_entropy"]["value"] == pytest.approx(gap)


def test_draws_are_at_contexts_of_training_rows(monkeypatch):
    monkeypatch.setattr("probgen.data.load", digits)
    monkeypatch.setattr("probgen.cli.report.subject.DRAWS", 40)
    split, model = load_rows("digits", "labels"), MODELS["made"][1]()
    result = probgen.evaluation.evaluate(model, split.test)
    about = prepared(model, split.test, split, result, key=KEY)
    np.testing.assert_array_equal(about.draws[1], about.train[1][:40])
    assert sorted(about.train[1].tolist()) == sorted(split.train[1].tolist())
    want = np.asarray(model(about.draws[1]).log_prob(about.draws[0]))
    np.testing.assert_allclose(about.draws_log_p, want, rtol=1e-5)
    np.testing.assert_array_equal(about.labels, digits("").test_labels)


def test_impossible_rows_are_counted_and_not_drawn(monkeypatch):
    monkeypatch.setattr("probgen.data.load", digits)
    monkeypatch.setattr("probgen.cli.report.subject.DRAWS", 20)
    split, model = load_rows("digits"), trained_histogram()
    result = probgen.evaluation.evaluate(model, split.test)
    about = prepared(model, split.test, split, result, key=KEY)
    log_p = result.pointwise.log_likelihood.values.copy()
    log_p[[3, 5]] = -np.inf
    rows = result.pointwise.assign(log_likelihood=("row", log_p))
    about = about._replace(evaluation=result._replace(nats=math.inf, se_nats=math.nan, pointwise=rows))
    section = likelihood.section(about)
    found = {finding.key: finding for finding in section.findings}
    assert found["impossible"].value == 2 and not found["typical"].value and not section.left_out
    assert str(found["nats"]) == "= ∞ nats/row" and str(found["test_minus_entropy"]) == "≈ ∞ nats/row"
    assert as_json([section])["likelihood"]["bits_per_dim"] | {"what": ""} == {
        "value": None,
        "se": None,
        "kind": "exact",
        "unit": "bits/dim",
        "what": "",
    }
    assert "from ∞ down" in likelihood.ends(about).items[0].caption


def test_draws_of_words_end_where_they_end():
    x, lengths = up_to_the_end(np.array([[1, 0, 2, 3], [0, 1, 1, 1], [1, 2, 3, 1]]))
    np.testing.assert_array_equal(x, [[1, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 1]])
    np.testing.assert_array_equal(lengths, [2, 1, 4])


def test_words_are_spelled_and_escaped(reports, capsys):
    found = checked(reports("char_rnn", capsys)[2])
    train = words("")
    lines = [line for text in found.texts for line in text.splitlines()]
    known = {"".join(".<&z"[i] for i in row).split(".")[0] for row in train.train}
    assert sum(line in known for line in lines if line and set(line) <= set("<&z")) >= 16


def test_columns_are_named(reports, capsys):
    assert "b" not in checked(reports("flow", capsys)[2]).tags


def test_the_latent_numbers_are_those_of_the_monitor(reports, capsys):
    found = reports("vae", capsys)[1]["latent"]
    model, rows = MODELS["vae"][1](), digits("").test
    assert found["active_units"]["value"] == int(
        probgen.latent.active_units(model, KEY, rows[np.sort(jax.random.permutation(KEY, 150))])
    )
    parts = [found[name]["value"] for name in ("elbo", "reconstruction", "information", "marginal_kl")]
    assert parts[0] == pytest.approx(parts[1] - parts[2] - parts[3], abs=1e-3)
    assert found["information"]["value"] <= math.log(150) and found["units"]["value"] == 2


def test_what_is_not_finite_is_null_and_what_refuses_is_left_out():
    def refuses():
        raise ValueError("x: expected\n   more")

    finding = Finding("a", "an <infinite> one", math.inf, "nats", math.nan, "exact", "a & b")
    section = gathered("part", "Part", "Text.", {"one": lambda: [finding], "other": refuses})
    assert section.left_out == {"other": "x: expected more"}
    found = json.loads(json.dumps(as_json([section]), allow_nan=False))
    assert found["part"]["a"]["value"] is None and found["part"]["a"]["se"] is None
    assert as_text([section]).splitlines()[-1].split("  ")[-1].strip() == "= ∞ nats"
    text = as_page("t", ("n", "w"), {"k": "v"}, [section], "made")
    assert "an <infinite> one" in Page(text).texts and "other: x: expected more" in Page(text).texts


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (80.40025, 0.28784, "≈ 80.40 ± 0.29"),
        (-0.00123, None, "≈ −0.00123"),
        (12345.678, 12.3, "≈ 12346 ± 12"),
        (5.0, 0.0, "≈ 5 ± 0"),
        (True, None, "yes"),
        (1797, None, "≈ 1,797"),
        (math.nan, None, "≈ unknown"),
        (-math.inf, math.inf, "≈ −∞"),
    ],
)
def test_numbers_in_words(value, se, text):
    assert str(Finding("key", "label", value, se=se)) == text


def test_recipes_are_written_as_calls():
    inner = probgen.mixtures.gaussian_mixture(2, components=3, key=KEY)
    model = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), prior=inner, key=KEY)
    call = in_code(model.recipe)
    assert call.startswith("latent.vae(") and "hidden=(8,)" in call
    assert "prior=mixtures.gaussian_mixture(components=3, dim=2)" in call
    named = {"activation": {"function": "jax.nn.relu"}, "support": {"constraint": "unit_interval", "arguments": {}}}
    assert in_code(Recipe("p.f", json.dumps(named))) == "p.f(activation=jax.nn.relu, support=unit_interval)"
    long = Recipe("part.function", json.dumps({"numbers": list(range(1000))}))
    assert len(in_code(long)) < 700 and in_code(long).endswith("…")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "no/such/x.html"], "--report: there is no folder no/such"),
        (["--json", "no/such/x.json"], "--json: there is no folder no/such"),
        (["--json", "."], "--json: . is a folder"),
        (["--report", "x.pdf"], "--report: expected a name ending in .html, got x.pdf"),
        (["--json", "./bits.safetensors"], "--json: bits.safetensors is the model file itself"),
        (["--json", "x.html", "--report", "./x.html"], "--json: expected another file than --report"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    probgen.save("bits.safetensors", probgen.mixtures.histogram((8, 8), 17))
    before = (tmp_path / "bits.safetensors").read_bytes()
    assert main(["evaluate", "bits.safetensors", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert (tmp_path / "bits.safetensors").read_bytes() == before and not (tmp_path / "x.html").exists()


def test_a_bound_that_nothing_is_drawn_for_takes_no_particles(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("probgen.data.load", digits)
    model = probgen.latent.vq_vae((8, 8), 17, key=KEY)
    probgen.save(tmp_path / "vq.safetensors", model)
    assert main(["evaluate", str(tmp_path / "vq.safetensors")]) == 0
    found = probgen.evaluation.evaluate(model, digits("").test)
    assert capsys.readouterr().out == f"{found}\n"
