"""`python -m probgen`: models trained, evaluated and drawn from; estimators compared; files compressed."""

import argparse
from collections.abc import Sequence

_EPILOG = """examples:
  probgen                              all six models on real digits: a table, pictures and files in probgen-demo/
  probgen demo --quick --out /tmp/x    the same in under a minute, with less training
  probgen train --model vae --out vae.safetensors
  probgen describe people.csv                          what the columns of a table are
  probgen train --data people.csv                      a density of its rows, cells may be missing: table.safetensors
  probgen evaluate table.safetensors people.csv --report people.html
  probgen sample table.safetensors --num 1000 --out synthetic.csv
  probgen evaluate vae.safetensors --particles 64
  probgen evaluate vae.safetensors --report vae.html   likelihood, draws, calibration, latent variables, on one page
  probgen sample vae.safetensors --num 100 --out digits.png
  probgen train --model vae --context labels --out labelled.safetensors     a model of the images of each class
  probgen sample labelled.safetensors --context 3 --out threes.png
  probgen train --model char_rnn --data names                          words of several lengths
  probgen evaluate char_rnn.safetensors names
  probgen sample char_rnn.safetensors --data names --out names.txt
  probgen compare-estimators --problem bits --stock    bias, variance and cost of gradient estimators
  probgen compress letter.txt                          letter.txt.pg, by the model of English that comes along
  probgen decompress letter.txt.pg -o again.txt
  probgen train-codec corpus.txt more.txt --minutes 10 --out mine.safetensors    a model of the bytes of these files
  probgen compress letter.txt --model mine.safetensors"""


def _parser() -> argparse.ArgumentParser:
    import probgen
    from probgen.cli import codec_training, codecs, compare, evaluate, sample, train

    parser = argparse.ArgumentParser(
        prog="probgen",
        description="Generative models as numpyro distributions, trained and compared on images and names.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"probgen {probgen.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")

    def command(name: str, text: str, *, seeded: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if seeded:
            sub.add_argument("--seed", type=int, default=0, help="seed of all randomness (default 0)")
        return sub

    demo = command("demo", "train all six models on optdigits and compare them (the default command)")
    demo.add_argument("--out", default="probgen-demo", help="folder for the results (default probgen-demo)")
    demo.add_argument("--quick", action="store_true", help="little training of small models, in under a minute")

    train.add_options(command("train", "train a model on a data set, or on a file of one's own"))
    evaluate.add_options(
        command(
            "evaluate", "the likelihood of test rows (a held-out tenth where none are published) under a model file"
        )
    )
    sample.add_options(command("sample", "draw from a model file"))
    described = command("describe", "what a file holds, and what train does with it", seeded=False)
    described.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN", help="leave a column of a table out"
    )
    described.add_argument("file", help="a table, an array, a text, or a folder of pictures")
    command("models", "the models that train knows", seeded=False)
    compare.add_options(command("compare-estimators", "bias, variance and cost of gradient estimators"))
    codec_training.add_training_options(
        command("train-codec", "train a model of the bytes of files, or of images in arrays, for compress")
    )
    compressed = command("compress", "compress a file of any bytes by a model of bytes, losslessly", seeded=False)
    codecs.add_file_options(compressed, "FILE.pg")
    compressed.add_argument(
        "--portable", action="store_true", help="a file that other machines can read too, in about twice the time"
    )
    codecs.add_file_options(
        command("decompress", "restore the file that compress wrote", seeded=False), "FILE without its .pg"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status. A user's mistake is one sentence on stderr, and status 2."""
    import sys

    from probgen.cli import codec_training, codecs, compare, demo, evaluate, sample, train

    runs = {
        "demo": demo.run,
        "train": train.train,
        "evaluate": evaluate.evaluate,
        "sample": sample.sample,
        "describe": train.describe,
        "models": train.models,
        "compare-estimators": compare.run,
        "train-codec": codec_training.train_codec,
        "compress": codecs.compress,
        "decompress": codecs.decompress,
    }
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in runs:
        print(f"probgen: there is no command {arguments[0]!r}; there are {', '.join(runs)}", file=sys.stderr)
        return 2
    known = {*runs, "-h", "--help", "--version"}
    options = _parser().parse_args(arguments if known & set(arguments[:1]) else ["demo", *arguments])
    try:
        runs[options.command](options)
    except (ValueError, OSError, KeyError) as error:
        # Python's own errors of files have a number first; what a KeyError says is quoted when printed
        text = error.args[0] if len(error.args) == 1 else error
        print(f"probgen: {text}", file=sys.stderr)
        return 2
    return 0
