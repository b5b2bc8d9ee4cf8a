"""What is known of each data set: where its files are, how they are laid out, where they come from, their licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probgen.data import formats
from probgen.data.files import Array, File, Npz, Originals

_UCI = "the UCI Machine Learning Repository, https://archive.ics.uci.edu"


@dataclass(frozen=True)
class Entry:
    """A data set's origin and licence in words, the places to look for it in turn, and what its values mean."""

    origin: str
    licence: str
    places: tuple[Npz | Originals, ...]
    levels: int | None = None
    columns: tuple[str, ...] = ()
    alphabet: str = ""


def _images(shape: tuple[int, int], levels: int) -> dict[str, Array]:
    image, label = Array(shape, levels), Array((), 10)
    return {"x_train": image, "y_train": label, "x_test": image, "y_test": label}


def _mnist_like(name: str, folder_url: str, sha256: Mapping[str, str]) -> tuple[Npz, Originals]:
    """Return the places of MNIST or of what replaces it: the .npz, or the four gzipped IDX files."""
    stems = {
        "x_train": "train-images-idx3",
        "y_train": "train-labels-idx1",
        "x_test": "t10k-images-idx3",
        "y_test": "t10k-labels-idx1",
    }
    files = {
        array: File(f"{name}/{stem}-ubyte.gz", f"{folder_url}/{stem}-ubyte.gz", sha256[array])
        for array, stem in stems.items()
    }
    layout = _images((28, 28), 256)
    return Npz(f"{name}.npz", layout, formats.images), Originals(files, formats.idx, layout, formats.images)


def _binarized_mnist() -> tuple[Npz, Originals]:
    folder = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
    sha256 = {
        "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    }
    names = {split: f"binarized_mnist_{split}.amat" for split in sha256}
    files = {
        f"{split}_packed": File(f"binarized_mnist/{name}", f"{folder}/{name}", sha256[split])
        for split, name in names.items()
    }
    layout = {array: Array((98,), 256) for array in files}
    return (
        Npz("binarized_mnist_static.npz", layout, formats.binary_images),
        Originals(files, formats.amat, layout, formats.binary_images),
    )


def _power() -> tuple[Npz, Originals]:
    archive = Npz("uci_power.npz", {name: Array() for name in formats.POWER_COLUMNS}, formats.power_columns)
    # The file of the paper's authors, out of their archive of 800 MB: its checksum is not published.
    rows = {"rows": File("power/data.npy")}
    return archive, Originals(rows, formats.npy, {"rows": Array((8,))}, lambda arrays: formats.power(arrays["rows"]))


def _text(file: File, read: formats.Read) -> tuple[Originals]:
    return (Originals({"text": file}, formats.characters, {"text": Array((), 128)}, read),)


def _table(name: str, dim: int, origin: str = _UCI, licence: str = "CC BY 4.0") -> Entry:
    place = Npz("uci_density_small.npz", {name: Array((dim,))}, formats.reals(train=name))
    return Entry(origin, licence, (place,))


def _classes(name: str, dim: int, classes: int = 2) -> Entry:
    layout = {f"{name}_x": Array((dim,)), f"{name}_y": Array((), classes)}
    read = formats.reals(train=f"{name}_x", train_labels=f"{name}_y")
    place = Npz("uci_classification_small.npz", layout, read)
    return Entry(_UCI, "CC BY 4.0", (place,))


_SACHS = {"train": Array((11,)), "valid": Array((11,))}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

DATASETS: dict[str, Entry] = {
    "optdigits": Entry(
        "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository 80, https://doi.org/10.24432/C50P49",
        "CC BY 4.0",
        (Npz("optdigits.npz", _images((8, 8), 17), formats.images, folder=Path(__file__).parent),),
        levels=17,
    ),
    "mnist": Entry(
        "Y. LeCun, C. Cortes and C. Burges, http://yann.lecun.com/exdb/mnist",
        "CC BY-SA 3.0, as usually stated",
        _mnist_like(
            "mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            {
                "x_train": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "y_train": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "x_test": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "y_test": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
        ),
        levels=256,
    ),
    "binarized_mnist": Entry(
        "H. Larochelle, http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist",
        "that of MNIST",
        _binarized_mnist(),
        levels=2,
    ),
    "fashion_mnist": Entry(
        "H. Xiao, K. Rasul and R. Vollgraf, https://github.com/zalandoresearch/fashion-mnist",
        "MIT",
        _mnist_like(
            "fashion_mnist",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            {
                "x_train": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "y_train": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "x_test": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "y_test": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            },
        ),
        levels=256,
    ),
    "power": Entry(
        "G. Hebrail and A. Berard, UCI Machine Learning Repository 235, https://doi.org/10.24432/C58K54, as the file "
        "power/data.npy in the archive of G. Papamakarios, https://zenodo.org/records/1161203",
        "CC BY 4.0",
        _power(),
        columns=tuple(formats.POWER_COLUMNS[i] for i in formats.POWER_KEPT),
    ),
    "tinyshakespeare": Entry(
        "A. Karpathy, https://github.com/karpathy/char-rnn",
        "a text in the public domain",
        _text(
            File(
                "tinyshakespeare.txt",
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
            formats.text,
        ),
        levels=65,
        alphabet="\n !$&',-.3:;?" + _LETTERS.upper() + _LETTERS,
    ),
    "names": Entry(
        "A. Karpathy, https://github.com/karpathy/makemore",
        "MIT",
        _text(
            File(
                "names.txt",
                "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
                "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
            ),
            formats.words,
        ),
        levels=27,
        alphabet="." + _LETTERS,
    ),
    "sachs": Entry(
        "K. Sachs et al., Science 308 (2005); this split: https://github.com/AWehenkel/Graphical-Normalizing-Flows",
        "CC BY 4.0",
        (Npz("sachs_proteins.npz", _SACHS, formats.reals(train="train", validation="valid")),),
        columns=("Raf", "Mek", "Plcg", "PIP2", "PIP3", "Erk", "Akt", "PKA", "PKC", "P38", "Jnk"),
    ),
    "wine_red": _table("wine_red", 12),
    "wine_white": _table("wine_white", 12),
    "boston": _table(
        "boston",
        14,
        origin="D. Harrison and D. Rubinfeld (1978), StatLib, https://lib.stat.cmu.edu/datasets/boston",
        licence="none stated",
    ),
    "parkinsons": _table("parkinsons", 21),
    "german_numeric": _classes("german_numeric", 24),
    "australian": _classes("australian", 14),
    "heart": _classes("heart", 13),
    "pima": _classes("pima", 8),
    "breast_cancer": _classes("breast_cancer", 30),
    "wine": _classes("wine", 13, classes=3),
    "iris": _classes("iris", 4, classes=3),
    "ionosphere": _classes("ionosphere", 34),
    "sonar": _classes("sonar", 60),
}
"""The data sets that `load` knows, by name: for each its origin, its licence, and where its files may be."""
