"""Files of bytes by a model of bytes: lossless, as long as the model claims, whole or not there; and the commands."""

import gzip
import io
import lzma
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import probgen
from probgen.autoregressive import Ragged, char_rnn
from probgen.cli import main
from probgen.compression import Codec, Compressed, byte_files
from probgen.compression.container import Chunk, ChunkWriter, read_chunks, read_header

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LENGTH, LANES = 32, 4
TEXT = b"".join(b"%d times %d is %d; " % (i, j, i * j) for i in range(12) for j in range(12))


def tiny(seed=0, length=LENGTH):
    """A model whose numbers are large, so that its probabilities differ from place to place."""
    params, rest = probgen.partition(char_rnn(length, 256, width=8, key=jax.random.key(seed)))
    return probgen.combine({path: 3.0 * value for path, value in params.items()}, rest)


MODEL = tiny()


def written(data, model=MODEL, **options):
    out = io.BytesIO()
    done = byte_files.compress(io.BytesIO(data), out, model, **options)
    assert isinstance(done, Compressed)
    assert done.size == len(data) and done.file == len(out.getvalue())
    return out.getvalue()


def read(file, model=MODEL):
    out = io.BytesIO()
    assert byte_files.decompress(io.BytesIO(file), out, model) == len(out.getvalue())
    return out.getvalue()


def parts(file):
    """The facts, and the chunks."""
    source = io.BytesIO(file)
    return read_header(source), list(read_chunks(source))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff", bytes(range(256)), RNG.bytes(1000), TEXT, b"a" * 500])
def test_bytes_come_back(data):
    for lanes in (1, LANES):
        assert read(written(data, lanes=lanes, size=len(data))) == data
    assert read(written(data, lanes=LANES)) == data


def test_portable_files_are_read_on_other_machines(monkeypatch):
    replayed, push = [], byte_files.push_steps
    spied = lambda model, message, *args: replayed.append(message.replays) or push(model, message, *args)
    monkeypatch.setattr(byte_files, "push_steps", spied)
    files = {data: written(data, lanes=LANES, portable=True) for data in (b"", b"\xff", TEXT[:300])}
    assert replayed == [False] * 4 and parts(files[b""])[0]["portable"] is True
    monkeypatch.setattr("probgen.compression.identity.machine", lambda: {"jax": "0.1"})
    assert all(read(file) == data for data, file in files.items())


def test_a_portable_chunk_that_does_not_come_back_is_written_again(monkeypatch):
    push = byte_files.push_steps
    wrong = lambda model, message, rows, lengths: push(model, message, rows ^ (not message.replays), lengths)
    monkeypatch.setattr(byte_files, "push_steps", wrong)
    assert read(written(TEXT[:300], lanes=LANES, portable=True)) == TEXT[:300]


def test_lengths_at_the_edges_of_lanes_and_chunks():
    whole = LANES * LENGTH
    near = {n + d for n in (LANES, LENGTH, whole, 2 * whole, 3 * whole) for d in (-1, 0, 1)}
    for count in sorted(near):
        data = RNG.bytes(count)
        for size in (None, count):
            file = written(data, lanes=LANES, size=size)
            assert read(file) == data
            items = [chunk.items for chunk in parts(file)[1]]
            assert len(items) == -(-count // whole) and sum(items) == count
            assert size is None or max(items) - items[-1] < len(items)


def test_lanes_are_as_many_as_leave_each_enough():
    facts = {n: parts(written(TEXT[:0], size=None, lanes=n))[0]["lanes"] for n in (1, 4096)}
    assert facts == {1: 1, 4096: 4096} and parts(written(b""))[0]["lanes"] == 64
    lanes = {n: byte_files._lanes(n, 2048) for n in (0, 1, 1999, 2000, 4000, 63_999, 64_000, 10**9)}
    assert list(lanes.values()) == [1, 1, 1, 2, 4, 32, 64, 64]
    assert byte_files._lanes(1000, 32) == 16  # rows are no longer than events: more of them cost nothing
    assert byte_files._piece(64, 2048, None) == byte_files._piece(64, 10**6, None) == 1 << 17  # of tables 128 MB
    assert byte_files._piece(64, 2048, 140_000) == 70_000


class Slow(io.BytesIO):
    """What gives a few bytes at a time, as pipes do."""

    def read(self, size=-1):
        return super().read(min(size, 7))


def test_what_is_read_in_small_pieces_is_the_same():
    out = io.BytesIO()
    byte_files.compress(Slow(TEXT[:700]), out, MODEL, lanes=LANES)
    assert out.getvalue() == written(TEXT[:700], lanes=LANES)


def test_bytes_cost_what_the_model_says():
    data = RNG.bytes(300) + TEXT[:401]
    chunks = parts(written(data, lanes=LANES))[1]
    log_p = jax.jit(lambda model, x, lengths: Ragged(model, lengths).log_prob(x))
    first = 0
    for chunk in chunks:
        here = np.frombuffer(data[first : first + chunk.items], np.uint8)
        rows = np.array_split(here, LANES)  # the first ones are the longer ones
        x = np.stack([np.pad(row, (0, LENGTH - len(row))) for row in rows]).astype(np.int32)
        claimed = -float(log_p(MODEL, x, jnp.array([len(row) for row in rows])).sum()) / np.log(2)
        assert claimed - 1 < 8 * len(chunk.data) < 1.001 * claimed + 64
        first += chunk.items
    assert first == len(data)


def test_what_the_model_thinks_impossible_takes_24_bits():
    params, rest = probgen.partition(MODEL)
    (bias,) = (path for path, value in params.items() if value.shape == (256,))
    sure = probgen.combine(params | {bias: jnp.zeros(256).at[0].set(1e4)}, rest)
    data = bytes([255] * 64)
    chunks = parts(written(data, sure, lanes=LANES))[1]
    assert 8 * len(chunks[0].data) <= 24 * 64 + 64 and read(written(data, sure, lanes=LANES), sure) == data


def test_every_damaged_file_is_refused():
    model = tiny(length=4)
    file = written(TEXT[:23], model, lanes=2)
    assert len(parts(file)[1]) == 3
    for _ in range(2000):
        broken, kind, at = bytearray(file), RNG.integers(4), int(RNG.integers(len(file)))
        if kind == 0:
            broken[at] ^= 1 << int(RNG.integers(8))
        elif kind == 1:
            broken = broken[:at]
        elif kind == 2:
            broken.insert(at, int(RNG.integers(256)))
        else:
            broken[at : at + 8] = RNG.bytes(8)
        if bytes(broken) == file:
            continue
        with pytest.raises(ValueError, match=r"file|chunk"):
            read(bytes(broken), model)


def forged(facts, chunks):
    out = io.BytesIO()
    writer = ChunkWriter(out, facts)
    for chunk in chunks:
        writer.write(chunk)
    writer.close()
    return out.getvalue()


def test_files_whose_checksums_are_right_and_that_are_none():
    facts, chunks = parts(written(TEXT[:150], lanes=LANES, size=150))
    for other in (0, -1, 10**9, "four", None):
        with pytest.raises(ValueError, match="lanes"):
            read(forged(facts | {"lanes": other}, chunks))
    with pytest.raises(ValueError, match="it has 75 bytes, and says that they are 150"):
        read(forged(facts, chunks[:1]))
    with pytest.raises(ValueError, match="chunk 0 was decoded to something else"):
        read(forged(facts, [Chunk(74, chunks[0].data, chunks[0].crc_of_events)]))
    with pytest.raises(ValueError, match="longer than any of its model"):
        read(forged(facts, [Chunk(1 << 31, chunks[0].data, 0)]))
    with pytest.raises(ValueError, match="whole words"):
        read(forged(facts, [Chunk(75, b"abc", 0)]))


def test_another_model_is_refused_by_name(monkeypatch):
    file = written(TEXT[:50], lanes=LANES)
    with pytest.raises(ValueError, match="the file's model is"):
        read(file, tiny(seed=1))
    with pytest.raises(ValueError, match=r"the file's event_shape is \[32\], and here it is \[4\]"):
        read(file, tiny(length=4))
    codec = Codec(MODEL, lanes=LANES)
    with pytest.raises(ValueError, match="the file's format is"):
        codec.decode(file)
    with pytest.raises(ValueError, match="the file's format is"):
        read(codec.encode(np.zeros((0, LENGTH), int)))
    monkeypatch.setattr("probgen.compression.identity.machine", lambda: {"jax": "0.1"})
    with pytest.raises(ValueError, match="the file's machine is"):
        read(file)


def test_other_probabilities_are_seen(monkeypatch):
    monkeypatch.setattr("probgen.compression.identity.fingerprint", lambda model: "the same")
    with pytest.raises(ValueError, match="chunk 0 was decoded to something else"):
        read(written(TEXT[:50], lanes=LANES), tiny(seed=1))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: char_rnn(8, 255, width=4, key=KEY), {}, "256 levels, got .* 255 levels from 0"),
        (lambda: probgen.autoregressive.made((2, 4), 256, hidden=(4,), key=KEY), {}, "sequences of 256 levels"),
        (lambda: char_rnn(4, 256, width=4, order=(3, 0, 1, 2), key=KEY), {}, "left to right"),
        (lambda: char_rnn(4, 256, width=4, context_dim=2, key=KEY), {}, "takes contexts"),
        (lambda: dist.Categorical(jnp.full((4, 256), 1 / 256)).to_event(1), {}, "expected an autoregressive one, got"),
        (lambda: dist.Poisson(jnp.ones(3)).to_event(1), {}, "other values"),
        (tiny, {"lanes": 0}, "lanes"),
        (tiny, {"lanes": 1 << 20}, "lanes: expected at most 4096"),
        (tiny, {"size": -1}, "size"),
        (tiny, {"size": 5, "lanes": LANES}, "expected 5 bytes, got 3: it was changed"),
    ],
)
def test_what_cannot_be_compressed(model, options, message):
    with pytest.raises(ValueError, match=message):
        byte_files.compress(io.BytesIO(b"abc"), io.BytesIO(), model(), **options)


# -- the model that comes along


def test_the_bundled_model_is_small_and_knows_english():
    path = Path(byte_files.__file__).with_name("english.safetensors")
    assert path.stat().st_size <= 1_000_000
    model = byte_files.bundled()
    assert all(value.dtype == np.float32 for value in probgen.partition(model)[0].values())
    data = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_bytes()[:4000]  # it was not trained on this
    file = written(data, model, size=len(data))
    coded = sum(len(chunk.data) for chunk in parts(file)[1])
    assert coded < 0.85 * len(gzip.compress(data, 9)) and len(file) < len(gzip.compress(data, 9))
    assert read(file, model) == data


def test_what_is_no_stored_model(tmp_path):
    path = tmp_path / "model.safetensors"
    probgen.save(path, MODEL)
    with pytest.raises(ValueError, match="holds no model of bytes"):
        byte_files.stored(path)
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="no whole safetensors file"):
        byte_files.stored(path)


# -- the commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    text, model = folder / "corpus.txt", folder / "model.safetensors"
    text.write_bytes(TEXT)
    arguments = ["train-codec", str(text), "--width", "8", "--length", "16", "--steps", "2", "--out", str(model)]
    assert main(arguments) == 0
    assert main(arguments) == 2  # it is there
    return model


def test_a_file_there_and_back(trained, tmp_path, capsys):
    data = TEXT[:900] + RNG.bytes(100)
    Path("a.txt").write_bytes(data)
    model = ["--model", str(trained)]
    assert main(["compress", "a.txt", *model]) == 0
    shown = capsys.readouterr()
    file = Path("a.txt.pg").read_bytes()
    assert f"a.txt: 1,000 bytes, a.txt.pg: {len(file):,} bytes, {8 * len(file) / 1000:.3f} bits/byte" in shown.out
    assert f"gzip -9 takes {len(gzip.compress(data, 9)):,} bytes" in shown.out and "bits/byte" in shown.err
    assert (
        f"xz takes {len(lzma.compress(data)):,} bytes" in shown.out and "gzip -9 and xz would be smaller" in shown.out
    )
    assert main(["decompress", "a.txt.pg", *model]) == 2  # a.txt is there
    assert "--out: a.txt is there already; --force replaces it" in capsys.readouterr().err
    Path("a.txt").write_bytes(b"changed")
    assert main(["decompress", "a.txt.pg", *model, "--force"]) == 0
    assert Path("a.txt").read_bytes() == data
    assert main(["compress", "a.txt", *model]) == 2 and main(["compress", "a.txt", *model, "--force"]) == 0
    assert main(["compress", "a.txt", *model, "-o", "b"]) == 0 and Path("b").read_bytes() == file
    assert main(["decompress", "b", *model, "-o", "c"]) == 0 and Path("c").read_bytes() == data
    assert main(["compress", "a.txt", *model, "--portable", "--force"]) == 0
    assert parts(Path("a.txt.pg").read_bytes())[0]["portable"] is True
    assert main(["decompress", "a.txt.pg", *model, "--force"]) == 0 and Path("a.txt").read_bytes() == data
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "a.txt.pg", "b", "c"]


def test_the_empty_file_by_the_bundled_model(capsys):
    Path("empty").touch()
    assert main(["compress", "empty"]) == 0 and main(["decompress", "empty.pg", "-o", "again"]) == 0
    assert Path("again").read_bytes() == b"" and "empty: 0 bytes, empty.pg: " in capsys.readouterr().out


def test_a_model_is_trained_and_says_what_it_takes(monkeypatch, capsys):
    Path("corpus.txt").write_bytes(TEXT)
    Path("more.bin").write_bytes(bytes(1000))

    def quick(model, rows, **options):
        assert rows.shape == (3 * 32, 16) and rows.dtype == np.uint8 and options["steps"] == 3
        return type("Result", (), {"model": model})

    monkeypatch.setattr("probgen.cli.codec_training.fit", quick)
    monkeypatch.setattr("probgen.cli.codec_training._step_seconds", lambda model, rows: 1.0)
    sizes = ["--length", "16", "--width", "8", "--minutes", "0.05"]
    assert main(["train-codec", "corpus.txt", "more.bin", "--model", "transformer", *sizes]) == 0
    out = capsys.readouterr().out
    held_out = -(-len(TEXT) // 20) + 50
    assert f"{len(TEXT) + 1000 - held_out:,} bytes to train on, {held_out} held out" in out
    assert "a transformer of" in out and "bits/byte, " in out and "gzip -9 " in out
    assert probgen.load("codec.safetensors").event_shape == (16,)


@pytest.mark.parametrize("command", ["compress", "decompress"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_nothing(trained, command, error, monkeypatch):
    Path("a").write_bytes(TEXT[:100])
    assert main(["compress", "a", "--model", str(trained)]) == 0
    Path("a.pg").rename("b.pg")
    before = sorted(path.name for path in Path().iterdir())

    def stop(*args, **kwargs):
        assert len(list(Path().glob("*.part"))) == 1
        raise error

    monkeypatch.setattr(f"probgen.compression.byte_files.{'push' if command == 'compress' else 'pop'}_steps", stop)
    arguments = [command, "a" if command == "compress" else "b.pg", "--model", str(trained)]
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            main(arguments)
    else:
        assert main(arguments) == 2
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_damaged_file_leaves_nothing(trained, capsys):
    Path("a").write_bytes(TEXT[:100])
    assert main(["compress", "a", "--model", str(trained)]) == 0
    assert main(["decompress", "a.pg", "-o", "c"]) == 2
    error = capsys.readouterr().err
    assert "a.pg cannot be read: the file's model is" in error and "--model names the one" in error
    file = bytearray(Path("a.pg").read_bytes())
    file[-30] ^= 1
    Path("b.pg").write_bytes(file)
    assert main(["decompress", "b.pg", "--model", str(trained)]) == 2
    assert "b.pg cannot be read: chunk 0 of the file is damaged" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["a", "a.pg", "b.pg"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["compress", "nowhere"], "there is no file at nowhere"),
    (["compress", "."], "there is no file at ."),
    (["compress", "text", "--model", "nowhere"], "there is no model file at nowhere"),
    (["compress", "text", "--model", "text"], "text is no whole safetensors file"),
    (["compress", "text", "--model", "digits.safetensors"], "the file is no array: it does not begin"),
    (["compress", "text", "-o", "no/such/folder/x"], "there is no folder no/such/folder"),
    (["compress", "text", "-o", "text", "--force"], "--out: text is the file to read itself"),
    (["compress", "text", "-o", "/dev/null", "--force"], "--out: /dev/null is no ordinary file"),
    (["compress", "text", "-o", "there"], "--out: there is there already; --force replaces it"),
    (["decompress", "nowhere.pg"], "there is no file at nowhere.pg"),
    (["decompress", "text"], "text does not end in .pg"),
    (["decompress", "text", "-o", "x"], "text cannot be read: this is no file of a probgen codec"),
    (["decompress", "there.pg"], "--out: there is there already"),
    (["train-codec", "nowhere"], "there is no file at nowhere"),
    (["train-codec", "text", "--length", "0"], "--length: expected at least 1, got 0"),
    (["train-codec", "text", "--steps", "0"], "--steps: expected at least 1, got 0"),
    (["train-codec", "text", "--minutes", "nan"], "--minutes: expected more than 0, got nan"),
    (["train-codec", "text"], "FILE: expected at least 256 bytes to train on"),
    (["train-codec", "text", "--out", "there"], "--out: there is there already"),
])  # fmt: skip
def test_mistakes_are_one_sentence(arguments, message, capsys):
    Path("text").write_bytes(TEXT[:100])
    Path("there").touch()
    Path("there.pg").touch()
    if "digits.safetensors" in arguments:
        probgen.save("digits.safetensors", probgen.mixtures.histogram((8, 8), 17))
    before = sorted(path.name for path in Path().iterdir())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == before
