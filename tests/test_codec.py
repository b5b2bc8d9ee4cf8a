"""Codecs of models: lossless, as long as the model claims, and refused where the file is damaged or foreign."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import probgen
from probgen.autoregressive import char_rnn, gated_pixel_cnn, made, transformer
from probgen.compression import Codec, CodecReport, RangeReader, RangeWriter, divergence, integer_cdf
from probgen.compression.container import unpack
from probgen.mixtures import categorical_mixture, histogram

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
stirred = lambda model: model.replace(network=jax.tree.map(lambda leaf: 2 * leaf, model.network))
MODELS = {
    "made": lambda: stirred(made((6,), 3, hidden=(16,), order=(3, 0, 5, 1, 4, 2), key=KEY)),
    "gated_pixel_cnn": lambda: stirred(gated_pixel_cnn((4, 3), 5, channels=8, depth=1, key=KEY)),
    "char_rnn": lambda: stirred(char_rnn(12, 7, width=8, key=KEY)),
    "transformer": lambda: stirred(transformer(8, 4, width=8, layers=1, heads=2, key=KEY)),
    "mixture": lambda: categorical_mixture((4, 2), 3, components=4, key=KEY),
    "histogram": lambda: histogram((3,), 4),
}


def drawn(model, count):
    return np.asarray(jax.jit(lambda m: m.sample(jax.random.key(1), (count,)))(model))


# -- the coder


def test_streams_come_back_and_cost_their_information():
    for levels in (1, 2, 17, 300):
        p = RNG.dirichlet(np.full(levels, 0.3), 4000) + 1e-12
        p /= p.sum(1, keepdims=True)
        symbols = np.array([RNG.choice(levels, p=row) for row in p])
        writer = RangeWriter()
        for start in range(0, 4000, 700):  # some at a time; in Fortran order, and in single precision, too
            writer.put(symbols[start : start + 700], np.asfortranarray(p[start : start + 700]))
        data = writer.finish()
        reader = RangeReader(data)
        np.testing.assert_array_equal(np.concatenate([reader.take(p[:1234]), reader.take(p[1234:])]), symbols)
        information = -np.log2(p[np.arange(4000), symbols]).sum()
        assert information - 1 < 8 * len(data) < 1.0005 * information + 64


def test_probabilities_are_taken_in_24_bits_as_integer_tables_are():
    """What a very unlikely symbol costs is at most 24 bits, and all others lose next to nothing by it."""
    p = np.array([[1.0, 0.0, 1e-300]] * 1000)
    writer = RangeWriter()
    writer.put(np.tile([0, 1, 2, 0], 250), p)
    data = writer.finish()
    assert RangeReader(data).take(p).tolist() == [0, 1, 2, 0] * 250
    assert abs(8 * len(data) - 500 * 24) < 64 and divergence(p[0], np.diff(integer_cdf(p[0])) / 2**24) < 1e-6


@pytest.mark.parametrize(
    ("symbols", "p", "message"),
    [
        ([0], [[np.nan, 1.0]], "p: expected rows of finite numbers"),
        ([0], [[0.0, 0.0]], "p: expected rows of finite numbers"),
        ([0], [[-1.0, 2.0]], "p: expected rows of finite numbers"),
        ([0], [0.5, 0.5], r"p: expected \[N, n\]"),
        ([2], [[0.5, 0.5]], "symbols: expected integers from 0 to 1"),
        ([-1], [[0.5, 0.5]], "symbols: expected integers from 0 to 1"),
        ([0.0], [[0.5, 0.5]], r"symbols: expected integers \[1\], got float64"),
        ([0, 1], [[0.5, 0.5]], r"symbols: expected integers \[1\]"),
    ],
)
def test_what_cannot_be_written(symbols, p, message):
    with pytest.raises(ValueError, match=message):
        RangeWriter().put(symbols, p)
    with pytest.raises(ValueError, match="data: expected whole words"):
        RangeReader(b"abc")


# -- codecs


@pytest.mark.parametrize("name", MODELS)
def test_events_come_back_and_cost_what_the_model_claims(name):
    model = MODELS[name]()
    x = drawn(model, 300)
    codec = Codec(model, lanes=32, chunk=200)
    report = codec.report(x)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)
    assert isinstance(report, CodecReport) and "bits claimed" in str(report)
    assert report.claimed - 1 < report.coded < 1.001 * report.claimed + 2 * 64 and report.items == 300
    assert [chunk.items for chunk in unpack(codec.encode(x))[1]] == [200, 100]
    for rows, dtype in ((x[:0], np.int32), (x[:1], np.uint8), (x[:33], np.int64)):
        back = codec.decode(codec.encode(rows.astype(dtype)))
        assert back.dtype == dtype and back.shape == rows.shape
        np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize("lanes", [1, 16, 128])
def test_any_number_of_lanes_is_read_by_a_codec_of_another(lanes):
    model = MODELS["made"]()
    x, reader = drawn(model, 40), Codec(model, lanes=7)
    np.testing.assert_array_equal(reader.decode(Codec(model, lanes=lanes).encode(x)), x)


def test_steps_of_a_mixture_are_its_conditionals():
    model = MODELS["mixture"]()
    x = drawn(model, 5)

    def log_prob(x):
        steps, values = model.steps(), model.in_order(x)
        cache, total = steps.init(), 0.0
        for i in range(8):
            cache, here = steps.step(cache, values[i - 1], i)
            total += here.log_prob(values[i])
        return total

    np.testing.assert_allclose(jax.jit(jax.vmap(log_prob))(x), model.log_prob(x), rtol=1e-5)


def test_another_process_with_another_hash_seed_reads_the_file(tmp_path):
    model = made((6,), 3, hidden=(16,), order=(3, 0, 5, 1, 4, 2), key=KEY)
    x = drawn(model, 50)
    probgen.save(tmp_path / "model.safetensors", model)
    (tmp_path / "x.pgc").write_bytes(Codec(model, lanes=16).encode(x))
    np.save(tmp_path / "x.npy", x)
    program = (
        "import numpy as np, probgen\nfrom pathlib import Path\nfrom probgen.compression import Codec\n"
        "codec = Codec(probgen.load('model.safetensors'), lanes=16)\n"
        "assert (codec.decode(Path('x.pgc').read_bytes()) == np.load('x.npy')).all()\n"
    )
    root = str(Path(probgen.__file__).parents[1])
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)


def test_every_damaged_file_is_refused():
    model = histogram((3,), 4)
    codec = Codec(model, lanes=4, chunk=5)
    data = codec.encode(drawn(model, 12))
    for _ in range(10_000):
        broken, kind = bytearray(data), RNG.integers(4)
        at = int(RNG.integers(len(data)))
        if kind == 0:
            broken[at] ^= 1 << int(RNG.integers(8))
        elif kind == 1:
            broken = broken[:at]
        elif kind == 2:
            broken.insert(at, int(RNG.integers(256)))
        else:
            broken[at : at + 8] = RNG.bytes(8)
        if bytes(broken) == data:
            continue
        with pytest.raises(ValueError, match=r"file|chunk"):
            codec.decode(bytes(broken))


def test_a_foreign_file_is_refused_by_name(monkeypatch):
    one, other = Codec(MODELS["made"]()), Codec(made((6,), 3, hidden=(16,), key=KEY))
    data = one.encode(np.zeros((2, 6), int))
    with pytest.raises(ValueError, match="the file's model is"):
        other.decode(data)
    with pytest.raises(ValueError, match="the file's event_shape is"):
        Codec(histogram((3,), 4)).decode(data)
    monkeypatch.setattr("probgen.compression.codec.machine", lambda: {"jax": "0.1"})
    with pytest.raises(ValueError, match="the file's machine is"):
        one.decode(data)


def test_other_probabilities_are_seen_by_the_symbols_checksum(monkeypatch):
    """As when a device computes the last digits in another way, and its name is the same."""
    model, other = MODELS["made"](), made((6,), 3, hidden=(16,), key=KEY)
    data = Codec(model, lanes=8).encode(drawn(model, 30))
    wrong = Codec(other, lanes=8)
    monkeypatch.setattr("probgen.compression.codec.fingerprint", lambda model: "the same")
    data = Codec(model, lanes=8).encode(drawn(model, 30))
    with pytest.raises(ValueError, match="chunk 0 was decoded to something else"):
        wrong.decode(data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Codec(dist.Bernoulli(0.5)), "model: expected one that is a product of conditionals"),
        (lambda: Codec(probgen.flows.real_nvp(2, layers=2, hidden=(4,), key=KEY)), "a product of conditionals"),
        (lambda: Codec(histogram((3,), 4), lanes=0), "lanes"),
        (lambda: Codec(histogram((3,), 4)).encode(np.zeros((2, 4), int)), r"x: expected integers \[N, 3\]"),
        (lambda: Codec(histogram((3,), 4)).encode(np.zeros((2, 3))), "x: expected integers .* got float64"),
        (lambda: Codec(histogram((3,), 4)).encode(np.full((2, 3), 4)), "x: row 0 lies outside"),
        (lambda: Codec(histogram((3,), 4)).decode(b""), "this is no file of a probgen codec"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
