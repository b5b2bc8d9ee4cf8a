"""Toy densities in the plane, of which each function draws `num` points, [num, 2], in the default float type of JAX;
and small images made of known factors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import random


def two_moons(key: jax.Array, num: int, *, noise: float = 0.1) -> jax.Array:
    """Two interleaved half circles of radius 1, each with probability 1/2.

        x = (cos t, sin t) or (1 − cos t, ½ − sin t), plus noise · Normal(0, I),   t ~ Uniform(0, π)

    Args:
        key: the randomness.
        num: how many points.
        noise: the standard deviation of the noise.

    References: F. Pedregosa et al., Scikit-learn: Machine Learning in Python, 2011, arXiv:1201.0490 (`make_moons`).

    >>> two_moons(jax.random.key(0), 100).shape
    (100, 2)
    """
    angle_key, which_key, noise_key = random.split(key, 3)
    t = random.uniform(angle_key, (num,), maxval=jnp.pi)
    upper = jnp.stack([jnp.cos(t), jnp.sin(t)], axis=-1)
    lower = jnp.array([1.0, 0.5]) - upper
    on_upper = random.bernoulli(which_key, shape=(num, 1))
    return jnp.where(on_upper, upper, lower) + noise * random.normal(noise_key, (num, 2))


def rings(key: jax.Array, num: int, *, count: int = 4, noise: float = 0.08) -> jax.Array:
    """Concentric circles of radii 1, 2, ..., `count`, each with the same probability.

        x = k (cos t, sin t) + noise · Normal(0, I),   k ~ Uniform{1, …, count},   t ~ Uniform(0, 2π)

    Args:
        key: the randomness.
        num: how many points.
        count: how many circles.
        noise: the standard deviation of the noise.

    References: W. Grathwohl et al., FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models,
    2018, arXiv:1810.01367 (with radii 3/4, ..., 3).

    >>> points = rings(jax.random.key(0), 100, noise=0.0)
    >>> radii = jnp.linalg.norm(points, axis=-1)
    >>> bool(jnp.allclose(radii, jnp.round(radii), atol=1e-5))
    True
    """
    radius_key, angle_key, noise_key = random.split(key, 3)
    radius = random.randint(radius_key, (num, 1), 1, count + 1)
    return radius * _circle(angle_key, num) + noise * random.normal(noise_key, (num, 2))


def pinwheel(
    key: jax.Array, num: int, *, arms: int = 5, radial: float = 0.3, tangential: float = 0.1, twist: float = 0.25
) -> jax.Array:
    """Arms around the origin, each a Gaussian that is bent by a rotation growing with the radius.

        x = 2 R(t) (u, v),   R(t) the rotation by t = 2π a / arms + twist · exp(u),
        a ~ Uniform{0, …, arms−1},   (u, v) ~ Normal((1, 0), diag(radial², tangential²))

    Args:
        key: the randomness.
        num: how many points.
        arms: how many arms.
        radial: the standard deviation along an arm.
        tangential: the standard deviation across an arm.
        twist: how much an arm bends.

    References: M. Johnson et al., Composing graphical models with neural networks for structured representations and
    fast inference, 2016, arXiv:1603.06277.

    >>> pinwheel(jax.random.key(0), 100).shape
    (100, 2)
    """
    arm_key, normal_key = random.split(key)
    arm = random.randint(arm_key, (num,), 0, arms)
    normal = random.normal(normal_key, (num, 2))
    u, v = 1.0 + radial * normal[:, 0], tangential * normal[:, 1]
    t = 2 * jnp.pi * arm / arms + twist * jnp.exp(u)
    cos, sin = jnp.cos(t), jnp.sin(t)
    return 2.0 * jnp.stack([u * cos - v * sin, u * sin + v * cos], axis=-1)


def checkerboard(key: jax.Array, num: int) -> jax.Array:
    """Uniform points on the 8 dark squares of a 4×4 board on [−4, 4)²; the density there is 1/32, so the entropy is log
    32.

        x₁ ~ Uniform(−4, 4),   x₂ ~ Uniform over the rows r with c + r even,   c = ⌊x₁ / 2⌋, r = ⌊x₂ / 2⌋

    Args:
        key: the randomness.
        num: how many points.

    References: W. Grathwohl et al., FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models,
    2018, arXiv:1810.01367.

    >>> squares = jnp.floor(checkerboard(jax.random.key(0), 100) / 2)
    >>> bool((squares.sum(-1) % 2 == 0).all())
    True
    """
    place_key, row_key = random.split(key)
    x1, within = random.uniform(
        place_key, (2, num), minval=jnp.array([[-2.0], [0.0]]), maxval=jnp.array([[2.0], [1.0]])
    )
    row = 2.0 * random.randint(row_key, (num,), -1, 1) + jnp.floor(x1) % 2
    return 2.0 * jnp.stack([x1, row + within], axis=-1)


def eight_gaussians(key: jax.Array, num: int, *, radius: float = 4.0, noise: float = 0.5) -> jax.Array:
    """Eight Gaussians evenly spaced on a circle, each with the same probability.

        x = radius (cos(2π k / 8), sin(2π k / 8)) + noise · Normal(0, I),   k ~ Uniform{0, …, 7}

    Args:
        key: the randomness.
        num: how many points.
        radius: of the circle.
        noise: the standard deviation of each Gaussian.

    References: L. Metz et al., Unrolled Generative Adversarial Networks, 2016, arXiv:1611.02163.

    >>> eight_gaussians(jax.random.key(0), 100).shape
    (100, 2)
    """
    which_key, noise_key = random.split(key)
    t = 2 * jnp.pi * random.randint(which_key, (num,), 0, 8) / 8
    centre = radius * jnp.stack([jnp.cos(t), jnp.sin(t)], axis=-1)
    return centre + noise * random.normal(noise_key, (num, 2))


def spirals(key: jax.Array, num: int, *, turns: float = 1.5, noise: float = 0.1) -> jax.Array:
    """Two spirals that wind around each other, each with probability 1/2.

        x = s t (cos t, sin t) / 3 + noise · Normal(0, I),
        t = 2π turns √u,   u ~ Uniform(0, 1),   s ~ Uniform{−1, 1}

    Args:
        key: the randomness.
        num: how many points.
        turns: how often a spiral winds around the origin.
        noise: the standard deviation of the noise.

    References: K. Lang and M. Witbrock, Learning to Tell Two Spirals Apart, Proceedings of the 1988 Connectionist
    Models Summer School, for the problem; W. Grathwohl et al., FFJORD, 2018, arXiv:1810.01367, for this density.

    >>> spirals(jax.random.key(0), 100).shape
    (100, 2)
    """
    place_key, sign_key, noise_key = random.split(key, 3)
    t = 2 * jnp.pi * turns * jnp.sqrt(random.uniform(place_key, (num, 1)))
    sign = random.rademacher(sign_key, (num, 1))
    return sign * t * jnp.concatenate([jnp.cos(t), jnp.sin(t)], axis=-1) / 3 + noise * random.normal(
        noise_key, (num, 2)
    )


SPRITE_FACTORS = {"shape": 2, "size": 3, "orientation": 4, "column": 8, "row": 8}  # how many values each has
_SIDE, _POINTS = 16, 4  # pixels, and along a side of each the points at which it is looked
_LENGTHS = (2.0, 2.75, 3.5)  # half the longer axis, in pixels


def sprites(key: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """Images of one shape each, and the factors by which they were made, which are independent of each other.

        factors ~ Uniform({0, 1} × {0, …, 2} × {0, …, 3} × {0, …, 7}²),   images = sprite_images(factors)

    They are for measures of disentanglement, which need data whose factors are known; `SPRITE_FACTORS` has the name of
    each factor and how many values it has. There are 1,536 images, all different.

    Args:
        key: the randomness.
        num: how many images.

    Returns (images [num, 16, 16] of integers 0..16, factors [num, 5] of integers).

    References: L. Matthey et al., dSprites: Disentanglement testing Sprites dataset, 2017, for the idea, with larger
    images and more shapes.

    >>> images, factors = sprites(jax.random.key(0), 100)
    >>> images.shape, factors.shape, factors.max(0).tolist()
    ((100, 16, 16), (100, 5), [1, 2, 3, 7, 7])
    """
    factors = random.randint(key, (num, len(SPRITE_FACTORS)), 0, jnp.array(list(SPRITE_FACTORS.values())))
    return sprite_images(factors), factors


def sprite_images(factors: jax.Array) -> jax.Array:
    """Return the images of given factors, [N, 16, 16]: how many of 4×4 points in each pixel lie within the shape.

        (u, v) = R(−t) (x − c),   t = π orientation / 4,   c = 4 + 8/7 (column, row)
        shape 0, an ellipse: (u / a)² + (v / b)² ≤ 1;   shape 1, a rectangle: |u| ≤ a, |v| ≤ b

    The longer half axis is a = 2, 2.75 or 3.5 pixels by `size`, and b = a / 2; t turns from the columns to the rows.

    Args:
        factors: shape, size, orientation, column and row, [N, 5]; values beyond those of `SPRITE_FACTORS` are taken for
            the nearest.

    >>> sprite_images(jnp.array([[1, 0, 0, 0, 0]])).sum().item() / 16  # a rectangle of 4×2 pixels
    8.0
    """
    return jax.vmap(_sprite)(jnp.asarray(factors))


def _sprite(factors: jax.Array) -> jax.Array:
    last = jnp.array(list(SPRITE_FACTORS.values())) - 1
    shape, size, orientation, *place = jnp.clip(factors, 0, last)
    along = (jnp.arange(_SIDE * _POINTS) + 0.5) / _POINTS
    x, y = (along - (4.0 + 8.0 / 7.0 * centre) for centre in place)
    t, a = jnp.pi * orientation / 4, jnp.array(_LENGTHS)[size]
    u = jnp.cos(t) * x + jnp.sin(t) * y[:, None]
    v = jnp.cos(t) * y[:, None] - jnp.sin(t) * x
    inside = jnp.where(shape == 0, (u / a) ** 2 + (2 * v / a) ** 2 <= 1, (jnp.abs(u) <= a) & (jnp.abs(v) <= a / 2))
    return inside.reshape(_SIDE, _POINTS, _SIDE, _POINTS).sum((1, 3))


def _circle(key: jax.Array, num: int) -> jax.Array:
    t = random.uniform(key, (num,), maxval=2 * jnp.pi)
    return jnp.stack([jnp.cos(t), jnp.sin(t)], axis=-1)
