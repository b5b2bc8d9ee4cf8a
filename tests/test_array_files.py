"""Arrays as files: there and back to the byte, by models of their rows, and by the command line."""

import io
from pathlib import Path

import jax
import numpy as np
import pytest

import probgen
from probgen.cli import main
from probgen.compression import array_files
from probgen.mixtures import histogram

RNG = np.random.default_rng(0)
MODEL = histogram((3, 3), 4)


def file_of(x, **options):
    file = io.BytesIO()
    np.save(file, x, **options)
    return file.getvalue()


def compressed(data, model=MODEL, **options):
    out = io.BytesIO()
    done = array_files.compress(io.BytesIO(data), out, model, **options)
    assert (done.size, done.file) == (len(data), len(out.getvalue()))
    return out.getvalue()


def restored(file, model=MODEL):
    out = io.BytesIO()
    rows = array_files.decompress(io.BytesIO(file), out, model)
    return rows, out.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", ">u4"])
@pytest.mark.parametrize("rows", [0, 1, 100])
def test_the_very_file_comes_back(dtype, rows):
    data = file_of(RNG.integers(0, 4, (rows, 3, 3)).astype(dtype))
    if dtype == ">u4":
        with pytest.raises(ValueError, match="could not be restored"):
            compressed(data)
        return
    file = compressed(data, lanes=8)
    assert restored(file) == (rows, data)
    if rows == 100:
        assert len(file) < 9 * rows * 2 / 8 + 700  # two bits a number, and what says by which model


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin as a .npy file"),
        (b"plain text", "does not begin as a .npy file"),
        (file_of(np.zeros((2, 3, 3), np.uint8))[:-1], "the file is no whole array"),
        (file_of(np.zeros((2, 3, 3), np.uint8))[:20], "the file is no whole array"),
        (file_of(np.zeros((2, 3, 3), np.uint8)) + b"x", "could not be restored"),
        (file_of(np.asfortranarray(np.zeros((2, 3, 3), np.uint8))), "could not be restored"),
        (file_of(np.zeros((2, 3, 3))), "expected an array of integers, got one of float64"),
        (file_of(np.array([{}]), allow_pickle=True), "the file is no whole array"),
        (file_of(np.full((2, 3, 3), 4, np.uint8)), "x: "),
        (file_of(np.zeros((2, 3, 4), np.uint8)), r"x: expected integers \[N, 3, 3\]"),
        (file_of(np.uint8(3)), r"x: expected integers \[N, 3, 3\]"),
    ],
)
def test_what_is_no_array_of_the_model_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        compressed(data)


def test_a_damaged_file_is_refused_wherever_it_is_damaged():
    file = compressed(file_of(RNG.integers(0, 4, (40, 3, 3)).astype(np.uint8)), lanes=4)
    for place in RNG.integers(0, len(file), 60):
        damaged = bytearray(file)
        damaged[place] ^= 1 << RNG.integers(8)
        with pytest.raises(ValueError):
            restored(bytes(damaged))
    with pytest.raises(ValueError, match="the file's model"):
        restored(
            file, histogram((3, 3), 4).replace(position_logits=MODEL.position_logits + 1.0 * (RNG.random((1, 3, 3, 4))))
        )


# -- the commands


def test_images_are_trained_on_compressed_and_restored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draws = jax.random.randint(jax.random.key(0), (60, 4, 4), 0, 3)
    np.save("digits.npy", np.asarray(draws, np.uint8))
    train = [
        "train-codec",
        "digits.npy",
        "--model",
        "pixel_cnn",
        "--width",
        "4",
        "--steps",
        "2",
        "--out",
        "m.safetensors",
    ]
    assert main(train) == 0
    shown = capsys.readouterr().out
    assert "57 images to train on, 3 held out" in shown and "a pixel_cnn of" in shown and "held out: " in shown
    assert probgen.load("m.safetensors").event_shape == (4, 4)
    original = Path("digits.npy").read_bytes()
    assert main(["compress", "digits.npy", "--model", "m.safetensors"]) == 0
    Path("digits.npy").unlink()
    assert main(["decompress", "digits.npy.pg", "--model", "m.safetensors"]) == 0
    assert (
        Path("digits.npy").read_bytes() == original
        and f"digits.npy: {len(original):,} bytes" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((9, 4), np.uint8), [], "expected images [N, H, W] or [N, H, W, C]"),
        (np.zeros((9, 4, 4), np.int16) - 1, [], "expected integers from 0 to 255, got -1 to -1"),
        (np.full((9, 4, 4), 256), [], "expected integers from 0 to 255, got 256 to 256"),
        (np.zeros((0, 4, 4), np.uint8), [], "expected images"),
        (np.zeros((1, 4, 4), np.uint8), [], "expected at least 2 images"),
        (np.zeros((9, 4, 4), np.uint8), ["--length", "3"], "--length: a pixel_cnn is of whole images"),
    ],
)
def test_what_is_no_set_of_images_is_refused(x, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    assert main(["train-codec", "x.npy", "--model", "pixel_cnn", "--steps", "1", *options]) == 2
    assert message in capsys.readouterr().err


def test_what_was_coded_is_told_from_the_whole_file():
    out, data = io.BytesIO(), file_of(RNG.integers(0, 4, (40, 3, 3)).astype(np.uint8))
    done = array_files.compress(io.BytesIO(data), out, MODEL, lanes=4)
    assert 9 * 40 * 2 / 8 <= done.coded < 9 * 40 * 2 / 8 + 20 < done.file == len(out.getvalue())
