"""Which variables each variable may depend on: an order, groups of an order, or a directed acyclic graph."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dependence:
    """The structure of a product of conditionals, Π_i p(x_i | x_pa(i)), and the order in which it is evaluated.

    It is hashable, and static in a model.

    Args:
        groups: the variables by level: a variable depends on none of its own level or of a later one, so that as many
            sequential steps as there are groups evaluate all.
        parents: those of each variable, or None where they are all the variables of the earlier groups.

    >>> Dependence.in_order(range(4), passes=2).groups
    ((0, 1), (2, 3))
    >>> Dependence.of_graph([[0, 0, 0], [1, 0, 0], [1, 0, 0]]).groups
    ((0,), (1, 2))
    """

    groups: tuple[tuple[int, ...], ...]
    parents: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def in_order(cls, order: Sequence[int], *, passes: int | None = None) -> "Dependence":
        """Return the dependence in which each of `passes` equal groups of an order depends on all before it: D passes
        are fully autoregressive, two are a coupling.

        Args:
            order: a permutation of 0..D−1.
            passes: 2 ≤ passes ≤ D, which is the default.

        Raises ValueError where `order` is no permutation or `passes` is another number.

        References: zuko (Rozet et al. 2022) has this dial.
        """
        order = tuple(int(i) for i in order)
        if not order:
            raise ValueError("order: expected at least one variable, got none")
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"order: expected a permutation of 0..{len(order) - 1}, got {order}")
        passes = len(order) if passes is None else int(passes)
        if passes != len(order) and not 2 <= passes <= len(order):
            raise ValueError(f"passes: expected 2..{len(order)} for {len(order)} variables, got {passes}")
        return cls(tuple(tuple(int(i) for i in group) for group in np.array_split(np.array(order, int), passes)))

    @classmethod
    def of_graph(cls, adjacency: Any) -> "Dependence":
        """Return the dependence of a graph; a variable's level is the longest path to it.

        Args:
            adjacency: [D, D], true at (i, j) where j is a parent of i. Where [i, j] means i → j, as in networkx's
                `to_numpy_array`, give the transpose.

        Raises ValueError where `adjacency` is not square, holds NaN, or has a cycle, which is named.
        """
        numbers = np.asarray(adjacency)
        if numbers.ndim != 2 or numbers.shape[0] != numbers.shape[1] or not len(numbers):
            raise ValueError(f"adjacency: expected a square matrix [D, D], got shape {numbers.shape}")
        if (numbers != numbers).any():
            raise ValueError("adjacency: expected true or false, got NaN")
        matrix = numbers.astype(bool)
        level = np.zeros(len(matrix), int)
        for _ in range(len(matrix)):  # longest paths, which without a cycle settle within D rounds
            settled = level
            level = np.where(matrix, level + 1, 0).max(1, initial=0)
            if (level == settled).all():
                break
        else:
            raise ValueError(f"adjacency: expected no cycle, got {' → '.join(map(str, _cycle(matrix)))}")
        groups = tuple(tuple(int(i) for i in np.flatnonzero(level == depth)) for depth in range(level.max() + 1))
        return cls(groups, tuple(tuple(int(j) for j in np.flatnonzero(row)) for row in matrix))

    @property
    def dim(self) -> int:
        """The number of variables."""
        return sum(map(len, self.groups))

    @property
    def order(self) -> tuple[int, ...]:
        """The variables, group by group: each comes after all that it depends on."""
        return tuple(i for group in self.groups for i in group)

    @property
    def levels(self) -> np.ndarray:
        """The group of each variable, [D]."""
        level = np.empty(self.dim, int)
        for depth, group in enumerate(self.groups):
            level[list(group)] = depth
        return level

    @property
    def matrix(self) -> np.ndarray:
        """The variables (columns) on which each variable (row) depends, [D, D] of booleans."""
        if self.parents is None:
            return self.levels[:, None] > self.levels[None, :]
        matrix = np.zeros((self.dim, self.dim), bool)
        for i, parents in enumerate(self.parents):
            matrix[i, list(parents)] = True
        return matrix


def _cycle(matrix: np.ndarray) -> list[int]:
    """Return one cycle of a graph that has some: whoever walks from parent to parent among those on cycles comes
    back."""
    alive = np.ones(len(matrix), bool)
    while True:
        roots = alive & ~(matrix & alive[None, :]).any(1)
        if not roots.any():
            break
        alive &= ~roots
    walk = [int(np.flatnonzero(alive)[0])]
    while walk.count(walk[-1]) == 1:
        walk.append(int(np.flatnonzero(matrix[walk[-1]] & alive)[0]))
    return walk[walk.index(walk[-1]) :][::-1]
