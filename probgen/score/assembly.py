"""What the recipes of score models share: a network for the event, a denoiser, a decoder, and the model of them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax import Array

from probgen.core import as_shape, check_positive, check_sizes
from probgen.distributions import ConditionalModel
from probgen.networks import DiT, LevelFeatures, NoiseEmbedding, Reshaped, ResidualMLP, UNet
from probgen.score.decoder import LevelDecoder
from probgen.score.denoiser import LevelDenoiser, NetworkDenoiser, RealDenoiser
from probgen.score.losses import Loss
from probgen.score.sampler import Sampler
from probgen.score.score_model import ScoreModel
from probgen.score.sde import SDE, falls
from probgen.score.targets import Target

_RANK = 32


class Architecture(NamedTuple):
    """What a network is: dense; with `channels` a U-Net; with a `patch` a diffusion transformer."""

    width: int | None
    depth: int | None
    channels: Sequence[int] | None
    patch: int | None
    dropout: float

    def build(self, event_shape: tuple[int, ...], numbers: int, context_dim: int, key: Array) -> Any:
        """Return a network of (event, context) to so many numbers at each place."""
        self._check(event_shape)
        if self.channels is None and self.patch is None:
            width, depth = 256 if self.width is None else self.width, 3 if self.depth is None else self.depth
            size = math.prod(event_shape)
            dense = ResidualMLP(
                size, size * numbers, context_dim=context_dim, width=width, depth=depth, dropout=self.dropout, key=key
            )
            return Reshaped(dense, (size,))
        rows, columns, *colours = event_shape
        shape = rows, columns, colours[0] if colours else 1
        common: dict[str, Any] = {"context_dim": context_dim, "dropout": self.dropout, "key": key}
        out = shape[2] * numbers
        if self.patch is not None:
            width, depth = 128 if self.width is None else self.width, 4 if self.depth is None else self.depth
            return Reshaped(DiT(shape, out, patch=self.patch, width=width, depth=depth, **common), shape)
        depth = 1 if self.depth is None else self.depth
        return Reshaped(UNet(shape, out, channels=tuple(self.channels or ()), depth=depth, **common), shape)

    def _check(self, event_shape: tuple[int, ...]) -> None:
        if self.channels is not None and self.patch is not None:
            raise ValueError(f"patch: expected none beside the channels of a U-Net, got {self.patch}")
        if self.channels is not None and self.width is not None:
            raise ValueError(f"width: expected none beside the channels of a U-Net, got {self.width}")
        if (self.channels is not None or self.patch is not None) and len(event_shape) not in (2, 3):
            raise ValueError(f"event_shape: expected an image, [H, W] or [H, W, C], got {event_shape}")


class Condition(NamedTuple):
    """The options of a recipe that say what it is conditional on."""

    context_dim: int | None
    drop_context: float

    @property
    def numbers(self) -> int:
        """How many numbers of it a network sees."""
        return (self.context_dim or 0) + (self.drop_context > 0)


def assembled(
    event_shape: tuple[int, ...],
    sde: SDE,
    architecture: Architecture,
    condition: Condition,
    *,
    levels: int | None,
    rank: int | None,
    scale: float | None,
    sampler: Sampler,
    loss: Loss | None = None,
    target: Target | None = None,
    stepwise: bool = False,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """Return the model of reals, or of integers 0..levels−1, that a recipe's options say."""
    event_shape = as_shape(event_shape, fewest=0)
    check_data(levels, rank, scale)
    embedding = NoiseEmbedding(reach=max(abs(float(sde.log_snr(t))) for t in (0.0, 1.0)))
    rank = _RANK if rank is None else rank
    numbers = min(levels or 1, rank)
    network = architecture.build(event_shape, numbers, embedding.dim + condition.numbers, key)
    if levels is not None and levels > rank:
        network = LevelFeatures(network, size=math.prod(event_shape), levels=levels, rank=rank)
    denoiser: NetworkDenoiser = (
        RealDenoiser(
            network, embedding, scale=1.0 if scale is None else scale, target=target, **condition._asdict()
        )
        if levels is None
        else LevelDenoiser(network, embedding, levels=levels, **condition._asdict())
    )  # fmt: skip
    decoder = None if levels is None else LevelDecoder(levels)
    model = ScoreModel(denoiser, sde, event_shape, decoder=decoder, sampler=sampler, loss=loss, stepwise=stepwise)
    return ConditionalModel(model, (condition.context_dim,)) if condition.context_dim else model


def ends_of(log_snr: tuple[float, float] | None, levels: int | None) -> tuple[float, float]:
    """Return (λ_max, λ_min): as given; or of integers λ_max where half a step between levels is two standard deviations
    of the noise. Raises ValueError where they do not fall."""
    if log_snr is None:
        return (7.0 if levels is None else 2.0 * math.log(2.0 * (levels - 1)), -7.0)
    if not falls(log_snr):
        raise ValueError(f"log_snr: expected two finite numbers, the first above the second, got {log_snr}")
    return log_snr


def check_data(levels: int | None, rank: int | None, scale: float | None) -> None:
    """Raise ValueError where what is said of the data does not go together."""
    if levels is not None:
        check_sizes(2, levels=levels)
    if scale is not None:
        check_positive(scale=scale)
        if levels is not None:
            raise ValueError(f"scale: expected none beside levels, which are put into [-1, 1], got {scale}")
    if rank is not None:
        check_sizes(rank=rank)
        if levels is None or rank >= levels:
            raise ValueError(f"rank: expected less than levels={levels}, or it would do nothing, got {rank}")
