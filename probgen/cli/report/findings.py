"""What a report consists of: sections of findings, pictures and lists, and how they are printed and written as JSON."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from probgen.core.density import SIGNS, DensityKind


class Finding(NamedTuple):
    """One number, with what it is.

    Attributes:
        key: its name in JSON.
        label: its name for people.
        value: the number, or whether something is so.
        unit: such as "nats"; empty where it has none.
        se: the standard error; None where none is known.
        kind: of the number, as of a density: a "bound" is at most this.
        meaning: a sentence for who has not seen such a number before.
    """

    key: str
    label: str
    value: float | int | bool
    unit: str = ""
    se: float | None = None
    kind: DensityKind = "estimate"
    meaning: str = ""

    def __str__(self) -> str:
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        found = f"{SIGNS[self.kind]} {in_digits(self.value, self.se)}"
        if self.se is not None and math.isfinite(self.se):
            found += f" ± {in_digits(self.se, self.se)}"
        return f"{found} {self.unit}".rstrip()


class Picture(NamedTuple):
    """A picture, as the bytes of a PNG, with its caption."""

    key: str
    caption: str
    png: bytes


class Listing(NamedTuple):
    """Lines of text under a title."""

    key: str
    title: str
    lines: list[str]


Item = Finding | Picture | Listing
Parts = Mapping[str, Callable[[], Iterable[Item]]]


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        name: in JSON.
        title: for people.
        text: what the section is about.
        items: in order.
        left_out: what does not apply to this model or these rows, and why.
    """

    name: str
    title: str
    text: str
    items: list[Item]
    left_out: dict[str, str]

    @property
    def findings(self) -> list[Finding]:
        """The numbers alone."""
        return [item for item in self.items if isinstance(item, Finding)]


def gathered(name: str, title: str, text: str, parts: Parts) -> Section:
    """Return a section of what its parts find; a part that refuses is left out, with what it says.

    Args:
        name: in JSON.
        title: for people.
        text: what the section is about.
        parts: by name, in order.
    """
    items: list[Item] = []
    left_out = {}
    for part, find in parts.items():
        try:
            items += find()
        except (ValueError, NotImplementedError) as error:
            left_out[part] = " ".join(str(error).split())
    return Section(name, title, text, items, left_out)


def as_json(sections: Iterable[Section]) -> dict[str, Any]:
    """Return all numbers by section and key, each with its standard error, kind and unit; `null` where a number is not
    finite.

    Args:
        sections: of the report.
    """
    return {
        section.name: {
            item.key: {
                "value": plain(item.value),
                "se": plain(item.se),
                "kind": item.kind,
                "unit": item.unit,
                "what": item.label,
            }
            for item in section.findings
        }
        for section in sections
        if section.findings
    }


def as_text(sections: Iterable[Section]) -> str:
    """Return all numbers, one a line, under the titles of their sections.

    Args:
        sections: of the report.
    """
    lines = []
    for section in sections:
        if section.findings:
            lines += ["", section.title, *(f"  {item.label:<54}{item}" for item in section.findings)]
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """Return a number as JSON holds it: `null` for what is not finite.

    Args:
        value: a number or a boolean of Python or NumPy, or None.
    """
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def in_digits(value: float, se: float | None = None) -> str:
    """Return a number in as many digits as its standard error leaves it, or in three.

    Args:
        value: the number.
        se: its standard error.
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if se and math.isfinite(se):
        text = f"{value:.{min(8, max(0, 1 - math.floor(math.log10(se))))}f}"
    else:
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.1f}"
    return text.replace("-", "−")
