"""Data sets: found, checked, or refused with a sentence. No test needs a network or a data folder."""

import dataclasses
import gzip
import hashlib
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pooch
import pytest
from PIL import Image
from scipy import stats

import probgen
from probgen.data import DATASETS, ImageFolder, holdout, load, toys
from probgen.data.files import File, Npz, Originals
from probgen.data.formats import POWER_COLUMNS, power

RANDOM = np.random.RandomState(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, and nothing to be downloaded or found in a cache."""
    monkeypatch.setenv("PROBGEN_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", _no_network)
    return tmp_path


def _no_network(*args, **kwargs):
    raise OSError("no network")


def _digits(num, shape=(28, 28), levels=256):
    return RANDOM.randint(0, levels, (num, *shape), np.uint8), np.arange(num, dtype=np.uint8) % 10


def _save_mnist(path, num=6):
    (x, y), (x_test, y_test) = _digits(num), _digits(3)
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return x


def _published(name, contents, monkeypatch):
    """Make the published files of a data set be `contents` by array: their checksums, not what happens with them."""
    entry = DATASETS[name]
    originals = next(place for place in entry.places if isinstance(place, Originals))
    files = {
        array: dataclasses.replace(file, sha256=hashlib.sha256(contents[array]).hexdigest())
        for array, file in originals.files.items()
    }
    changed = dataclasses.replace(originals, files=files)
    places = tuple(changed if place is originals else place for place in entry.places)
    monkeypatch.setitem(DATASETS, name, dataclasses.replace(entry, places=places))
    return files


def _idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


# optdigits ------------------------------------------------------------------------------------------------------------


def test_optdigits_is_the_published_data():
    digits = load("optdigits")
    assert digits.train.shape == (3823, 8, 8) and digits.test.shape == (1797, 8, 8)
    assert digits.train_labels.shape == (3823,) and digits.test_labels.shape == (1797,)
    assert {array.dtype for array in digits.parts.values()} == {np.dtype("int32")}
    assert digits.levels == 17 and digits.train.min() == 0 and digits.train.max() == 16
    # The counts of the digits in the repository's own description, optdigits.names.
    assert np.bincount(digits.train_labels).tolist() == [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]
    assert np.bincount(digits.test_labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_optdigits_ships_unchanged_with_its_attribution():
    data = resources.files("probgen.data")
    content = data.joinpath("optdigits.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "2a2e085d14f7b83561eadcdc0b45a7fd0a3d07c0ff0023ee56df4258db9ab39f"
    notice = data.joinpath("optdigits.txt").read_text()
    assert all(fact in notice for fact in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"))


def test_optdigits_needs_no_folder(monkeypatch):
    monkeypatch.delenv("PROBGEN_DATA", raising=False)
    assert "test [1797, 8, 8] int32" in repr(load("optdigits"))


def test_unknown_part_is_refused():
    with pytest.raises(KeyError, match=r"optdigits has no part 'validation', only train, .*holdout"):
        _ = load("optdigits").validation


# files in the folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_images_from_an_archive(folder, name):
    x = _save_mnist(folder / f"{name}.npz")
    data = load(name)
    assert data.train.dtype == np.int32 and data.levels == 256
    np.testing.assert_array_equal(data.train, x)
    assert data.test.shape == (3, 28, 28) and data.test_labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_images_from_the_published_files(folder, name, monkeypatch):
    (x, y), (x_test, y_test) = _digits(5), _digits(2)
    contents = {"x_train": _idx(x), "y_train": _idx(y), "x_test": _idx(x_test), "y_test": _idx(y_test)}
    (folder / name).mkdir()
    for array, file in _published(name, contents, monkeypatch).items():
        (folder / file.name).write_bytes(contents[array])
    data = load(name)
    np.testing.assert_array_equal(data.train, x)
    np.testing.assert_array_equal(data.test_labels, y_test)


def test_binarized_mnist_from_either_format(folder, monkeypatch):
    bits = {
        split: RANDOM.randint(0, 2, (num, 784), np.uint8) for split, num in [("train", 4), ("valid", 2), ("test", 3)]
    }
    np.savez(folder / "binarized_mnist_static.npz", **{f"{k}_packed": np.packbits(v, -1) for k, v in bits.items()})
    packed = load("binarized_mnist")
    (folder / "binarized_mnist_static.npz").unlink()

    texts = {f"{k}_packed": "".join(" ".join(map(str, row)) + "\n" for row in v).encode() for k, v in bits.items()}
    (folder / "binarized_mnist").mkdir()
    for array, file in _published("binarized_mnist", texts, monkeypatch).items():
        (folder / file.name).write_bytes(texts[array])
    published = load("binarized_mnist")

    for part, split in [("train", "train"), ("validation", "valid"), ("test", "test")]:
        np.testing.assert_array_equal(packed[part], bits[split].reshape(-1, 28, 28))
        np.testing.assert_array_equal(published[part], packed[part])


def _power_rows(num=1000):
    ranges = [(76, 11123), (0, 1391), (22320, 25416), (2, 485), (0, 89), (0, 81), (0, 32), (0, 1440)]
    counts = np.stack([RANDOM.randint(low, high, num) for low, high in ranges], axis=1)
    return counts.astype(np.uint16), counts / np.array([1000, 1000, 100, 10, 1, 1, 1, 1])


def test_power_is_split_and_standardized_as_published(folder):
    counts, rows = _power_rows()
    np.savez(folder / "uci_power.npz", **dict(zip(POWER_COLUMNS, counts.T, strict=True)))
    data = load("power")
    assert [len(data[part]) for part in ("train", "validation", "test")] == [810, 90, 100]
    assert data.train.shape[1] == len(data.columns) == 6 and data.train.dtype == np.float32
    both = np.concatenate([data.train, data.validation]).astype(float)
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(both.std(0), 1, atol=1e-5)
    # The authors shuffle the rows in place; the time has no noise, so that it shows the order.
    random = np.random.RandomState(42)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    time = shuffled[:, 7]
    expected = (time - time[:900].mean()) / time[:900].std()
    np.testing.assert_allclose(np.concatenate([data.train, data.validation, data.test])[:, 5], expected, atol=1e-5)


def test_power_from_the_file_of_the_authors(folder):
    _, rows = _power_rows()
    (folder / "power").mkdir()
    np.save(folder / "power" / "data.npy", rows)
    np.testing.assert_array_equal(load("power").test, power(rows)["test"].astype(np.float32))
    (folder / "power" / "data.npy").write_bytes((folder / "power" / "data.npy").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"data\.npy is truncated, corrupted or another file"):
        load("power")


def test_tinyshakespeare_is_split_in_order(folder, monkeypatch):
    text = DATASETS["tinyshakespeare"].alphabet * 10
    (folder / "tinyshakespeare.txt").write_bytes(text.encode())
    _published("tinyshakespeare", {"text": text.encode()}, monkeypatch)
    data = load("tinyshakespeare")
    assert data.train.shape == (585,) and data.test.shape == (65,) and data.levels == 65
    assert "".join(data.alphabet[code] for code in np.concatenate([data.train, data.test])) == text


def test_names_are_ended_by_zeros(folder, monkeypatch):
    (folder / "names.txt").write_bytes(b"emma\nava\nzoe")
    _published("names", {"text": b"emma\nava\nzoe"}, monkeypatch)
    data = load("names")
    assert data.train.tolist() == [[5, 13, 13, 1, 0], [1, 22, 1, 0, 0], [26, 15, 5, 0, 0]]
    assert [data.alphabet[code] for code in data.train[1]] == ["a", "v", "a", ".", "."]
    assert data["train_lengths"].tolist() == [5, 4, 4]


def test_tables_are_reals_and_labels_integers(folder):
    np.savez(folder / "sachs_proteins.npz", train=np.ones((4, 11), np.float32), valid=np.ones((2, 11), np.float32))
    np.savez(folder / "uci_density_small.npz", wine_red=np.ones((5, 12)))
    np.savez(folder / "uci_classification_small.npz", wine_x=np.ones((3, 13), np.int16), wine_y=np.array([0, 1, 2]))
    assert load("sachs").validation.shape == (2, 11) and len(load("sachs").columns) == 11
    assert load("wine_red").train.dtype == np.float32
    assert load("wine").train.dtype == np.float32 and load("wine").train_labels.tolist() == [0, 1, 2]


# what is refused ------------------------------------------------------------------------------------------------------


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"name must be one of optdigits, mnist, .* it is 'mnits'"):
        load("mnits")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "optdigits"])
def test_missing_file_says_where_to_get_it(folder, name):
    entry = DATASETS[name]
    with pytest.raises(FileNotFoundError) as caught:
        load(name)
    sentence = str(caught.value)
    assert all(fact in sentence for fact in (name, "PROBGEN_DATA", entry.origin, entry.licence))
    for place in entry.places:
        assert all(file in sentence for file in _file_names(place))


def _file_names(place):
    return [place.name] if isinstance(place, Npz) else [file.name for file in place.files.values()]


def test_a_folder_that_is_none_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PROBGEN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"PROBGEN_DATA must name a folder, and '.*nowhere' is none"):
        load("mnist")


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 0xFF
    path.write_bytes(content)


def _foreign(path):
    path.write_text("<!DOCTYPE html>")


def _bare_array(path):
    with open(path, "wb") as stream:
        np.save(stream, np.zeros(3))


def _other_arrays(path):
    np.savez(path, images=np.zeros((2, 28, 28), np.uint8))


def _changed(**arrays):
    def change(path):
        with np.load(path) as archive:
            np.savez(path, **{**dict(archive), **arrays})

    return change


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (_truncated, "is truncated, corrupted or another file"),
        (_flipped, "is truncated, corrupted or another file"),
        (_foreign, "is truncated, corrupted or another file"),
        (_bare_array, "has no array"),
        (_other_arrays, "has no array 'x_test'"),
        (_changed(x_test=np.zeros((2, 32, 32), np.uint8)), r"x_test has shape \[2, 32, 32\], not \[N, 28, 28\]"),
        (_changed(x_test=np.zeros((0, 28, 28), np.uint8)), r"x_test has shape \[0, 28, 28\]"),
        (_changed(x_test=np.zeros((2, 28, 28))), "x_test has dtype float64"),
        (_changed(y_test=np.array([0, 1, 10])), r"y_test has values outside 0\.\.9"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_spoiled_archive_is_refused_by_name(folder, spoil, reason):
    _save_mnist(folder / "mnist.npz", num=50)
    spoil(folder / "mnist.npz")
    with pytest.raises(ValueError, match=f"mnist.npz .*{reason}"):
        load("mnist")


def test_reals_that_are_not_finite_are_refused(folder):
    np.savez(folder / "uci_density_small.npz", wine_red=np.full((5, 12), np.nan))
    with pytest.raises(ValueError, match="wine_red has values that are not finite"):
        load("wine_red")


def test_another_text_under_the_name_is_refused(folder):
    (folder / "tinyshakespeare.txt").write_text("First Citizen:\nBefore we proceed")
    with pytest.raises(
        ValueError, match=r"tinyshakespeare\.txt is truncated, corrupted or another file: its SHA-256 is"
    ):
        load("tinyshakespeare")


# downloads ------------------------------------------------------------------------------------------------------------


def test_download_asks_for_the_published_checksum(tmp_path, monkeypatch):
    (tmp_path / "names.txt").write_bytes(b"emma")
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash, fname))
        return str(tmp_path / "names.txt")

    monkeypatch.delenv("PROBGEN_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert load("names").train.tolist() == [[5, 13, 13, 1, 0]]
    file = DATASETS["names"].places[0].files["text"]
    assert asked == [(file.url, file.sha256, "names.txt")]


def test_download_of_other_bytes_is_refused(monkeypatch):
    def retrieve(*args, **kwargs):
        raise ValueError("SHA256 hash of downloaded file does not match the known hash")

    monkeypatch.delenv("PROBGEN_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match=r"https://.*names\.txt does not give the file that was published"):
        load("names")


def test_every_address_has_a_checksum():
    originals = [place for entry in DATASETS.values() for place in entry.places if isinstance(place, Originals)]
    files: list[File] = [file for place in originals for file in place.files.values()]
    assert all((file.url is None) == (file.sha256 is None) for file in files)
    assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in files if file.sha256)


# holdout --------------------------------------------------------------------------------------------------------------


def test_holdout_is_a_partition_that_never_changes():
    rest, held = holdout(np.arange(3823))
    assert len(held) == 500 and sorted(np.concatenate([rest, held])) == list(range(3823))
    assert held[:5].tolist() == [598, 3441, 88, 638, 3074]
    assert set(holdout(np.arange(3823), seed=1)[1]) != set(held)


def test_holdout_splits_images_and_labels_alike():
    digits = load("optdigits")
    rows = holdout(np.arange(len(digits.train)), 100, seed=3)
    for x, y, which in zip(
        holdout(digits.train, 100, seed=3), holdout(digits.train_labels, 100, seed=3), rows, strict=True
    ):
        np.testing.assert_array_equal(x, digits.train[which])
        np.testing.assert_array_equal(y, digits.train_labels[which])


@pytest.mark.parametrize("size", [0, -1, 10, 11])
def test_holdout_refuses_an_empty_part(size):
    with pytest.raises(ValueError, match=f"size must be between 1 and 9 for 10 rows; it is {size}"):
        holdout(np.arange(10), size)


# toys -----------------------------------------------------------------------------------------------------------------

TOYS = [toys.two_moons, toys.rings, toys.pinwheel, toys.checkerboard, toys.eight_gaussians, toys.spirals]
KEY = jax.random.key(7)


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.__name__)
def test_toy_is_finite_deterministic_and_jits(toy):
    x = toy(KEY, 1000)
    assert x.shape == (1000, 2) and x.dtype == jnp.float32
    assert jnp.isfinite(x).all() and jnp.abs(x).max() < 10
    np.testing.assert_array_equal(x, toy(KEY, 1000))
    compiled = jax.jit(toy, static_argnums=1)
    np.testing.assert_allclose(x, compiled(KEY, 1000), atol=1e-5)
    assert not np.array_equal(x, compiled(jax.random.key(8), 1000))
    assert compiled(KEY, 0).shape == (0, 2)


def test_two_moons_are_two_half_circles():
    x = np.asarray(toys.two_moons(KEY, 2000, noise=0.0))
    upper = (np.abs(np.hypot(*x.T) - 1) < 1e-5) & (x[:, 1] >= -1e-5)
    lower = (np.abs(np.hypot(x[:, 0] - 1, x[:, 1] - 0.5) - 1) < 1e-5) & (x[:, 1] <= 0.5 + 1e-5)
    assert (upper ^ lower).all()
    assert abs(upper.mean() - 0.5) < 0.06  # 5 standard errors


def test_rings_have_their_radii():
    x = np.asarray(toys.rings(KEY, 4000, count=3))
    radii = np.hypot(*x.T)
    assert np.abs(radii - np.clip(np.round(radii), 1, 3)).max() < 6 * 0.08
    assert (np.abs(np.bincount(np.round(radii).astype(int))[1:] / 4000 - 1 / 3) < 0.04).all()
    assert (np.abs(x.mean(0)) < 0.15).all()


def test_pinwheel_untwists_to_one_gaussian_per_arm():
    x = np.asarray(toys.pinwheel(KEY, 4000, arms=5, tangential=0.0)) / 2
    u = np.hypot(*x.T)  # without the rows where u would be negative: 3 standard deviations and more
    arm = (np.arctan2(x[:, 1], x[:, 0]) - 0.25 * np.exp(u)) * 5 / (2 * np.pi)
    assert np.mean(np.abs(arm - np.round(arm)) < 1e-3) > 0.99
    assert abs(u.mean() - 1) < 0.03 and abs(u.std() - 0.3) < 0.03
    assert (np.abs(np.bincount(np.round(arm).astype(int) % 5) / 4000 - 0.2) < 0.04).all()


def test_checkerboard_is_uniform_on_the_dark_squares():
    x = np.asarray(toys.checkerboard(KEY, 8000))
    squares = np.floor(x / 2).astype(int)
    assert (squares.sum(-1) % 2 == 0).all() and squares.min() == -2 and squares.max() == 1
    counts = np.unique(squares, axis=0, return_counts=True)[1]
    assert len(counts) == 8 and (np.abs(counts / 8000 - 1 / 8) < 0.02).all()
    within = x / 2 - squares
    np.testing.assert_allclose(within.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(within.var(0), 1 / 12, atol=0.005)


def test_eight_gaussians_sit_on_the_circle():
    x = np.asarray(toys.eight_gaussians(KEY, 8000))
    t = 2 * np.pi * np.arange(8) / 8
    centres = 4 * np.stack([np.cos(t), np.sin(t)], axis=-1)
    nearest = np.argmin(np.linalg.norm(x[:, None] - centres, axis=-1), axis=-1)
    assert (np.abs(np.bincount(nearest) / 8000 - 1 / 8) < 0.02).all()
    np.testing.assert_allclose((x - centres[nearest]).std(0), 0.5, atol=0.02)


def test_spirals_are_two_and_opposite():
    x = np.asarray(toys.spirals(KEY, 2000, noise=0.0))
    t = 3 * np.hypot(*x.T)
    turned = np.stack([x[:, 0] * np.cos(t) + x[:, 1] * np.sin(t), x[:, 1] * np.cos(t) - x[:, 0] * np.sin(t)], axis=-1)
    np.testing.assert_allclose(turned[:, 1], 0, atol=1e-4)
    assert abs(np.mean(turned[:, 0] > 0) - 0.5) < 0.06
    assert t.max() <= 3 * np.pi + 1e-4 and abs(np.mean((t / (3 * np.pi)) ** 2) - 0.5) < 0.04


# sprites --------------------------------------------------------------------------------------------------------------

EVERY = np.stack(np.meshgrid(*map(range, toys.SPRITE_FACTORS.values()), indexing="ij"), -1).reshape(-1, 5)


def test_each_sprite_tells_its_factors():
    images = np.asarray(toys.sprite_images(EVERY))
    assert images.shape == (1536, 16, 16) and images.min() == 0 and images.max() == 16
    assert len(np.unique(images.reshape(1536, -1), axis=0)) == 1536
    assert images[:, [0, -1]].max() < 16 and images[:, :, [0, -1]].max() < 16  # not cut off


def test_sprites_have_the_area_the_place_and_the_direction_of_their_factors():
    """Against closed forms, from the moments of the pixels."""
    images, (shape, size, orientation, column, row) = np.asarray(toys.sprite_images(EVERY)), EVERY.T
    mass = images.sum((1, 2))
    half = np.array([2.0, 2.75, 3.5])[size]
    np.testing.assert_allclose(mass / 16, np.where(shape == 0, np.pi / 2, 2.0) * half**2, rtol=0.1)
    middle = np.arange(16) + 0.5
    x, y = ((images.sum(axis) * middle).sum(1) / mass for axis in (1, 2))
    np.testing.assert_allclose([x, y], [4 + 8 / 7 * column, 4 + 8 / 7 * row], atol=0.15)
    dx, dy = (middle - place[:, None] for place in (x, y))
    moment = lambda a, b: np.einsum("nij,ni,nj->n", images, a, b) / mass
    ones = np.ones_like(dx)
    turn = np.arctan2(2 * moment(dy, dx), moment(ones, dx**2) - moment(dy**2, ones))  # twice the angle
    off = np.angle(np.exp(1j * (turn - np.pi * orientation / 2)))
    assert np.abs(off).max() < 0.2
    assert (images[(shape == 1) & (orientation == 0)].max((1, 2)) == 16).all()


def test_factors_of_sprites_are_uniform_and_independent():
    images, factors = toys.sprites(KEY, 20_000)
    np.testing.assert_array_equal(images[:50], toys.sprite_images(factors[:50]))
    np.testing.assert_array_equal(factors, toys.sprites(KEY, 20_000)[1])
    assert (factors != toys.sprites(jax.random.key(8), 20_000)[1]).any()
    counts = np.zeros(tuple(toys.SPRITE_FACTORS.values()))
    np.add.at(counts, tuple(np.asarray(factors).T), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3
    compiled = jax.jit(toys.sprites, static_argnums=1)
    np.testing.assert_array_equal(compiled(KEY, 100)[0], toys.sprites(KEY, 100)[0])
    assert compiled(KEY, 0)[0].shape == (0, 16, 16)


def test_a_factor_beyond_its_values_is_the_nearest():
    ends = np.array([[9, 9, 9, 9, 9], [-1, -1, -1, -1, -1]])
    np.testing.assert_array_equal(toys.sprite_images(ends), toys.sprite_images([[1, 2, 3, 7, 7], [0, 0, 0, 0, 0]]))


# -- images of the user's


def images_of(folder, count=5, shape=(6, 4, 3)):
    pixels = RANDOM.randint(0, 256, (count, *shape)).astype(np.uint8)
    (folder / "more").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / ("more" if i > 2 else ".") / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    return pixels


def test_images_of_a_folder(tmp_path):
    pixels = images_of(tmp_path)
    images = ImageFolder(tmp_path, (6, 4, 3))
    assert [path.name for path in images.paths] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    np.testing.assert_array_equal([images[i] for i in range(len(images))], pixels)
    grey = ImageFolder(tmp_path, (6, 4))[1]
    np.testing.assert_allclose(grey, pixels[1] @ [0.299, 0.587, 0.114], atol=1)
    np.testing.assert_array_equal(ImageFolder(tmp_path, (6, 4, 1))[1][..., 0], grey)


def test_images_are_read_while_fit_trains(tmp_path):
    images_of(tmp_path, 6, (2, 2))
    model = probgen.mixtures.histogram((2, 2), 256)
    result = probgen.fit(
        model, ImageFolder(tmp_path, (2, 2)), epochs=2, batch_size=2, key=jax.random.key(0), progress=False
    )
    assert result.losses.shape == (6,) and np.isfinite(result.losses).all()


def test_what_is_no_folder_of_images(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"^folder: expected one with images"):
            ImageFolder(folder, (6, 4))
    images_of(tmp_path)
    with pytest.raises(ValueError, match=r"^event_shape: expected \(height, width\), .* got \(6, 4, 2\)"):
        ImageFolder(tmp_path, (6, 4, 2))
    with pytest.raises(ValueError, match=r"^folder: expected images of 4×6, got one of 6×4, .*2.png"):
        ImageFolder(tmp_path, (4, 6))[2]
    (tmp_path / "5.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"^folder: expected images, got .*5.png, which cannot be read"):
        ImageFolder(tmp_path, (6, 4))[3]
