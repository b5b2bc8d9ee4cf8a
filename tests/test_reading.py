"""Files of one's own: every format read, and what each refuses."""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probgen.data import Data, Table, read

RNG = np.random.default_rng(0)


def table(text, name="t.csv", **options):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(name, **options)


PEOPLE = "name,age,town\nA,31,Bonn\nB,47,Köln\nA,22,Bonn\n"
CELLS = {"name": ["A", "B", "A"], "age": [31, 47, 22], "town": ["Bonn", "Köln", "Bonn"]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_ends_of_lines_are_seen(delimiter, end):
    text = PEOPLE.replace(",", delimiter).replace("\n", end)
    assert table(text).cells() == CELLS
    assert table(text.rstrip(end)).cells() == CELLS
    assert table(text, "t.dat", delimiter=delimiter).cells() == CELLS


def test_quotes_and_spaces():
    found = table('a, b ,c\n"x, y", 1 ,"say ""hi"""\n"two\nlines",2,z\n')
    assert found.cells() == {"a": ["x, y", "two\nlines"], "b": [1, 2], "c": ['say "hi"', "z"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings(encoding):
    data = PEOPLE.encode(encoding)
    options = {} if encoding.startswith("utf-8") else {"encoding": encoding}
    assert table(data, **options).cells() == CELLS
    if options:
        with pytest.raises(ValueError, match=r"t.csv: .*encoding="):
            table(data)
    assert table(gzip.compress(data), "t.csv.gz", **options).cells() == CELLS


@pytest.mark.parametrize("missing", ["", "?", "NA", "na", "n/a", "N/A", "NaN", "nan", "NULL", "null", "None", " "])
def test_markers_of_missing_values(missing):
    found = table(f"x,s\n1.5,a\n{missing},b\n2.5,{missing}\n")
    assert found.cells() == {"x": [1.5, None, 2.5], "s": ["a", "b", None]}


def test_markers_of_one_s_own_take_the_place_of_the_usual_ones():
    assert table("x,s\n1,NA\n-999,b\n,b\n", missing=["-999"]).cells() == {"x": [1, None, None], "s": ["NA", "b", "b"]}
    with pytest.raises(ValueError, match="missing must be a list of strings; it is '-999'"):
        table("x\n1\n", missing="-999")


@pytest.mark.parametrize(
    "text, names, rows",
    [
        ("a,b\n1,x\n2,y\n", ("a", "b"), 2),
        ("1,x\n2,y\n", ("x0", "x1"), 2),
        ("red,x\nblue,y\nred,x\n", ("x0", "x1"), 3),
        ("colour,b\nblue,y\nred,x\n", ("colour", "b"), 2),
        (",b\n0,y\n1,x\n", ("x0", "b"), 2),
        ("?,x\n1,y\n2,z\n", ("x0", "x1"), 3),
        ("id,2000,2001\n7,1,2\n8,3,4\n", ("id", "2000", "2001"), 2),
        (",a,b\n0,1.5,2.5\n1,2.5,3.5\n", ("x0", "a", "b"), 2),
        ("a\n1\n2\n", ("a",), 2),
        ("a,b\nNA,1\n,2\n", ("a", "b"), 2),
    ],
)
def test_a_header_is_seen(text, names, rows):
    found = table(text)
    assert found.names == names and len(found) == rows


def test_a_header_is_said():
    assert table("red,x\nblue,y\n", header=True).names == ("red", "x")
    assert table("a,b\nc,d\n", header=False).cells() == {"x0": ["a", "c"], "x1": ["b", "d"]}
    known = table("colour,b\nred,x\nblue,y\n").columns
    assert table("b,colour\nx,red\n", columns=known).cells() == {"colour": ["red"], "b": ["x"]}  # by its names


@pytest.mark.parametrize(
    "text, dtype, values",
    [
        ("1 2 3", "int", [1, 2, 3]),
        ("+1 -2 3", "int", [1, -2, 3]),
        ("1 2.0 3", "float", [1.0, 2.0, 3.0]),
        (".5 5. 1e-3", "float", [0.5, 5.0, 0.001]),
        ("007 012 1", "str", ["007", "012", "1"]),
        ("true False TRUE", "bool", [True, False, True]),
        ("true 1 0", "str", ["true", "1", "0"]),
        ("1_000 2 x", "str", ["1_000", "2", "x"]),
        ("0x10 2 x", "str", ["0x10", "2", "x"]),
        ("٣ ٤ ٥", "str", ["٣", "٤", "٥"]),
    ],
)
def test_what_texts_are(text, dtype, values):
    found = table("h,i\n" + "".join(f"{word},1\n" for word in text.split()))
    assert found.column("h").dtype == dtype and found.cells()["h"] == values


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("a,b\n", "it has names of columns and no rows"),
        ("a,b\n1,2\n3\n", "line 3 has 1 fields, and the first row has 2"),
        ("a,b\n1,2\n\n3,4,5\n", "line 4 has 3 fields"),
        ("a,a\n1,2\n", "names that repeat: 'a'"),
        ("x1,\n1,2\n", "names that repeat: 'x1'"),
        ("a,b\n1,x\0y\n", "NUL bytes"),
        ('a,b\n1,"x\n', "line 2: unexpected end of data"),
        ("a,b\n1,inf\n2,x\n", None),
        ("a\n1\n1e999\n", "column 'a', line 3: expected a number up to 3e38, got inf"),
        ("a\n1\n123456789012345678901\n", "column 'a', line 3: expected integers up to 2**53"),
        ("a\n" + "1" * 500 + "\n2\n", "column 'a', line 2: expected "),
        (
            "a;b\n1,5;x\n2,5;y\n",
            "column 'a', line 2: expected a number, as others are, got '1,5': thousands separators and",
        ),
        (
            'a,b\n"1,234",x\n5,y\n',
            "column 'a', line 2: .*'1,234': thousands separators and decimal commas are not read",
        ),
        (
            "a\n" + "".join(f"{i}.5\n" for i in range(40)) + "12x\n",
            "column 'a', line 42: expected a number, as nearly all",
        ),
        ("n,x\n" + "".join(f"name{i},1\n" for i in range(40)), r"names or texts.*drop=\['n'\]"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(text, message):
    if message is None:
        assert table(text).column("b").dtype == "str"
        return
    with pytest.raises(ValueError, match=f"^t.csv: .*{message.replace('**', r'..')}") as error:
        table(text)
    assert "\n" not in str(error.value)


def test_further_rows_are_read_under_known_columns():
    train = table("x,k,s\n1.5,3,a\n2.5,400,b\n")
    assert table("s,x,k\nb,,7\n", columns=train.columns).cells() == {"x": [None], "k": [7], "s": ["b"]}
    for text, message in [
        ("x,k,s\n1.5,3,a\n\n1.5,3,c\n", "column 's', line 4: expected one of 'a', 'b', got 'c', which is unknown"),
        ("x,k,s\n1.5,3,a\ntall,3,a\n", "column 'x', line 3: expected a number, got 'tall'"),
        ('x,k,s\n"1,5",3,a\n', "column 'x', line 2: expected a number, got '1,5': thousands"),
        ("x,k,s\n1.5,3.5,a\n", "column 'k', line 2: expected an integer, got '3.5'"),
        ("x,k,z\n1.5,3,a\n", "expected columns 'x', 'k', 's'; there is no 's'"),
        ("x,k,s,more\n1.5,3,a,9\n", "'more' is none of them"),
    ]:
        with pytest.raises(ValueError, match=f"^t.csv: .*({message})"):
            table(text, columns=train.columns)
    assert table("x,k,s,more\n1.5,3,a,9\n", columns=train.columns, drop=["more"]).names == train.names


def test_columns_are_dropped_by_name():
    assert table(PEOPLE, drop=["name", "town"]).names == ("age",)
    for drop, message in [
        (["nam"], "there is no column 'nam', only 'name', 'age', 'town'"),
        ("age", "drop must be a list"),
    ]:
        with pytest.raises(ValueError, match=message):
            table(PEOPLE, drop=drop)
    with pytest.raises(ValueError, match="drop leaves no column"):
        table(PEOPLE, drop=["name", "age", "town"])


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("t.csv", {"memmap": True}, "memmap does not apply to delimited text, as which t.csv would be read"),
        ("t.csv", {"size": (2, 2)}, "size does not apply"),
        ("t.npy", {"drop": ["x"]}, "drop does not apply to an array"),
        ("t.txt", {"header": True}, "header does not apply to text"),
        (".", {"columns": ()}, "columns does not apply to a folder of pictures"),
        ("t.xls", {}, "path must be a folder or end in .csv, .tsv, .parquet, "),
        ("t.npy.gz", {}, "path must be"),
        ("t", {}, "path must be"),
        ("t.csv", {"delimiter": ",,"}, "delimiter must be one character; it is ',,'"),
        ("t.csv", {"delimiter": "\n"}, "delimiter must be one character"),
        ("t.csv", {"encoding": "utf-9"}, "encoding must be one that Python knows; it is 'utf-9'"),
        ("t.txt", {"text": "words"}, "text must be one of characters, bytes, lines; it is 'words'"),
        ("t.txt", {"text": "bytes", "alphabet": "ab"}, "alphabet does not apply to bytes"),
        ("t.txt", {"text": "bytes", "encoding": "ascii"}, "encoding does not apply to bytes"),
    ],
)
def test_every_option_acts_or_raises(name, options, message):
    if name != ".":
        Path(name).write_text(PEOPLE)
    with pytest.raises(ValueError, match=message):
        read(name, **options)


def test_what_is_not_there():
    for name in ("none.csv", "none"):
        with pytest.raises(FileNotFoundError, match=f"there is no file {name}"):
            read(name)


def test_any_file_is_a_table_or_a_text_if_one_says_so():
    Path("iris.data").write_text("5.1,a\n4.9,b\n5.0,a\n")
    assert read("iris.data", delimiter=",").column("x0").kind == "positive"
    assert read("iris.data", text="bytes").train.shape == (18,)


# -- texts


def test_a_text_is_its_characters():
    Path("t.txt").write_bytes("naïve\r\nnew 🙂".encode())
    found = read("t.txt")
    assert isinstance(found, Data) and found.levels == len(found.alphabet) == len(set("naïve\nnew 🙂"))
    assert "".join(found.alphabet[i] for i in found.train) == "naïve\nnew 🙂" and found.train.dtype == np.int32
    assert list(found.alphabet) == sorted(found.alphabet)
    Path("u.txt").write_text("van")
    assert "".join(found.alphabet[i] for i in read("u.txt", alphabet=found.alphabet).train) == "van"
    Path("u.txt").write_text("vaz")
    with pytest.raises(ValueError, match=r"^u.txt: expected characters of the alphabet, got 'z', which is unknown"):
        read("u.txt", alphabet=found.alphabet)


def test_a_text_is_its_bytes():
    data = bytes(range(256))
    Path("t.bin").write_bytes(data)
    found = read("t.bin", text="bytes")
    assert found.levels == 256 and found.train.tolist() == list(data)
    Path("t.txt.gz").write_bytes(gzip.compress(data))
    assert read("t.txt.gz", text="bytes").train.tolist() == list(data)
    Path("t.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="it is empty"):
        read("t.bin", text="bytes")


def test_lines_are_rows_of_several_lengths_as_our_names():
    Path("t.txt").write_text("emma\n\nbo\nava\n")
    found = read("t.txt", text="lines")
    assert found.alphabet == "\nabemov" and found.levels == 7 and found["train_lengths"].tolist() == [5, 3, 4]
    words = ["".join(found.alphabet[i] for i in row[: n - 1]) for row, n in zip(found.train, found["train_lengths"])]
    assert words == ["emma", "bo", "ava"]
    assert all((row[n - 1 :] == 0).all() for row, n in zip(found.train, found["train_lengths"]))
    Path("u.txt").write_text("abe\n")
    assert read("u.txt", text="lines", alphabet=found.alphabet).train.tolist() == [[1, 2, 3, 0]]
    with pytest.raises(ValueError, match=r"alphabet must have more than 1 characters; it is '\.'"):
        read("u.txt", text="lines", alphabet=".")
    Path("u.txt").write_text("a\n" * 1000 + "b" * 10**6)
    with pytest.raises(ValueError, match="more than max_bytes=1,073,741,824"):
        read("u.txt", text="lines")


# -- arrays


@pytest.mark.parametrize(
    "array, levels, dtype",
    [
        (RNG.normal(size=(5, 2)), None, np.float32),
        (RNG.normal(size=7).astype(np.float16), None, np.float32),
        (np.arange(12).reshape(3, 4), 12, np.int32),
        (np.array([[0, 0]]), 2, np.int32),
        (np.array([-1, 3]), None, np.int32),
        (np.array([0, 16], np.uint8), 17, np.int32),
        (np.array([0, 128], np.uint8), 256, np.int32),
        (RNG.random((4, 8, 3)) < 0.5, 2, np.int32),  # a piano roll
        (np.asfortranarray(np.arange(12).reshape(3, 4)), 12, np.int32),
        (np.arange(4, dtype=">u2"), 4, np.int32),
    ],
)
def test_an_array_is_to_train_on(array, levels, dtype):
    np.save("a.npy", array)
    found, mapped = read("a.npy"), read("a.npy", memmap=True)
    assert found.levels == mapped.levels == levels
    assert found.train.dtype == dtype and np.array_equal(found.train, array.astype(dtype))
    assert isinstance(mapped.train, np.memmap) and np.array_equal(mapped.train, array)
    assert mapped.train.dtype == array.dtype and not mapped.train.flags.writeable
    np.savez_compressed("a.npz", anything=array)
    assert np.array_equal(read("a.npz").train, array.astype(dtype))


@pytest.mark.parametrize(
    "names, parts",
    [
        ("x y", "train train_labels"),
        ("X Y", "train train_labels"),
        ("x_train y_train x_test y_test", "train train_labels test test_labels"),
        ("train test valid", "train test validation"),
        ("train_data train_labels train_lengths", "train train_labels train_lengths"),
        ("X_train X_val", "train validation"),
        ("test-images images", "test train"),
    ],
)
def test_names_of_arrays_are_parts(names, parts):
    arrays = {
        name: RNG.integers(0, 3, 4 if part.count("_") else (4, 2)) for name, part in zip(names.split(), parts.split())
    }
    np.savez("a.npz", **arrays)
    found = read("a.npz")
    assert list(found.parts) == parts.split()
    for name, part in zip(names.split(), parts.split()):
        assert np.array_equal(found[part], arrays[name])


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": np.ones(2), "b": np.ones(2)}, "expected arrays named x, .*; there are 'a', 'b'"),
        ({"x": np.ones(2), "train": np.ones(2)}, "each part once; there are 'x', 'train'"),
        ({"train_test": np.ones(2), "x": np.ones(2)}, "each part once"),
        ({"y": np.ones(2), "test": np.ones(2)}, "expected an array named train or x; there are 'y', 'test'"),
        ({"x": np.ones(2), "about": np.array(["text"])}, "there are 'x', 'about'"),
        ({"x": np.ones(2), "y": np.ones(3, int)}, "train_labels: expected integers, one for each row of train"),
        ({"x": np.ones(2), "y": np.ones(2)}, "train_labels: expected integers, one"),
        ({"x": np.ones(2), "y_test": np.ones(2, int)}, "test_labels: expected integers, one for each row of test"),
        ({"x": np.ones((2, 3)), "x_test": np.ones((2, 4))}, "test: expected rows as those of train"),
        ({"x": np.ones(2), "x_test": np.ones(2, int)}, "test: expected rows as those of train"),
        ({"x": np.array(3.0)}, r"train: expected an array with rows, got shape \[\]"),
        ({"x": np.ones((0, 3))}, "train: expected an array with rows"),
        ({"x": np.array([1.0, np.nan])}, "train: expected finite numbers from"),
        ({"x": np.array([1.0, 1e300])}, "train: expected finite numbers from"),
        ({"x": np.array([1, 2**40])}, "train: expected finite numbers from -2.14748e"),
        ({"x": np.array(["a"])}, "expected an array of integers, reals or booleans, got dtype <U1"),
        ({"x": np.array([1j])}, "got dtype complex128"),
        ({"x": np.zeros(2, [("a", int)])}, "got dtype"),
        ({"x": np.array(["2020"], "M8[D]")}, "got dtype datetime64"),
        ({"x": np.array([{}])}, "a pickle, which can run any program: it is never loaded"),
    ],
)
def test_arrays_that_are_no_data(arrays, message):
    np.savez("a.npz", **arrays)
    with pytest.raises(ValueError, match=f"^a.npz: .*{message}"):
        read("a.npz")
    if len(arrays) == 1:
        np.save("a.npy", arrays["x"])
        with pytest.raises(ValueError, match=f"^a.npy: .*{message}"):
            read("a.npy")


def test_a_header_that_promises_too_much_is_refused_before_any_memory_is_taken():
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    Path("a.npy").write_bytes(head.getvalue())
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue())
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match=f"^{name}: it is truncated or corrupted: .*too few for an array"):
            read(name)


def test_what_unpacks_to_more_than_allowed_is_refused():
    zeros = np.zeros(10**6)
    np.savez_compressed("a.npz", x=zeros)
    Path("t.csv.gz").write_bytes(gzip.compress(b"a\n" + b"1\n" * 10**5))
    Path("t.txt.gz").write_bytes(gzip.compress(b"a" * 10**5))
    Image.new("L", (100, 100)).save("p.png")
    for name in ("a.npz", "t.csv.gz", "t.txt.gz", "."):
        with pytest.raises(ValueError, match=f"^{name}: it holds .* bytes, more than max_bytes=5,000$"):
            read(name, max_bytes=5_000)
    assert read("a.npz").train.shape == (10**6,)


# -- pictures


def pictures(folder, arrays, suffix=".png", **options):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(Path(folder) / f"{i:03d}{suffix}", **options)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_a_folder_of_pictures(shape):
    images = RNG.integers(0, 256, (5, *shape)).astype(np.uint8)
    pictures("p", images)
    Path("p/readme.md").write_text("passed over")
    Path("p/.hidden.png").write_text("passed over")
    found = read("p")
    assert np.array_equal(found.train, images) and found.levels == 256 and found.train.dtype == np.int32
    small = read("p", size=(2, 3)).train
    assert small.shape == (5, 2, 3, *shape[2:])
    pictures("j", images, ".jpg", quality=95)
    assert read("j").train.shape == images.shape


def test_folders_are_classes():
    images = RNG.integers(0, 256, (5, 4, 4)).astype(np.uint8)
    pictures("p/dog", images[:2])
    pictures("p/cat", images[2:])
    found = read("p")
    assert found.classes == ("cat", "dog") and found.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(found.train, images[[2, 3, 4, 0, 1]])


def test_pictures_of_several_modes():
    bits = RNG.random((3, 4, 4)) < 0.5
    Path("p").mkdir()
    for i, image in enumerate(bits):
        Image.fromarray(image).convert("1").save(f"p/{i}.png")
    assert read("p").levels == 2 and np.array_equal(read("p").train, bits)
    Image.new("RGB", (4, 4), (255, 0, 0)).save("p/z.png")
    found = read("p")
    assert found.train.shape == (4, 4, 4, 3) and found.train[-1, 0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(found.train[:3], 255 * np.repeat(bits[..., None], 3, -1))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save("p/zz.png", transparency=b"\0\x80")
    assert read("p").train[-1, 0, 0].tolist() == [9, 8, 7]


def test_pictures_that_are_no_data():
    def refused(message, **options):
        with pytest.raises(ValueError, match=f"^p: {message}"):
            read("p", **options)

    Path("p").mkdir()
    refused("there are no pictures in it")
    Image.new("L", (4, 4)).save("p/a.png")
    Image.new("L", (4, 5)).save("p/b.png")
    refused("b.png is 5×4, and a.png 4×4: size= brings all to one size")
    assert read("p", size=(4, 4)).train.shape == (2, 4, 4)
    for size in ((4,), (0, 4), (4.0, 4)):
        refused(r"size must be \(height, width\)", size=size)
    Path("p/b.png").write_bytes(Path("p/a.png").read_bytes()[:50])
    refused("b.png: it is truncated, corrupted or another file")
    Path("p/b.png").write_text("no picture")
    refused("b.png: it is truncated, corrupted or another file")
    Image.new("I;16", (4, 4)).save("p/b.png")
    refused("b.png: expected 8 bits in each channel, got a picture of mode I;16")
    Path("p/b.png").unlink()
    Path("p/c").mkdir()
    refused("expected pictures or folders of classes, got both: a.png and c")
    Path("p/a.png").unlink()
    refused("expected pictures in c, got none")
    Path("p/c/d").mkdir()
    refused("expected pictures in c, got a folder d")


# -- columns


def test_columns_of_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    columns = {
        "x": pyarrow.array([1.5, None, float("nan")]),
        "k": pyarrow.array([3, 400, None], pyarrow.uint16()),
        "s": pyarrow.array(["1", "2", None]).dictionary_encode(),
        "b": pyarrow.array([True, False, None]),
        "d": pyarrow.array(["1.50", "2.25", None]).cast(pyarrow.decimal128(5, 2)),
        "z": pyarrow.nulls(3),
    }
    parquet.write_table(pyarrow.table(columns), "t.parquet")
    feather.write_feather(pyarrow.table(columns), "t.feather")
    for name in ("t.parquet", "t.feather"):
        found = read(name)
        assert isinstance(found, Table) and [c.dtype for c in found.columns] == [
            "float",
            "int",
            "str",
            "bool",
            "float",
            "float",
        ]
        assert found.cells() == {
            "x": [1.5, None, None],
            "k": [3, 400, None],
            "s": ["1", "2", None],
            "b": [True, False, None],
            "d": [1.5, 2.25, None],
            "z": [None] * 3,
        }
        assert read(name, drop=["z", "d"]).names == ("x", "k", "s", "b")
        with pytest.raises(ValueError, match="more than max_bytes=50"):
            read(name, max_bytes=50)
        with pytest.raises(ValueError, match=f"^{name}: drop: there is no column 'y'"):
            read(name, drop=["y"])
    parquet.write_table(
        pyarrow.table({"x": [1, 2], "when": pyarrow.array([0, 1], pyarrow.timestamp("s"))}), "t.parquet"
    )
    with pytest.raises(
        ValueError, match=r"column 'when': expected numbers, booleans or strings, got timestamp\[.*\] \(see"
    ):
        read("t.parquet")
    assert read("t.parquet", drop=["when"]).names == ("x",)


def test_without_pyarrow_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    Path("t.parquet").write_bytes(b"PAR1")
    for call in (lambda: read("t.parquet"), lambda: Table.from_cells({"x": [1, 2]}).save("u.feather")):
        with pytest.raises(
            ImportError, match=r"files need pyarrow, which is not there: pip install 'probgen\[tables\]'"
        ):
            call()
