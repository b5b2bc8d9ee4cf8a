"""Bijectors as a user writes them, two maps and a line: rows of the registry, so that every law is tested on them."""

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen import bijectors


class Falling(bijectors.Scalar):
    """y = exp(−x): ℝ → (0, ∞)."""

    codomain = constraints.positive

    def forward_each(self, x):
        return jnp.exp(-x), -x

    def inverse_each(self, y):
        return -jnp.log(y), -jnp.log(y)


class Sinh(bijectors.Elementwise):
    """y = sinh(x / width)."""

    width: Array

    def forward_each(self, x):
        return jnp.sinh(x / self.width), jnp.log(jnp.cosh(x / self.width) / self.width)

    def inverse_each(self, y):
        return self.width * jnp.arcsinh(y), jnp.log(self.width) - 0.5 * jnp.log1p(y**2)


class Rising(Sinh):
    """The same, which says that it rises."""

    increasing = True


class Roll(bijectors.Rearranging):
    """y[i] = x[i − 1]."""

    def move(self, x):
        return jnp.roll(x, 1)

    def move_back(self, y):
        return jnp.roll(y, -1)
