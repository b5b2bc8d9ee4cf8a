"""The report as one page: HTML with its style and its pictures inside, and nothing that it would have to fetch."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from probgen.cli.report.findings import Finding, Listing, Picture, Section

_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --faint: #5b6473; --back: #ffffff; --line: #d9dee6;
  --card: #f5f7fa; --accent: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ec; --faint: #9aa4b2; --back: #14181f; --line: #313a46;
  --card: #1c222b; --accent: #7db4ee; } img { filter: brightness(.88); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; max-width: 46rem; }
.faint, td.meaning, figcaption, dt { color: var(--faint); }
.headline { background: var(--card); border-left: 4px solid var(--accent); padding: .75rem 1.1rem; margin: 1.25rem 0; }
.headline strong { font-size: 1.6rem; font-weight: 600; display: block; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .94rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--faint); font-size: .85rem; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; font-weight: 600; }
td.meaning { font-size: .88rem; line-height: 1.45; padding-right: 0; }
td:first-child { width: 25%; }
figure { margin: 1.25rem 0; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  display: block; }
figcaption { font-size: .88rem; margin-top: .4rem; max-width: 46rem; }
pre { background: var(--card); border-radius: 6px; padding: .75rem 1rem; margin: .4rem 0 1rem; overflow-x: auto;
  font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
.lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0 1.5rem; }
dl { display: grid; grid-template-columns: minmax(8rem, 11rem) 1fr; gap: .3rem 1rem; margin: 1rem 0;
  font-size: .92rem; }
dt, dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
details { margin-top: 1rem; font-size: .9rem; }
@media (max-width: 40rem) { table, tbody, tr, td { display: block; } thead { display: none; }
  td { border: 0; padding: .05rem 0; } td:first-child { width: auto; } tr { padding: .5rem 0; display: block;
  border-bottom: 1px solid var(--line); } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { :root { --text: #000; --faint: #444; --back: #fff; --line: #ccc; --card: #f4f4f4; --accent: #1f5fa8; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; } img { filter: none; max-height: 11cm; }
  figure, tr, pre, .headline { break-inside: avoid; } h2, h3 { break-after: avoid; } details { display: none; } }
"""


def as_page(
    title: str, headline: tuple[str, str], facts: Mapping[str, str], sections: Sequence[Section], made: str
) -> str:
    """Return the page.

    Args:
        title: of the report.
        headline: the number that stands first, and what it is.
        facts: what the model and the data are, by name.
        sections: of findings, pictures and lists.
        made: by what and when the page was made.
    """
    number, what = map(escape, headline)
    left_out = [(name, why) for section in sections for name, why in section.left_out.items()]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(made)}</p>',
        f'<div class="headline"><strong>{number}</strong>{what}</div>',
        '<p class="faint">A number after = is exact, after ≤ at most that, after ≈ an estimate; after ± stands its '
        "standard error.</p>",
        *(_section(section) for section in sections if section.items),
        "<h2>What was evaluated</h2>",
        _facts(facts),
        _left_out(left_out) if left_out else "",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f'<section id="{escape(section.name)}">', f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(section.text)}</p>", *(_picture(i) for i in section.items if isinstance(i, Picture))]
    if lists := [_listing(item) for item in section.items if isinstance(item, Listing)]:
        parts.append('<div class="lists">' + "\n".join(lists) + "</div>")
    if section.findings:
        parts.append(_table(section.findings))
    return "\n".join([*parts, "</section>"])


def _table(findings: Sequence[Finding]) -> str:
    rows = [
        f'<tr><td>{escape(f.label)}</td><td class="number">{escape(str(f))}</td>'
        f'<td class="meaning">{escape(f.meaning)}</td></tr>'
        for f in findings
    ]
    head = "<thead><tr><th>what</th><th>value</th><th>what it says</th></tr></thead>"
    return f"<table>{head}<tbody>\n" + "\n".join(rows) + "\n</tbody></table>"


def _picture(picture: Picture) -> str:
    data, caption = base64.b64encode(picture.png).decode("ascii"), escape(picture.caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _listing(listing: Listing) -> str:
    lines = "\n".join(escape(line) for line in listing.lines)
    return f"<div><h3>{escape(listing.title)}</h3><pre>{lines}</pre></div>"


def _facts(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _left_out(reasons: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in reasons)
    return f"<details><summary>What does not apply to this model or these rows</summary><ul>{items}</ul></details>"
