"""A report of gradient estimators as text."""

from typing import Any


def table(report: Any) -> str:
    """Return a report as text: one row for each estimator, over all groups (along a trajectory: at its last step).

    `*` marks a bias beyond the limit of chance; what could not be measured is a dash, with the reason below.

    Args:
        report: what `gradient_report` returned.
    """
    at = report.isel(step=-1) if "step" in report.dims else report
    rows = [
        ("estimator", "total variance", "max", "|z|", "snr", "cosine", "evaluations", "ms", "variance × evaluations")
    ]
    for name in at.estimator.values:
        one = at.sel(estimator=name)
        if one.reason.item():
            rows.append((str(name), *"–" * (len(rows[0]) - 1)))
            continue
        z = float(one.bias_z.max(skipna=False))
        rows.append(
            (
                str(name),
                f"{float(one.variance_total.sum(skipna=False)):.4g}",
                f"{float(one.variance_max.max(skipna=False)):.4g}",
                f"{z:.1f}{' ' if z <= float(at.bias_limit) else '*'}",
                f"{float(one.snr.mean()):.3g}",
                f"{float(one.cosine.mean()):.3f}",
                f"{int(one.evaluations)}",
                f"{1e3 * float(one.seconds):.3g}",
                f"{float(one.work):.4g}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    note = (
        f"{report.num_replicates} gradients each; |z| of the worst component against {report.reference}, "
        f"* beyond {float(at.bias_limit):.1f}: biased"
    )
    reasons = [f"{one}: {reason}" for one, reason in zip(at.estimator.values, at.reason.values, strict=True) if reason]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:], note, *reasons])
