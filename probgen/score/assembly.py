"""What the recipes of score models share: a network for the event, a denoiser, a decoder, and the model of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax import Array

from probgen.core import as_shape, check_positive, check_sizes
from probgen.distributions import ConditionalModel
from probgen.networks import DiT, LevelFeatures, NoiseEmbedding, Reshaped, ResidualCNN, ResidualMLP, UNet
from probgen.networks.images import image_shape
from probgen.score.decoder import LevelDecoder
from probgen.score.denoiser import LevelDenoiser, NetworkDenoiser, RealDenoiser
from probgen.score.losses import Loss
from probgen.score.sampler import Sampler
from probgen.score.score_model import ScoreModel
from probgen.score.sde import SDE, falls
from probgen.score.targets import Target

_RANK = 32


class Architecture(NamedTuple):
    """What a network is: dense; with `channels` of one resolution, or of the stages of a U-Net, convolutional; with a
    `patch` a diffusion transformer."""

    width: int | None
    depth: int | None
    channels: int | Sequence[int] | None
    patch: int | None
    dropout: float

    @property
    def dense(self) -> bool:
        """Whether the network takes vectors."""
        return self.channels is None and self.patch is None

    def shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return an event's shape as the network takes it: (D,), or (H, W, C)."""
        self._check()
        return (math.prod(event_shape),) if self.dense else image_shape(event_shape)

    def build(
        self, event_shape: tuple[int, ...], numbers: int, context_dim: int, key: Array, *, inputs: int = 1
    ) -> Any:
        """Return a network of (event, context), with so many inputs for each number, to `numbers` for each."""
        *lead, last = self.shape(event_shape)
        shape: Any = (*lead, last * inputs)
        common: dict[str, Any] = {"context_dim": context_dim, "dropout": self.dropout, "key": key}
        out = last * numbers
        if isinstance(self.channels, int):
            depth = 3 if self.depth is None else self.depth
            return Reshaped(ResidualCNN(shape, out, channels=self.channels, depth=depth, **common), shape)
        if self.channels is not None:
            depth = 1 if self.depth is None else self.depth
            return Reshaped(UNet(shape, out, channels=tuple(self.channels), depth=depth, **common), shape)
        if self.patch is not None:
            width, depth = 128 if self.width is None else self.width, 4 if self.depth is None else self.depth
            return Reshaped(DiT(shape, out, patch=self.patch, width=width, depth=depth, **common), shape)
        width, depth = 256 if self.width is None else self.width, 3 if self.depth is None else self.depth
        return Reshaped(ResidualMLP(shape[0], out, width=width, depth=depth, **common), shape)

    def _check(self) -> None:
        if self.channels is not None and self.patch is not None:
            raise ValueError(f"patch: expected none beside channels, got {self.patch}")
        if self.channels is not None and self.width is not None:
            raise ValueError(f"width: expected none beside channels, got {self.width}")


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
    conditional_on: Condition,
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
    of = lambda numbers: architecture.build(event_shape, numbers, embedding.dim + conditional_on.numbers, key)
    network = of(1) if levels is None else of_levels(of, math.prod(event_shape), levels, rank)
    denoiser: NetworkDenoiser = (
        RealDenoiser(
            network, embedding, scale=1.0 if scale is None else scale, target=target, **conditional_on._asdict()
        )
        if levels is None
        else LevelDenoiser(network, embedding, levels=levels, **conditional_on._asdict())
    )  # fmt: skip
    decoder = None if levels is None else LevelDecoder(levels)
    model = ScoreModel(denoiser, sde, event_shape, decoder=decoder, sampler=sampler, loss=loss, stepwise=stepwise)
    return ConditionalModel(model, (conditional_on.context_dim,)) if conditional_on.context_dim else model


def of_levels(network_of: Callable[[int], Any], size: int, numbers: int, rank: int | None) -> Any:
    """Return a network of so many logits for each of `size` numbers; of many, by way of `rank` features."""
    rank = _RANK if rank is None else rank
    network = network_of(min(numbers, rank))
    return LevelFeatures(network, size=size, levels=numbers, rank=rank) if numbers > rank else network


def ends_of(log_snr: tuple[float, float] | None, levels: int | None) -> tuple[float, float]:
    """Return (λ_max, λ_min): as given; or of integers λ_max where half a step between levels is two standard deviations
    of the noise. Raises ValueError where they do not fall, or there are no two levels."""
    if levels is not None:
        check_sizes(2, levels=levels)
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
