"""Pictures of prefix-free codes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trie(tree: Any, *, names: Sequence[str] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw a code as the binary tree of its words: a branch to the left is a 0, one to the right a 1.

    A leaf is a symbol, with its word below it; where no word goes there is no branch. The width that a leaf has is its
    share 2^{−l} of the Kraft sum, so that an empty place is what is left of it.

    Args:
        tree: nested pairs of what follows on 0 and on 1; a leaf is the symbol's number, None where no word goes
            (`compression.PrefixCode.trie`).
        names: of the symbols, their numbers by default.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where there is no name for a symbol.

    >>> trie((0, (1, None)), names="ab").get_title()
    '2 words, Kraft sum 0.75'
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    leaves: list[tuple[str, int]] = []

    def draw(node: Any, word: str, left: float, width: float) -> None:
        x, y = left + width / 2, -len(word)
        if isinstance(node, tuple):
            for bit, child in enumerate(node):
                if child is not None:
                    below = left + bit * width / 2
                    ax.plot([x, below + width / 4], [y, y - 1], color="0.6", lw=1.0, zorder=0)
                    ax.text((x + below + width / 4) / 2, y - 0.5, str(bit), color="0.4", fontsize="x-small")
                    draw(child, word + str(bit), below, width / 2)
            ax.plot(x, y, "o", color="0.6", ms=3)
            return
        if names is not None and not 0 <= node < len(names):
            raise ValueError(f"names: expected one for each symbol, got none for {node}")
        label = str(node) if names is None else str(names[node])
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "C0"}
        ax.text(x, y, label, ha="center", va="center", fontsize="small", bbox=box)
        ax.text(x, y - 0.28, word, ha="center", va="top", fontsize="x-small", family="monospace")
        leaves.append((word, node))

    if tree is not None:
        draw(tree, "", 0.0, 1.0)
    depth = max((len(word) for word, _ in leaves), default=0)
    kraft = sum(2.0 ** -len(word) for word, _ in leaves)
    ax.set(xlim=(0.0, 1.0), ylim=(-depth - 0.7, 0.4), title=f"{len(leaves)} words, Kraft sum {kraft:g}")
    ax.set_axis_off()
    return ax
