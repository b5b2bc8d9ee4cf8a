"""`python -m probgen`: demo, train, evaluate, sample, compare-estimators, train-codec, compress, decompress."""

import argparse
from collections.abc import Sequence

_EPILOG = """examples:
  probgen                              all six models on real digits: a table, pictures and files in probgen-demo/
  probgen demo --quick --out /tmp/x    the same in under a minute, with less training
  probgen train vae --out vae.safetensors
  probgen evaluate vae.safetensors --particles 64
  probgen evaluate vae.safetensors --report vae.html   likelihood, draws, calibration, latent variables, on one page
  probgen sample vae.safetensors --num 100 --out digits.png
  probgen train vae --context labels --out labelled.safetensors        a model of the images of each class
  probgen sample labelled.safetensors --context 3 --out threes.png
  probgen train char_rnn --data names                                  words of several lengths
  probgen sample char_rnn.safetensors --data names --out names.txt
  probgen compare-estimators --problem bits --stock    bias, variance and cost of gradient estimators
  probgen compress letter.txt                          letter.txt.pg, by the model of English that comes along
  probgen decompress letter.txt.pg -o again.txt
  probgen train-codec corpus.txt more.txt --minutes 10 --out mine.safetensors    a model of the bytes of these files
  probgen compress letter.txt --model mine.safetensors"""


def _parser() -> argparse.ArgumentParser:
    from probgen.cli import codec_training, codecs, compare
    from probgen.cli.models import MODELS

    parser = argparse.ArgumentParser(
        prog="probgen",
        description="Generative models as numpyro distributions, trained and compared on images and names.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="command")

    def command(name: str, text: str, *, seeded: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if seeded:
            sub.add_argument("--seed", type=int, default=0, help="seed of all randomness (default 0)")
        return sub

    demo = command("demo", "train all six models on optdigits and compare them (the default command)")
    demo.add_argument("--out", default="probgen-demo", help="folder for the results (default probgen-demo)")
    demo.add_argument("--quick", action="store_true", help="little training of small models, in under a minute")

    train = command("train", "train one model on a data set of integers")
    train.add_argument("model", choices=[model.name for model in MODELS])
    train.add_argument("--data", default="optdigits", help="name of a data set of integers (default optdigits)")
    train.add_argument("--context", metavar="labels", help="make the model conditional on the class of each row")
    train.add_argument("--out", help="model file to write (default MODEL.safetensors)")
    train.add_argument("--quick", action="store_true", help="little training")

    evaluate = command(
        "evaluate",
        "the likelihood of a data set's test rows (a held-out tenth where none are published) under a model file",
    )
    evaluate.add_argument("file", help="model file that demo or train wrote")
    evaluate.add_argument("--data", default="optdigits", help="name of a data set (default optdigits)")
    evaluate.add_argument("--context", metavar="labels", help="of a conditional model: the class of each row")
    evaluate.add_argument("--particles", type=int, help="particles of a bound (default 256 weights, or 64 draws)")
    evaluate.add_argument("--report", metavar="FILE.html", help="page to write, with all numbers and pictures in it")
    evaluate.add_argument("--json", metavar="FILE", help="file to write all numbers to")

    sample = command("sample", "draw from a model file")
    sample.add_argument("file", help="model file that demo or train wrote")
    sample.add_argument("--num", type=int, default=64, help="number of draws (default 64)")
    sample.add_argument(
        "--context", help="of a conditional model: a class, or as many numbers as it takes, --context=0.5,-1,2"
    )
    sample.add_argument("--data", help="name of the data set whose alphabet spells a text")
    sample.add_argument(
        "--out",
        default="samples.png",
        help="a picture (.png), an array (.npy) or a text with a draw in each line (.txt) (default samples.png)",
    )

    compare.add_options(command("compare-estimators", "bias, variance and cost of gradient estimators"))
    codec_training.add_training_options(
        command("train-codec", "train a model of the bytes of files, or of images in arrays, for compress")
    )
    codecs.add_file_options(
        command("compress", "compress a file of any bytes by a model of bytes, losslessly", seeded=False), "FILE.pg"
    )
    codecs.add_file_options(
        command("decompress", "restore the file that compress wrote", seeded=False), "FILE without its .pg"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status. A user's mistake is one sentence on stderr, and status 2."""
    import sys

    from probgen.cli import codec_training, codecs, commands, compare, demo

    runs = {
        "demo": demo.run,
        "train": commands.train,
        "evaluate": commands.evaluate,
        "sample": commands.sample,
        "compare-estimators": compare.run,
        "train-codec": codec_training.train_codec,
        "compress": codecs.compress,
        "decompress": codecs.decompress,
    }
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in runs:
        print(f"probgen: there is no command {arguments[0]!r}; there are {', '.join(runs)}", file=sys.stderr)
        return 2
    known = {*runs, "-h", "--help"}
    options = _parser().parse_args(arguments if known & set(arguments[:1]) else ["demo", *arguments])
    try:
        runs[options.command](options)
    except (ValueError, OSError, KeyError) as error:
        # Python's own errors of files have a number first; what a KeyError says is quoted when printed
        text = error.args[0] if len(error.args) == 1 else error
        print(f"probgen: {text}", file=sys.stderr)
        return 2
    return 0
