"""Results of cases as tables, targets and the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
BEGIN, END = "<!-- results: written by benchmarks.run, not by hand -->", "<!-- end of results -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A limit for a figure.

    Attributes
    ----------
    what : str
    value, limit : float
    unit : str
    at_least : bool
        Whether more is better.
    spread : float or None
        Difference between repeats of one side, in the unit of the value, if measured: a figure nearer to its limit
        than that is inconclusive.
    """

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False
    spread: float | None = None

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``unsettled`` if the repeats differ too much to decide."""
        if self.spread is not None and abs(self.value - self.limit) <= self.spread:
            return "unsettled"
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if met else "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a case.

    Attributes
    ----------
    title : str
        One sentence: what is measured, compared with what.
    parameters : dict
        Sizes and settings.
    rows : list of dict
        ``what`` and figures; ``_s`` are seconds, ``_mb`` 10^6 bytes, ``_kb`` 10^3 bytes.
    targets : list of Target
    notes : list of str
        How it is measured, and further remarks.
    """

    title: str
    parameters: dict[str, Any]
    rows: list[dict[str, Any]]
    targets: list[Target] = field(default_factory=list[Target])
    notes: list[str] = field(default_factory=list[str])

    def as_dict(self) -> dict[str, Any]:
        """The result as in the files of ``results/``."""
        values = asdict(self)
        values["targets"] = [asdict(target) | {"verdict": target.verdict} for target in self.targets]
        return _rounded(values)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value


def format_figure(value: Any) -> str:
    """Format a figure: three significant digits, thousands separated."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows as a Markdown table of all their columns, in order of first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = [name.replace("_s", " s").replace("_mb", " MB").replace("_kb", " kB").replace("_", " ") for name in names]
    head = ["" if name == "what" else name for name in head]
    lines = [
        head,
        ["---"] + ["---:"] * (len(names) - 1),
        *([format_figure(row.get(name)) for name in names] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe(case: str, record: Mapping[str, Any]) -> str:
    """Format a case as Markdown."""
    parameters = ", ".join(
        f"{name.replace('_', ' ')} {format_figure(value)}" for name, value in record["parameters"].items()
    )
    hardware = record["environment"]["hardware"]
    place = (
        f"{record['date']}, {hardware['processor']}, {hardware['processors']} processors, "
        f"{hardware['memory_bytes'] / 2**30:.0f} GiB, commit {record['commit']}, load before the case {record['load']}"
    )
    parts = [f"### {case}", record["title"], f"*{parameters}; {place}.*", table(record["rows"])]
    parts += ["\n".join(f"- {note}" for note in record["notes"])] if record["notes"] else []
    return "\n\n".join(parts)


def verdicts(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Format all targets of all cases, including missed ones, as one Markdown table."""
    rows = [
        {
            "case": case,
            "target": target["what"],
            "wanted": f"{_sign(target)} {format_figure(target['limit'])} {target['unit']}".rstrip(),
            "measured": f"{format_figure(target['value'])} {target['unit']}".rstrip() + _spread(target),
            "": "met" if target["verdict"] == "met" else f"**{target['verdict']}**",
        }
        for case, record in records.items()
        for target in record["targets"]
    ]
    return table(rows) if rows else ""


def _sign(target: Mapping[str, Any]) -> str:
    return "≥" if target["at_least"] else "≤"


def _spread(target: Mapping[str, Any]) -> str:
    return (
        "" if target["spread"] is None else f" (repeats differ by {format_figure(target['spread'])} {target['unit']})"
    )


def read_results() -> dict[str, dict[str, Any]]:
    """Read all committed results, by case."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def write_readme() -> None:
    """Write the tables of all committed results into README.md, between the two markers."""
    readme = FOLDER / "README.md"
    records = read_results()
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n\n".join([verdicts(records), *(describe(case, record) for case, record in records.items())])
    readme.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")
