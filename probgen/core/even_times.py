"""Times that are spread evenly over the rows and particles of a batch."""

import math

import jax
import jax.numpy as jnp
from jax import Array

_GOLDEN = 0x9E3779B1  # 2³² / φ, odd


def even(key: Array, lead: tuple[int, ...], num_particles: int) -> Array:
    """Return uniform numbers of [0, 1), [num_particles, *lead], spread evenly over the particles, and over the rows.

        u_{n,r} = (n + frac(u + r φ)) / N,   φ the golden ratio

    so that those of any rows that follow one another, such as rows of one class, are spread too.

    Args:
        key: the randomness.
        lead: the shape of the rows.
        num_particles: N, how many for each.

    References: of even times in a batch, Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021),
    arXiv:2107.00630, appendix I.1; of such sequences, Uniform Distribution of Sequences (Kuipers, Niederreiter 1974).

    >>> sorted((even(jax.random.key(0), (), 4) * 4 // 1).tolist())
    [0.0, 1.0, 2.0, 3.0]
    """
    steps = jnp.arange(math.prod(lead), dtype=jnp.uint32) * jnp.uint32(_GOLDEN)  # modulo 2³², exactly
    rows = (jax.random.bits(key, (), jnp.uint32) + steps).reshape(lead) >> 8  # the bits that a float32 has
    return (jnp.arange(num_particles).reshape(-1, *[1] * len(lead)) + rows / 2.0**24) / num_particles
