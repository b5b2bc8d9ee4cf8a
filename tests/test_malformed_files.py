"""Whatever a file holds, `read` gives what it holds, or one sentence; never the traceback of another library."""

import gzip
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probgen.data import Data, Table, read

SEED = 20
CSV = (
    "name,age,income,smokes,born\n"
    + "".join(
        f"{'abc'[i % 3]},{20 + 7 * i % 60},{1000.5 + 3.25 * i},{'true' if i % 2 else ''},{1950 + i}\n"
        for i in range(30)
    )
).encode()
TEXT = "Ünïcode, and a line\nanother one\n🙂\n".encode() * 5


def of(save, *arguments, **options):
    """What a function writes, as bytes."""
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


def picture(form, size=(9, 7), mode="RGB"):
    return of(Image.effect_noise(size, 50).convert(mode).save, form)


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def promise(descr="<f8", shape=(10**14,), fortran=False):
    """The header of an .npy file."""
    return of(np.lib.format.write_array_header_1_0, {"descr": descr, "fortran_order": fortran, "shape": shape})


def header(text):
    text = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def good():
    """Files that are read, by their names."""
    array = np.arange(60).reshape(10, 6)
    files = {
        "t.csv": CSV,
        "t.tsv": CSV.replace(b",", b"\t"),
        "t.csv.gz": gzip.compress(CSV),
        "t.txt": TEXT,
        "t.txt.gz": gzip.compress(TEXT),
        "a.npy": of(np.save, array),
        "b.npy": of(np.save, array / 7),
        "a.npz": of(np.savez, x_train=array, y_train=np.arange(10), x_test=array[:3]),
        "b.npz": of(np.savez_compressed, x=array / 7),
        "p/a.png": picture("png"),
        "j/a.jpg": picture("jpeg"),
        "g/a.png": picture("png", mode="L"),
    }
    try:
        import pyarrow
        from pyarrow import feather, parquet
    except ImportError:
        return files
    table = pyarrow.table({"x": array[:, 0] / 7, "k": array[:, 1], "s": ["a", "b"] * 5})
    return (
        files
        | {"t.parquet": of(lambda file: parquet.write_table(table, file))}
        | {"t.feather": of(lambda file: feather.write_feather(table, file))}
    )


def by_hand():
    """Malformed files that somebody thought of: (name, content)."""
    texts = [
        b"",
        b"\n",
        b" ",
        b",",
        b",,\n,,",
        b"\0",
        b"\0" * 100,
        b"a",
        b"a\n",
        b"a,b\n",
        b'"',
        b'a,"b\n1,2\n',
        b'a,b\n1,"2"x\n',
        b"a,a\n1,2\n",
        b",\n1,2\n",
        b"a,b\n1\n",
        b"a,b\n1,2,3\n",
        b"1,2\n3\n",
        b"a\n1\nx\n2\n",
        b"a\n1e999\n2\n",
        b"a\n-inf\n2\n",
        b"a\n" + b"9" * 5000 + b"\n1\n",
        b"a\n" + b"1e" + b"9" * 5000 + b"\n",
        b"a\n" + b"x" * 200_000 + b"\n",
        b"a\n1,5\n2,5\n",
        b"a;b\n1,5;2\n2,5;3\n",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbfa\n1\n2\n",
        b"\xff\xfe",
        b"\xff\xfea",
        b"\xfe\xff\0a",
        b"\xe9,b\n1,2\n",
        b"a\r1\r2",
        b"a\r\n1\r\n2\r\n",
        b"a,b\n" * 50,
        b'"a\nb",c\n1,2\n3,4\n',
        b"a\n\n\n1\n",
        b"a\tb\n1,2\n",
        b"{}",
        b"[1, 2]",
        b"<html><body>404</body></html>",
        b"%PDF-1.4\n%\xe2\xe3",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"\x89PNG\r\n\x1a\n",
        b"PAR1",
        b"\x93NUMPY",
        "a,b\n1,2\n".encode("utf-16"),
        "a,b\n1,2\n".encode("utf-32"),
        "é,b\n1,2\n".encode("latin-1"),
        "a\n\ud7ff\n".encode(),
        CSV.replace(b",1950", b""),
        CSV.replace(b"\n", b"\0"),
        CSV + CSV,
        CSV.replace(b"age", b"name"),
        CSV[::-1],
        b"a," * 3000,
        b"x\n" + b"".join(b"id%d\n" % i for i in range(50)),
        b"x,y\n" + b"1,x\n" * 20 + b"oops,x\n",
        b"\x1a",
        b"a\x0bb\n1\x0c2\n",
        b"a\n9007199254740993\n1\n",
        b"true\nfalse\nmaybe\n",
        "a\u2028b\n1\n".encode(),
        b"?\n?\n",
        b"a\nNA\nNA\n",
        b"a,b\n1,2\n,,\n",
    ]
    for name in ("t.csv", "t.tsv", "t.txt", "a.npy", "a.npz", "t.csv.gz", "t.txt.gz", "p/a.png", "p/a.jpg"):
        yield from ((name, text) for text in texts)
    bomb = gzip.compress(b"0" * 3_000_000)
    yield from (
        ("t.csv.gz", bomb),
        ("t.txt.gz", bomb),
        ("t.csv.gz", gzip.compress(b"")),
        ("t.csv.gz", gzip.compress(CSV) * 2),
    )
    objects = of(np.save, np.array([{}, "x"], object), allow_pickle=True)
    arrays = [
        objects,
        promise(),
        promise(shape=(-3,)),
        promise(shape=(10**30,)),
        promise(shape=()),
        promise("|O"),
        promise("<U9"),
        promise(shape=(0,)),
        promise("<f8", (2,)),
        promise("<f8", (2,)) + b"\0" * 99,
        promise("<M8[s]", (1,)) + b"\0" * 8,
        *(of(np.save, np.array(x)) for x in (3, [np.nan], [np.inf], [2**40], [1j], ["a"], [], [[]], 1e300)),
        *(
            header(text)
            for text in (
                "",
                "{}",
                "[",
                "(" * 100,
                "1" * 90,
                "{'descr': '<f8'}",
                "{'descr': 3, 'fortran_order': False, 'shape': (1,)}",
                "{'descr': '<f8', 'fortran_order': 2, 'shape': (1,)}",
                "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
                "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}",
                "__import__('os')",
                "{'descr': '<f8\0'}",
                "{'descr': '<f8', 'fortran_order': False, 'shape': (1L,)}",
                "{'descr': '|V0', 'fortran_order': False, 'shape': (9,)}",
            )
        ),
        *(
            b"\x93NUMPY" + bytes(version) + b"\xff\xff\xff\x7f" + b"{" * 50
            for version in ([0, 0], [2, 0], [3, 0], [9, 9])
        ),
    ]
    for array in arrays:
        yield from (("a.npy", array), ("a.npz", zipped(x=array)), ("a.npz", zipped(x=of(np.save, np.ones(3)), y=array)))
    yield from (
        ("a.npz", zipped()),
        ("a.npz", zipped(a=b"", b=b"")),
        ("a.npz", zipped(x=of(np.save, np.zeros(400_000)))),
    )
    huge = bytearray(picture("png"))
    huge[16:24] = (50_000).to_bytes(4, "big") * 2  # what the header says the size is
    for content in (
        bytes(huge),
        picture("gif"),
        picture("bmp"),
        picture("tiff"),
        of(Image.new("I;16", (3, 3)).save, "png"),
    ):
        yield from (("p/a.png", content), ("p/a.jpg", content))


def mutated(content, random):
    """The content with a random damage: cut, bits flipped, bytes replaced, a part removed, doubled or inserted."""
    data = bytearray(content)
    i, j = sorted(int(place) for place in random.integers(0, len(data) + 1, 2))
    way = int(random.integers(6))
    if way == 0:
        return bytes(data[:i])
    if way == 1:
        for place in random.integers(0, len(data), 3):
            data[place] ^= 1 << int(random.integers(8))
    elif way == 2:
        data[i : i + 4] = random.bytes(4)
    elif way == 3:
        del data[i : min(j, i + 20)]
    elif way == 4:
        data[j:j] = data[i:j]
    else:
        data[i:i] = random.choice([b"\0", b",", b"\n", b'"', b"\xff", b";", b"1e99", b"\xff\xff\xff\x7f", b"-"])
    return bytes(data)


def outcome(name, content):
    """How a file is answered: "read", or the type of its one error. A picture has a good one beside it."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    target = name.split("/")[0]
    if "/" in name:
        good_one = path.parent / f"z{path.suffix}"
        if not good_one.exists():
            good_one.write_bytes(picture("png" if path.suffix == ".png" else "jpeg"))
    try:
        found = read(target, max_bytes=2_000_000)
    except (ValueError, OSError) as error:
        message = str(error)
        assert type(error) in (ValueError, OSError, FileNotFoundError), (name, content[:80], error)
        assert "\n" not in message and target in message and len(message) < 600, (name, content[:80], message)
        return type(error).__name__
    assert isinstance(found, Table | Data)
    if isinstance(found, Table):
        assert len(found) > 0 and len(str(found.describe()).splitlines()) >= 2 + len(found.names)
        found.save("again.csv")
        assert read("again.csv", columns=found.columns).cells() == found.cells(), (name, content[:80])
    else:
        assert all(len(part) > 0 for part in found.parts.values())
    return "read"


@pytest.mark.filterwarnings("ignore")  # of Pillow and NumPy, before they raise
def test_a_thousand_malformed_files_are_read_or_refused_in_one_sentence():
    random = np.random.default_rng(SEED)
    tried, outcomes = 0, Counter()
    files = good()
    for name, content in files.items():
        assert outcome(name, content) == "read", name
    for name, content in by_hand():
        outcomes[outcome(name, content)] += 1
        tried += 1
    for name, content in files.items():
        for _ in range(60):
            outcomes[outcome(name, mutated(content, random))] += 1
            tried += 1
    assert tried >= 1_000 and outcomes["ValueError"] > 700 and outcomes["read"] > 100, (tried, outcomes)
