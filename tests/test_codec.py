"""Codecs of models: lossless, as long as the model claims, and refused where the file is damaged or foreign."""

import io
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import Predictive

import probgen
from probgen import latent
from probgen.autoregressive import Ragged, char_rnn, gated_pixel_cnn, made, transformer
from probgen.compression import Codec, CodecReport, Message, Sites, Stack, divergence, integer_cdf
from probgen.compression.container import ChunkWriter, read_chunks, read_header
from probgen.compression.identity import fingerprint
from probgen.distributions import ConditionalModel, Dequantized
from probgen.distributions.coding import coded, in_double
from probgen.flows import integer_flow, on_levels, real_nvp
from probgen.mixtures import categorical_mixture, gaussian_mixture, histogram
from probgen.score import Ancestral, InSteps, masked_diffusion, vp_score

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
ROUND_TRIPS = int(os.environ.get("PROBGEN_ROUND_TRIPS", "0"))


def stirred(model, scale=2.0):
    """Return a model whose numbers are larger, so that its probabilities differ from place to place."""
    params, rest = probgen.partition(model)
    return probgen.combine({path: scale * value for path, value in params.items()}, rest)


SMALL = {"latent_dim": 3, "hidden": (8,), "key": KEY}
EXACT = {
    "bernoulli": lambda: dist.Bernoulli(jnp.full((3, 2), 0.3)).to_event(2),
    "binomial": lambda: dist.Binomial(7, jnp.array([0.3, 0.6])).to_event(1),
    "poisson": lambda: dist.Poisson(jnp.array([0.5, 3.0, 40.0])).to_event(1),  # without an end
    "geometric": lambda: dist.Geometric(probs=jnp.full(3, 0.0002)).to_event(1),  # most are beyond the table
    "made": lambda: stirred(made((6,), 3, hidden=(16,), order=(3, 0, 5, 1, 4, 2), key=KEY)),
    "gated_pixel_cnn": lambda: stirred(gated_pixel_cnn((4, 3), 5, channels=8, depth=1, key=KEY)),
    "char_rnn": lambda: stirred(char_rnn(12, 7, width=8, key=KEY)),
    "transformer": lambda: stirred(transformer(8, 4, width=8, layers=1, heads=2, key=KEY)),
    "mixture": lambda: categorical_mixture((4, 2), 3, components=4, key=KEY),
    "histogram": lambda: histogram((3,), 4),
    "integer_flow": lambda: stirred(integer_flow((3, 2), 5, layers=3, hidden=(8,), key=KEY)),
}
FULL = latent.FullCovariance(probgen.networks.MLP(6, 9, hidden=(4,), key=KEY), 3)
LATENT = {
    "vae": lambda: stirred(latent.vae((6,), 3, **SMALL)),
    "full_covariance": lambda: latent.vae((6,), 3, **SMALL).replace(posterior=FULL),
    "mixture_prior": lambda: latent.vae((6,), 3, prior=gaussian_mixture(3, components=4, key=KEY), **SMALL),
    "vamp_vae": lambda: latent.vamp_vae((6,), 3, **SMALL),
    "hierarchical_vae": lambda: stirred(latent.hierarchical_vae((6,), 3, latent_dims=(3, 2), hidden=(8,), key=KEY)),
    "top_down_vae": lambda: stirred(latent.top_down_vae((6,), 3, layers=3, latent_dim=2, width=8, key=KEY)),
    "vq_vae": lambda: latent.vq_vae((6,), 3, codes=4, code_shape=(2,), dim=2, hidden=(8,), key=KEY),
    "pixel_vae": lambda: latent.pixel_vae(
        stirred(made((6,), 3, hidden=(8,), context_dim=3, key=KEY)), 3, hidden=(8,), key=KEY
    ),
    "helmholtz_machine": lambda: stirred(latent.helmholtz_machine((6,), 2, key=KEY)),
    "iaf_vae": lambda: latent.iaf_vae((6,), 3, layers=1, width=4, features=3, **SMALL),
    "flow_prior_vae": lambda: latent.vae((6,), 3, prior=real_nvp(3, layers=2, hidden=(4,), key=KEY), **SMALL),
    "real_nvp": lambda: on_levels(stirred(real_nvp(6, layers=2, hidden=(8,), key=KEY), 1.5), (6,), 17),
    "masked_diffusion": lambda: stirred(masked_diffusion((6,), levels=3, width=8, depth=1, key=KEY)),
    "in_steps": lambda: stirred(masked_diffusion((6,), levels=3, width=8, depth=1, key=KEY)).replace(
        unmasking=InSteps(3)
    ),
    "vp_score": lambda: vp_score((6,), levels=3, width=8, depth=1, key=KEY).replace(
        sampler=Ancestral(5), stepwise=True
    ),
}
WITHOUT_BITS_BACK = ("vq_vae", "masked_diffusion", "in_steps")


def drawn(model, count):
    draws = np.asarray(jax.jit(lambda m: m.sample(jax.random.key(1), (count,)))(model))
    return draws.astype(np.int32)


def chunks_of(data):
    file = io.BytesIO(data)
    read_header(file)
    return list(read_chunks(file))


# -- the coder


def test_streams_come_back_and_cost_their_information():
    for levels in (1, 2, 17, 300):
        p = RNG.dirichlet(np.full(levels, 0.3), 4000) + 1e-12
        p /= p.sum(1, keepdims=True)
        symbols = np.array([RNG.choice(levels, p=row) for row in p])
        stack = Stack()
        for start in range(3500, -1, -500):  # what is pushed last is popped first; in Fortran order, too
            stack.push(symbols[start : start + 500], np.asfortranarray(p[start : start + 500]))
        data = stack.finish()
        reader = Stack(data)
        np.testing.assert_array_equal(np.concatenate([reader.pop(p[:1234]), reader.pop(p[1234:])]), symbols)
        information = -np.log2(p[np.arange(4000), symbols]).sum()
        assert reader.is_empty and not stack.borrowed
        assert information - 1 < 8 * len(data) <= 1.0005 * information + 64
        np.testing.assert_allclose(stack.information, information, rtol=1e-9, atol=1e-6)


def test_probabilities_are_taken_in_24_bits_as_integer_tables_are():
    """What a very unlikely symbol costs is at most 24 bits, and all others lose next to nothing by it."""
    p = np.array([[1.0, 0.0, 1e-300]] * 1000)
    stack = Stack()
    stack.push(np.tile([0, 1, 2, 0], 250), p)
    data = stack.finish()
    assert Stack(data).pop(p).tolist() == [0, 1, 2, 0] * 250
    assert abs(8 * len(data) - 500 * 24) <= 64 and divergence(p[0], np.diff(integer_cdf(p[0])) / 2**24) < 1e-6


def test_what_is_popped_off_an_empty_stack_is_drawn_and_comes_back():
    """The bits of no one are chance; what of them was taken is in the file, and no more."""
    p, stack = np.tile([0.1, 0.2, 0.7], (5000, 1)), Stack()
    symbols = stack.pop(p)
    assert abs(np.bincount(symbols) / 5000 - p[0]).max() < 0.03
    taken = -np.log2(p[0])[symbols].sum()
    assert taken - 64 < stack.borrowed < taken + 64 and abs(8 * len(stack.finish()) - 64) < 65
    stack.push(symbols, p)
    assert stack.is_empty and abs(stack.information) < 1e-6
    reader = Stack(stack.finish())
    assert reader.is_empty and len(stack.finish()) * 8 < stack.borrowed + 65


def test_normals_are_drawn_from_and_written_far_away_too():
    shape = (500, 4)
    loc, scale = RNG.normal(size=shape) * 3, np.exp(RNG.normal(size=shape) - 2)
    message = Message(Stack(), 500, 450, 2.0**-6)
    z = message.pop_normals(loc, scale)
    noise = ((z - loc) / np.hypot(scale, 2.0**-6 / 12**0.5))[:450]
    assert abs(noise.mean()) < 0.08 and abs(noise.std() - 1) < 0.05 and not z[450:].any() and abs(noise).max() < 6
    far = z + np.round(RNG.normal(size=shape) * 100) * 2.0**-6 * (RNG.random(shape) < 0.1)  # thousands of scales
    far = np.where(np.arange(500)[:, None] < 450, far, 0)
    message.push_normals(far, loc, scale)
    message.stir(40)
    message.stir(40)
    np.testing.assert_array_equal(message.pop_normals(loc, scale), far)
    message.push_normals(z, loc, scale)
    assert message.stack.is_empty


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
        Stack().push(symbols, p)
    with pytest.raises(ValueError, match="data: expected whole words"):
        Stack(b"abc")


# -- codecs


@pytest.mark.parametrize("name", EXACT)
def test_events_come_back_and_cost_what_the_model_claims(name):
    model = EXACT[name]()
    x = drawn(model, 300)
    codec = Codec(model, lanes=32, chunk=200)
    report = codec.report(x)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)
    assert isinstance(report, CodecReport) and "bits claimed" in str(report) and not report.borrowed
    slack = 0.05 if name == "geometric" else 0.001  # an integer beyond the table costs what Elias says
    assert report.claimed - 1 < report.coded < (1 + slack) * report.claimed + 2 * 64 and report.items == 300
    assert [chunk.items for chunk in chunks_of(codec.encode(x))] == [200, 100]
    for rows, dtype in ((x[:0], np.int32), (x[:1], np.uint8), (x[:33], np.int64)):
        rows = rows if np.can_cast(np.min_scalar_type(rows.max(initial=0)), dtype) else rows * 0
        back = codec.decode(codec.encode(rows.astype(dtype)))
        assert back.dtype == dtype and back.shape == rows.shape
        np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize("name", LATENT)
def test_latent_variables_give_their_bits_back(name):
    model = LATENT[name]()
    x = drawn(model, 200)
    # a flow is straight over the steps of a fine grid
    codec = Codec(model, lanes=32, width=2.0**-10 if name in ("iaf_vae", "flow_prior_vae") else None)
    report = codec.report(x)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)
    assert abs(report.coded - report.borrowed - report.claimed) < 0.001 * report.claimed + 2 * 64
    assert (report.borrowed > 0) == (name not in WITHOUT_BITS_BACK) and report.coded / 8 < report.file
    bound = jax.jit(lambda m, k: m.log_prob_bound(k, jnp.asarray(x)).sum())
    draws = np.array([-bound(model, key) for key in jax.random.split(KEY, 20)]) / np.log(2)
    assert abs(report.claimed - draws.mean()) < 5 * draws.std() + 1e-3 * draws.mean()


def test_what_the_model_has_never_seen_is_coded_and_does_not_spoil_the_rest():
    """Latents that the prior does not expect leave bits on top that are no chance; the posterior draws from others."""
    model = stirred(latent.vae((6,), 3, prior=dist.Normal(jnp.full(3, 9.0), 0.05).to_event(1), **SMALL), 0.1)
    x = RNG.integers(0, 3, (96, 6))
    codec = Codec(model, lanes=32)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)
    message = Message(Stack(), 32, 32, 2.0**-6)
    code, drawn = coded(model, (32,)), []
    for _ in range(20):
        code.push(message, x[:32])
        message.stir(30)
        drawn.append(message.pop_normals(np.zeros((32, 3)), np.ones((32, 3))))
        message.push_normals(drawn[-1], np.zeros((32, 3)), np.ones((32, 3)))
        message.stir(30)
    assert abs(np.std(drawn) - 1) < 0.08 and abs(np.array(drawn)).max() < 5


def test_contexts_and_lengths_are_known_to_the_reader():
    words = ConditionalModel(Ragged(stirred(char_rnn(12, 7, width=8, key=KEY))), ())
    lengths = RNG.integers(0, 13, 50)
    x = np.where(np.arange(12) < lengths[:, None], RNG.integers(0, 7, (50, 12)), 0)
    digits = latent.vae((6,), 3, context_dim=2, **SMALL)
    pixels = latent.top_down_vae((6,), 3, layers=2, latent_dim=2, width=8, context_dim=2, key=KEY)
    contexts, y = RNG.normal(size=(50, 2)).astype("f4"), RNG.integers(0, 3, (50, 6))
    moved = categorical_mixture((6,), 3, components=2, key=KEY)
    moved = ConditionalModel(
        moved, (2,), probgen.networks.MLP(2, probgen.core.count_parameters(moved), hidden=(4,), key=KEY)
    )
    many = ((words, x, lengths), (digits, y, contexts), (pixels, y, contexts), (stirred(moved), y, contexts))
    for model, rows, given in many:
        codec = Codec(model, lanes=16)
        data = codec.encode(rows, given)
        np.testing.assert_array_equal(codec.decode(data, given), rows)
        report = codec.report(rows, given)
        assert abs(report.coded - report.borrowed - report.claimed) < 0.001 * report.claimed + 2 * 64
        with pytest.raises(ValueError, match="contexts: they are not those"):
            codec.decode(data, given[::-1])
        with pytest.raises(ValueError, match="contexts: expected"):
            codec.encode(rows)
    expected = -words(lengths).log_prob(x).sum() / np.log(2)
    np.testing.assert_allclose(Codec(words, lanes=16).report(x, lengths).claimed, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="contexts: this model takes none"):
        Codec(histogram((3,), 4)).encode(np.zeros((2, 3), int), contexts)


@pytest.mark.skipif(not ROUND_TRIPS, reason="PROBGEN_ROUND_TRIPS=1000 makes so many round trips of each codec")
def test_random_batches_come_back():
    """Of any size, the last group ragged, in few lanes and many."""
    for name, make in (EXACT | LATENT).items():
        x = drawn(model := make(), 2000)
        for lanes in (1, 16, 128):
            codec, rng = Codec(model, lanes=lanes, chunk=150), np.random.default_rng(lanes)
            for _ in range(ROUND_TRIPS // 3 + 1):
                rows = x[rng.integers(0, 2000, rng.integers(0, 1 + min(200, 2 * lanes)))]
                np.testing.assert_array_equal(codec.decode(codec.encode(rows)), rows, err_msg=f"{name}, {lanes} lanes")
        print(f"{name}: {3 * (ROUND_TRIPS // 3 + 1)} round trips", flush=True)


def test_a_program_of_discrete_sites_is_a_codec():
    def program(rate):
        weather = numpyro.sample("weather", dist.Categorical(jnp.array([0.5, 0.3, 0.2])))
        with numpyro.plate("hours", 4):
            wet = numpyro.sample("wet", dist.Bernoulli(jnp.array([0.05, 0.3, 0.9])[weather]))
            numpyro.sample("drops", dist.Poisson(jnp.where(wet, rate, 0.1)))
        numpyro.deterministic("all", wet.sum())

    model = Sites(program, 9.0)
    assert model.shapes == (("weather", ()), ("wet", (4,)), ("drops", (4,)))
    values = Predictive(handlers.seed(program, 0), num_samples=300)(KEY, 9.0)
    values = {name: values[name] for name, _ in model.shapes}
    x = model.pack(values)
    codec = Codec(model, lanes=64)
    back = model.unpack(codec.decode(codec.encode(x)))
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value)
    each = handlers.substitute(handlers.seed(program, 0), {name: value[7] for name, value in values.items()})
    sites = handlers.trace(each).get_trace(9.0)
    by_hand = sum(sites[name]["fn"].log_prob(sites[name]["value"]).sum() for name in values)
    np.testing.assert_allclose(model.log_prob(x[7]), by_hand, rtol=1e-6)
    report = codec.report(x)
    assert report.claimed - 1 < report.coded < 1.001 * report.claimed + 64
    assert x.shape == (300, 9) and model.sample(KEY, (2,)).shape == (2, 9)
    with pytest.raises(ValueError, match="expected sites of integers, got 'z'"):
        Sites(lambda: numpyro.sample("z", dist.Normal()))
    with pytest.raises(ValueError, match="expected no observations, got one at site 'z'"):
        Sites(lambda: numpyro.sample("z", dist.Bernoulli(0.5), obs=1))
    with pytest.raises(ValueError, match="expected sample sites, got none"):
        Sites(lambda: 0)


def test_numbers_of_the_grid_keep_all_their_digits():
    """Far from 0 on a fine grid single precision has not enough of them; too far, double precision has not."""
    message = Message(Stack(), 4, 4, 2.0**-6)
    loc, scale = np.full((4, 2), 1e6), np.ones((4, 2))
    z = message.pop_normals(loc, scale)
    message.push_normals(z, loc, scale)
    assert message.stack.is_empty
    with pytest.raises(ValueError, match="too far away for a grid of width"):
        message.pop_normals(1e20 * loc, scale)
    mixture = gaussian_mixture(3, components=2, key=KEY)
    mixture = mixture.replace(loc=mixture.loc + 8.0)
    model, x = Dequantized(mixture, 17), RNG.integers(4, 12, (8, 3))
    codec = Codec(model, lanes=4)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)


def test_lanes_that_are_not_in_use_do_not_matter():
    def program():
        n = numpyro.sample("n", dist.DiscreteUniform(5, 9))
        numpyro.sample("m", dist.Poisson(30.0 / (n - 4)))

    model, x = Sites(program), np.array([[5, 33], [9, 7], [6, 300]])
    codec = Codec(model, lanes=8)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)


def test_priors_at_contexts_are_those_of_the_contexts():
    def moved(model, x):
        many = ConditionalModel(
            model,
            (2,),
            probgen.networks.MLP(2, probgen.core.count_parameters(model), hidden=(2,), out_scale=1.0, key=KEY),
        )
        contexts = RNG.normal(size=(12, 2))
        codec = Codec(many, lanes=4)
        np.testing.assert_array_equal(codec.decode(codec.encode(x, contexts), contexts.astype("f4")), x)
        report = codec.report(x, contexts)
        at = many(jnp.asarray(contexts, jnp.float32))
        bound = jax.jit(jax.vmap(lambda key: at.log_prob_bound(key, x).sum()))(jax.random.split(KEY, 50)) / np.log(2)
        assert abs(report.claimed + bound.mean()) < 5 * bound.std() + 0.02

    x = RNG.integers(0, 3, (12, 4))
    moved(latent.hierarchical_vae((4,), 3, latent_dims=(2, 2), hidden=(4,), key=KEY), x)
    moved(latent.vq_vae((4,), 3, codes=4, code_shape=(2,), dim=2, hidden=(4,), prior=histogram((2,), 4), key=KEY), x)


def test_a_reader_that_goes_beyond_the_end_says_so():
    reader = Stack(Stack().finish())
    with pytest.raises(ValueError, match="more was read than was written"):
        reader.pop([[0.5, 0.5]] * 200)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lanes", None),
        ("lanes", 10**9),
        ("width", "fine"),
        ("dtype", "float32"),
        ("contexts", "0"),
        ("chunk", 1),
        ("portable", 1),
    ],
)
def test_a_forged_header_is_refused(name, value):
    codec = Codec(histogram((3,), 4), lanes=4)
    data = codec.encode(np.ones((6, 3), int))
    out, facts = io.BytesIO(), read_header(io.BytesIO(data))
    writer = ChunkWriter(out, facts | {name: value})
    for chunk in chunks_of(data):
        writer.write(chunk)
    writer.close()
    with pytest.raises(ValueError, match=r"header is damaged|chunk 0|lanes, chunk: expected|width"):
        codec.decode(out.getvalue())
    for forged in ([1, 2], None, {"x": "0" * 2**24}):  # the last one in 16 kB
        out = io.BytesIO()
        ChunkWriter(out, forged).close()
        with pytest.raises(ValueError, match="it holds no facts"):
            codec.decode(out.getvalue())


@pytest.mark.parametrize("lanes", [1, 16, 128])
def test_any_number_of_lanes_is_read_by_a_codec_of_another(lanes):
    model = EXACT["made"]()
    x, reader = drawn(model, 40), Codec(model, lanes=7)
    np.testing.assert_array_equal(reader.decode(Codec(model, lanes=lanes).encode(x)), x)


@pytest.mark.parametrize("kind", ["integers", "normals", "diagonal normals"])
def test_steps_of_a_mixture_are_its_conditionals(kind):
    if kind == "integers":
        model = EXACT["mixture"]()
    else:
        mean, regression = jax.random.normal(KEY, (3, 5)), jax.random.normal(KEY, (3, 5, 5))
        raw = regression[:, 0] if kind == "diagonal normals" else regression
        model = gaussian_mixture(5, components=3, key=KEY).replace(loc=mean, raw_scale=raw)
    x = jnp.asarray(drawn(model, 5) if kind == "integers" else model.sample(KEY, (5,)))

    def log_prob(x):
        steps, values = model.steps(), model.in_order(x)
        cache, total = steps.init(), 0.0
        for i in range(len(values)):
            cache, here = steps.step(cache, values[i - 1], i)
            total += here.log_prob(values[i])
        return total

    np.testing.assert_allclose(jax.jit(jax.vmap(log_prob))(x), model.log_prob(x), rtol=1e-4)


def test_another_process_with_another_hash_seed_reads_the_file(tmp_path):
    model = latent.vae((6,), 3, **SMALL)
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


BY_TABLES = [*EXACT, "vq_vae", "helmholtz_machine", "masked_diffusion"]


@pytest.mark.parametrize("name", BY_TABLES)
def test_portable_files_are_those_of_one_pass_and_any_program_reads_them(name, monkeypatch):
    model = {**EXACT, **LATENT}[name]()
    x = drawn(model, 40)
    replayed, pushed = [], Codec._pushed
    spied = lambda *args: replayed.append(args[-1]) or pushed(*args)
    monkeypatch.setattr(Codec, "_pushed", spied)
    codec = Codec(model, lanes=16, chunk=30, portable=True)
    data = codec.encode(x)
    assert replayed == [False, False]  # and what was read again was right
    monkeypatch.setattr("probgen.compression.identity.machine", lambda: {"jax": "0.1"})
    np.testing.assert_array_equal(codec.decode(data), x)
    data = Codec(model, lanes=3, portable=True).encode(x)
    np.testing.assert_array_equal(Codec(model, lanes=16).decode(data), x)


def test_the_rounding_of_portable_files_costs_next_to_nothing():
    model = EXACT["gated_pixel_cnn"]()
    report = Codec(model, portable=True).report(drawn(model, 3000))
    assert abs(report.coded - report.claimed) < 0.001 * report.claimed + 2 * 64


@pytest.mark.parametrize(
    "model",
    [
        dist.DiscreteUniform(-5, jnp.array([4, 100])),
        dist.DiscreteUniform(jnp.array([-5, -7]), jnp.array([4, 100])),
        dist.BetaBinomial(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0]), jnp.array([9, 4])),
        dist.Binomial(jnp.array([9, 4]), jnp.array([0.3, 0.6])),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_lies_beyond_the_support_takes_no_bits(model):
    """In numpyro's log_prob it may be anything, once a distribution has gone through a transformation of JAX."""
    model = model.to_event(1)
    x = drawn(model, 400)
    reports = [Codec(model, portable=portable).report(x) for portable in (False, True)]
    for report in reports:
        assert abs(report.coded - report.claimed) < 0.002 * report.claimed + 64
    assert abs(reports[0].coded - reports[1].coded) <= 32


def test_a_model_is_the_same_in_any_precision():
    model = EXACT["made"]()
    with jax.enable_x64(True):
        wide = in_double(model)
        assert fingerprint(wide) == fingerprint(model) != fingerprint(made((6,), 3, hidden=(16,), key=KEY))


def test_contexts_that_no_file_can_know_are_refused():
    codec = Codec(stirred(made((6,), 3, hidden=(16,), context_dim=2, key=KEY)))
    for contexts in (np.full((1, 2), 2**40), np.full((1, 2), np.nan), np.array([["a", "b"]]), np.full((1, 2), 1j)):
        with pytest.raises(ValueError, match="contexts: expected"):
            codec.encode(np.zeros((1, 6), int), contexts)


def test_portable_files_know_contexts_and_lengths():
    words = ConditionalModel(Ragged(stirred(char_rnn(12, 7, width=8, key=KEY))), ())
    lengths = RNG.integers(0, 13, 30)
    x = np.where(np.arange(12) < lengths[:, None], RNG.integers(0, 7, (30, 12)), 0)
    rows = stirred(made((6,), 3, hidden=(16,), context_dim=2, key=KEY))
    for model, events, given in ((words, x, lengths), (rows, x[:, :6] % 3, RNG.normal(size=(30, 2)))):
        data = Codec(model, lanes=16, portable=True).encode(events, given)
        np.testing.assert_array_equal(Codec(model).decode(data, given), events)


def test_a_portable_chunk_that_does_not_come_back_is_written_by_the_readers_program(monkeypatch):
    """As where a log-probability lies on an edge of its step."""
    from probgen.distributions import step_codes

    whole = step_codes._pass
    monkeypatch.setattr(step_codes, "_pass", lambda *args: jax.tree.map(lambda a: a.at[0, 3].add(0.1), whole(*args)))
    model = EXACT["made"]()
    x, codec = drawn(model, 30), Codec(model, lanes=16, portable=True)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)


def test_a_machine_of_other_instructions_reads_portable_files(tmp_path):
    model = EXACT["gated_pixel_cnn"]()
    x = drawn(model, 200)
    probgen.save(tmp_path / "model.safetensors", model)
    (tmp_path / "x.pgc").write_bytes(Codec(model, portable=True).encode(x))
    np.save(tmp_path / "x.npy", x)
    program = (
        "import numpy as np, probgen\nfrom pathlib import Path\nfrom probgen.compression import Codec\n"
        "codec = Codec(probgen.load('model.safetensors'))\n"
        "assert (codec.decode(Path('x.pgc').read_bytes()) == np.load('x.npy')).all()\n"
    )
    flags = "--xla_cpu_max_isa=SSE4_2 --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(probgen.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)


def test_portable_probabilities_are_the_same_everywhere():
    """exp(−k / 128), rounded from 40 digits."""
    message = Message(Stack(), 1, 1, 1.0, portable=True)
    p = message._probabilities(np.array([[0.0, -1.0, -1.003, -1.005, -100.0, -np.inf, 1e-17]]))[0]
    np.testing.assert_array_equal(
        p, [1.0, *[0.36787944117144233] * 2, 0.36501658064745907, *[1.2664165549094176e-14] * 2, 1.0]
    )
    np.testing.assert_array_max_ulp(p[[1, 3, 4]], np.exp([-1, -129 / 128, -32]))
    with pytest.raises(ValueError, match="NaN"):
        message._probabilities(np.array([[np.nan, 0.0]]))


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
    one, other = Codec(EXACT["made"]()), Codec(made((6,), 3, hidden=(16,), key=KEY))
    data = one.encode(np.zeros((2, 6), int))
    with pytest.raises(ValueError, match="the file's model is"):
        other.decode(data)
    with pytest.raises(ValueError, match="the file's event_shape is"):
        Codec(histogram((3,), 4)).decode(data)
    monkeypatch.setattr("probgen.compression.identity.machine", lambda: {"jax": "0.1"})
    with pytest.raises(ValueError, match="the file's machine is"):
        one.decode(data)


def test_other_probabilities_are_seen_by_the_symbols_checksum(monkeypatch):
    """As when a device computes the last digits in another way, and its name is the same."""
    model, other = EXACT["made"](), made((6,), 3, hidden=(16,), key=KEY)
    data = Codec(model, lanes=8).encode(drawn(model, 30))
    wrong = Codec(other, lanes=8)
    monkeypatch.setattr("probgen.compression.identity.fingerprint", lambda model: "the same")
    data = Codec(model, lanes=8).encode(drawn(model, 30))
    with pytest.raises(ValueError, match="chunk 0 was decoded to something else"):
        wrong.decode(data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Codec(dist.Bernoulli(jnp.full(3, 0.5))), r"model: expected batch shape \(\), got \(3,\)"),
        (lambda: Codec(real_nvp(2, layers=2, hidden=(4,), key=KEY)), "which a number has no bits"),
        (lambda: Codec(dist.Multinomial(3, jnp.full(2, 0.5))), "no code is known of a Multinomial"),
        (
            lambda: Codec(latent.vae((6,), 3, prior=dist.Laplace(jnp.zeros(3), 1.0).to_event(1), **SMALL)).encode(
                np.zeros((2, 6), int)
            ),
            "a Laplace is of real numbers, which have no bits",
        ),
        (
            lambda: Codec(histogram((3,), 4), width=0.25).encode(np.zeros((2, 3), int)),
            "width: nothing of this model lies on a grid of 0.25",
        ),
        (lambda: Codec(histogram((3,), 4), width=0.3), "width: expected a power of two"),
        (lambda: Codec(dist.Bernoulli(jnp.full(3, 0.5)).mask(False).to_event(1)), "a masked distribution has no code"),
        (
            lambda: Codec(vp_score((6,), levels=3, width=8, depth=1, key=KEY)).encode(np.zeros((2, 6), int)),
            "a diffusion in continuous time has no layers",
        ),
        (lambda: Codec(histogram((3,), 4), lanes=0), "lanes"),
        (lambda: Codec(histogram((3,), 4)).encode(np.zeros((2, 4), int)), r"x: expected integers \[N, 3\]"),
        (lambda: Codec(histogram((3,), 4)).encode(np.zeros((2, 3))), "x: expected integers .* got float64"),
        (lambda: Codec(histogram((3,), 4)).encode(np.full((2, 3), 4)), "x: row 0 lies outside"),
        (lambda: Codec(dist.Poisson(3.0)).encode(np.int64(5)), r"x: expected integers \[N\]"),
        (lambda: Codec(dist.Poisson(3.0)).encode(np.array([2**33])), "x: expected integers of 32 bits"),
        (
            lambda: Codec(ConditionalModel(Ragged(char_rnn(4, 3, width=4, key=KEY)), ())).encode(
                np.ones((2, 4), int), np.array([2, 4])
            ),
            "x: expected zeros beyond the lengths",
        ),
        (
            lambda: Codec(ConditionalModel(Ragged(char_rnn(4, 3, width=4, key=KEY)), ())).encode(
                np.ones((2, 4), int), np.array([5, 4])
            ),
            r"lengths: expected 0\.\.4",
        ),
        (lambda: Codec(histogram((3,), 4)).decode(b""), "this is no file of a probgen codec"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
