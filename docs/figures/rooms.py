"""The picture of the rooms: `python docs/figures/rooms.py` writes rooms.svg beside this file."""

from pathlib import Path

ROOMS = {  # left, bottom, width, height, what is in it
    "core": (0, 0, 100, 1, "what a model is: leaves, params, files, contexts, steps"),
    "data": (0, 1, 9, 3, ""),
    "plotting": (9, 1, 9, 3, ""),
    "networks": (18, 1, 18, 2, "arrays in,\narrays out"),
    "bijectors": (36, 1, 55, 1, "one event in, one event and a log-determinant out"),
    "distributions": (36, 2, 55, 1, "the base class, Transformed, heads, conditionals"),
    "mixtures": (18, 3, 36, 1, "histograms, mixtures, k-means, EM"),
    "inference": (54, 3, 23, 1, "estimators ← engine ←\nobjectives ← training, laboratory"),
    "flows": (0, 4, 12, 1, "chains of\nbijectors"),
    "autoregressive": (12, 4, 16, 1, "products of\nconditionals"),
    "latent": (28, 4, 13, 1, "latent variables:\nprogram and guide"),
    "score": (41, 4, 13, 1, "SDE and\ndenoiser"),
    "evaluation": (54, 4, 23, 1, "what a model is worth"),
    "compression": (77, 3, 14, 2, "any discrete\nmodel to bytes"),
    "testing": (91, 4, 9, 1, "checks for\nyour classes"),
    "tables": (0, 5, 54, 1, "rows of mixed columns, some cells missing"),
    "cli": (0, 6, 100, 0.7, "python -m probgen: may use every room, and none uses it"),
}
COLOURS = {"core": "#cfd8dc", "cli": "#eceff1", "testing": "#eceff1"}
FLOORS = ["", "#d7e8d4", "#dbe7f5", "#fbe8cf", "#f6d9d5", "#e9dcf2"]


def main() -> None:
    """Draw the rooms."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rooms", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(9.6, 5.2))
    for name, (left, bottom, width, height, inside) in ROOMS.items():
        colour = COLOURS.get(name) or FLOORS[bottom]
        axes.add_patch(plt.Rectangle((left + 0.2, bottom + 0.03), width - 0.4, height - 0.06, fc=colour, ec="#455a64"))
        middle, lines = bottom + height / 2, inside.count("\n") + 1 if inside else 0
        axes.text(left + width / 2, middle + 0.1 * lines, name, ha="center", va="center", weight="bold", size=9)
        axes.text(left + width / 2, middle - 0.14, inside, ha="center", va="center", size=7)
    axes.set(xlim=(0, 100), ylim=(0, 6.7))
    axes.axis("off")
    figure.savefig(Path(__file__).with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
