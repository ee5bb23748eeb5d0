"""Schedules tests: which share a process, and which start first.

``python tests/schedule.py REPORT.xml…`` renews ``durations.json`` from reports that pytest wrote by ``--junit-xml``;
with ``--slow`` before them, ``durations_slow.json``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

DURATIONS, SLOW_DURATIONS = (Path(__file__).with_name(name) for name in ("durations.json", "durations_slow.json"))
# Their files share servers, a browser, and maps that take long to make.
SHARING = ("tests/browser", "tests/faults", "tests/s3")
# The tests of the page are two units, as one would still be running when all others have ended: of these files, and of
# the others.
HALF_OF_THE_PAGE = (
    "test_filters.py",
    "test_find.py",
    "test_growth.py",
    "test_images.py",
    "test_select.py",
    "test_tags.py",
    "test_truth.py",
)
# Of a file that was not measured, in seconds.
UNKNOWN = 5.0


def unit_of(nodeid: str) -> str:
    """What stays in one process: a file, or a folder whose files share what is made once a session."""
    file = nodeid.partition("::")[0]
    if file.startswith("tests/browser/") and file.endswith(HALF_OF_THE_PAGE):
        return "half of tests/browser"
    return next((folder for folder in SHARING if file.startswith(f"{folder}/")), file)


def longest_first(items: list[Any], *, slow: bool) -> None:
    """Sort tests by what their units take: a long one that started last would run while all others have ended."""
    seconds: Counter[str] = Counter()
    for file, taken in json.loads((SLOW_DURATIONS if slow else DURATIONS).read_text()).items():
        seconds[unit_of(file)] += taken
    items.sort(key=lambda item: -seconds.get(unit_of(item.nodeid), UNKNOWN))


def scheduler(config: Any, log: Any) -> Any:
    """What gives units to the processes of pytest-xdist, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    # By default it would start with the units of most tests, however short they are.
    config.option.loadscopereorder = False
    return Units(config, log)


def measured(report: Path) -> Counter[str]:
    """Seconds of each file in a report, with the fixtures of its tests."""
    seconds: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        seconds[case.attrib["classname"].replace(".", "/") + ".py"] += float(case.attrib["time"])
    return seconds


def record(reports: Mapping[str, float], path: Path) -> None:
    kept = {file: round(seconds) for file, seconds in sorted(reports.items()) if seconds >= 1}
    path.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    all_files: Counter[str] = Counter()
    slow = sys.argv[1] == "--slow"
    for name in sys.argv[1 + slow :]:
        all_files += measured(Path(name))
    record(all_files, SLOW_DURATIONS if slow else DURATIONS)
