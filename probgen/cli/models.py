"""The models of the command line on images, or sequences, of integers: how each is built and trained.

With `quick` they are small, and without the dropout that little training has no use for: most of the time goes into
compiling them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from probgen.autoregressive import Autoregressive, Ragged, char_rnn, gated_pixel_cnn, made, transformer, wavenet
from probgen.cli.splits import Split
from probgen.cli.training import Plan, Settings, Trained, by_gradients, trained, with_options
from probgen.distributions import ConditionalModel, Distribution
from probgen.flows import on_levels, real_nvp
from probgen.inference import FitResult, fit
from probgen.inference.objectives import ImportanceWeighted
from probgen.latent import vae
from probgen.mixtures import EM, categorical_mixture, gaussian_mixture, histogram
from probgen.score import vp_score


class Entry(NamedTuple):
    """A model of the command line.

    Attributes:
        name: its.
        what: it is, for the table.
        particles: for its bound on test rows.
        train: `train(data, key=, settings=) -> Trained`.
        conditional: whether it takes contexts.
        event_dim: 2 of images, 1 of sequences.
    """

    name: str
    what: str
    particles: int
    train: Callable[..., Trained]
    conditional: bool = True
    event_dim: int = 2


_Build = Callable[[Split, Settings, Array], Any]
_DEFAULT = Settings()


def _em(
    data: Split, model: Distribution, name: str, steps: int, key: Array, settings: Settings, **pseudo_counts: float
) -> FitResult:
    if settings.of_gradients:
        raise ValueError(f"{settings.of_gradients[0]}: {name} counts all rows in each step, and takes --steps alone")
    return fit(
        EM(model, **pseudo_counts),
        data.train,
        steps=settings.steps or steps,
        batch_size=data.rows,
        key=key,
        validation=data.validation,
        validate_every=1,
        patience=5,
        progress=name,
    )


def _independent(data: Split, *, key: Array, settings: Settings = _DEFAULT) -> Trained:
    options = with_options(histogram, {}, settings)
    model = histogram(data.shape, data.levels, **options)
    # one step counts all there is to count, and a second finds nothing to change
    result = _em(data, model, "independent", 2, key, settings, smoothing=1e-3)
    return trained(result, result.model.model)


def _mixture(data: Split, *, key: Array, settings: Settings = _DEFAULT) -> Trained:
    runs = []
    given = with_options(categorical_mixture, {}, settings)
    counts = (given.pop("components"),) if "components" in given else (20,) if settings.quick else (40, 80, 120)
    for components in counts:
        model_key, fit_key = jax.random.split(jax.random.fold_in(key, components))
        model = categorical_mixture(data.shape, data.levels, components=components, **given, key=model_key)
        name, steps = f"mixture of {components}", 10 if settings.quick else 80
        runs.append(_em(data, model, name, steps, fit_key, settings, smoothing=0.1, shrinkage=16.0))
    best = min(runs, key=lambda result: float(result.history["validation"].min()))  # by validation
    return trained(best, best.model.model)


def _network(name: str, build: _Build, plan: Plan, quick: Plan) -> Callable[..., Trained]:
    """Return how a model is built and trained by gradients."""

    def train(data: Split, *, key: Array, settings: Settings = _DEFAULT) -> Trained:
        model_key, fit_key = jax.random.split(key)
        model = build(data, settings, model_key)
        chosen = quick if settings.quick else plan
        result = by_gradients(model, data.train, data.validation, name, chosen, settings, key=fit_key)
        return trained(result, result.model)

    return train


def _real_nvp(data: Split, settings: Settings, key: Array) -> Any:
    layers, hidden, dropout = (4, (64,), 0.0) if settings.quick else (12, (128, 128), 0.1)
    defaults = {"layers": layers, "hidden": hidden, "dropout": dropout, "permute": True}
    options = with_options(real_nvp, defaults, settings)
    flow = real_nvp(math.prod(data.shape), **options, context_levels=data.classes, key=key)
    return on_levels(flow, data.shape, data.levels)


def _pixel_cnn(data: Split, settings: Settings, key: Array) -> Any:
    channels, depth, dropout = (16, 1, 0.0) if settings.quick else (32, 5, 0.2)
    options = with_options(gated_pixel_cnn, {"channels": channels, "depth": depth, "dropout": dropout}, settings)
    return gated_pixel_cnn(data.shape, data.levels, **options, context_levels=data.classes, key=key)


def _vae(data: Split, settings: Settings, key: Array) -> Any:
    prior_key, model_key = jax.random.split(key)
    hidden, dropout = ((128,), 0.0) if settings.quick else ((256, 256), 0.02)
    defaults = {"latent_dim": 16, "hidden": hidden, "dropout": dropout, "input_dropout": dropout}
    options = with_options(vae, defaults, settings)
    prior = gaussian_mixture(options["latent_dim"], components=20, diagonal=True, key=prior_key)
    options = {"prior": prior, **options}
    return vae(data.shape, data.levels, **options, context_levels=data.classes, key=model_key)


def _vp_score(data: Split, settings: Settings, key: Array) -> Any:
    quick = settings.quick
    if _is_small(data):
        defaults = {"channels": 8 if quick else 32, "dropout": 0.0 if quick else 0.05}
    else:  # larger images take too long at their own resolution
        defaults = {"width": 128 if quick else 256, "dropout": 0.0 if quick else 0.1}
    options = with_options(vp_score, {"depth": 1 if quick else 3, **defaults}, settings)
    return vp_score(data.shape, levels=data.levels, **options, context_levels=data.classes, key=key)


def _is_small(data: Split) -> bool:
    return max(data.shape[:2]) <= 16


def _score(data: Split, *, key: Array, settings: Settings = _DEFAULT) -> Trained:
    plan = Plan(30, 64, 4e-3) if _is_small(data) else Plan(100, 128, 1e-3)
    return _network("vp_score", _vp_score, plan, plan._replace(epochs=4))(data, key=key, settings=settings)


def _made(data: Split, settings: Settings, key: Array) -> Any:
    defaults = {"hidden": (64,) if settings.quick else (500, 500)}
    return made(data.shape, data.levels, **with_options(made, defaults, settings), context_levels=data.classes, key=key)


def _sequence(name: str, recipe: Callable[..., Any], sizes: tuple[dict, dict], rate: float) -> Callable[..., Trained]:
    """Return how a model of sequences is trained: on ragged rows by their density up to their lengths, so that what
    fills them up is not learned."""

    def build(data: Split, settings: Settings, key: Array) -> Any:
        options = with_options(recipe, sizes[settings.quick], settings)
        model = recipe(*data.shape, data.levels, **options, context_levels=data.classes, key=key)
        return up_to_lengths(model) if data.ragged else model

    plan = Plan(20, 64, rate)
    train = _network(name, build, plan, plan._replace(epochs=1))

    def kept(data: Split, *, key: Array, settings: Settings = _DEFAULT) -> Trained:
        done = train(data, key=key, settings=settings)
        return done._replace(model=done.model.model.model) if data.ragged else done

    return kept


def up_to_lengths(model: Autoregressive) -> ConditionalModel:
    """Return the model of the beginnings of rows, as long as their lengths say."""
    return ConditionalModel(Ragged(model), ())


_FLOW = _network("real_nvp", _real_nvp, Plan(120, 128, 1e-3), Plan(4, 128, 1e-3))
_CNN = _network("pixel_cnn", _pixel_cnn, Plan(20, 64, 4e-3), Plan(2, 64, 4e-3))
_WEIGHTS = ImportanceWeighted(2)  # two weights: 0.006 bits/dim better in equal time
_VAE = _network("vae", _vae, Plan(70, 128, 4e-3, _WEIGHTS), Plan(4, 128, 4e-3, _WEIGHTS))
_MADE = _network("made", _made, Plan(60, 128, 1e-3), Plan(2, 128, 1e-3))

MODELS = [
    Entry("independent", "a histogram for each pixel", 1, _independent, conditional=False),
    Entry("mixture", "mixture of independent categoricals, by EM", 1, _mixture, conditional=False),
    Entry("real_nvp", "RealNVP on dequantized pixels, {particles} particles", 16, _FLOW),
    Entry("pixel_cnn", "gated PixelCNN", 1, _CNN),
    Entry("vae", "VAE, importance-weighted bound, {particles} particles", 256, _VAE),
    Entry("vp_score", "VP diffusion, variational bound, mean of {particles} draws", 64, _score),
    Entry("made", "masked dense network", 1, _MADE),
    Entry(
        "char_rnn", "recurrent network", 1,
        _sequence("char_rnn", char_rnn, ({"width": 128}, {"width": 32}), 4e-3), event_dim=1,
    ),
    Entry(
        "wavenet", "dilated causal convolutions", 1,
        _sequence("wavenet", wavenet, ({"channels": 64}, {"channels": 16}), 2e-3), event_dim=1,
    ),
    Entry(
        "transformer", "causal attention", 1,
        _sequence("transformer", transformer, ({"width": 128}, {"width": 32}), 1e-3), event_dim=1,
    ),
]  # fmt: skip
DEMO = MODELS[:6]
