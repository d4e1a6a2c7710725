"""Lists of file names, short where names are numbered: ``scan_{0001..0256}.mib``, as shells write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from natsort import natsorted

NUMBER = re.compile(r"\d+", re.ASCII)
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}", re.ASCII)
FEWEST = 3  # names; fewer are not shortened
MOST = 1_000_000  # names that are believed


def shortened(names: Iterable[str]) -> list[str]:
    """Return names in natural order, with a range for names that count up by one.

    Examples
    --------
    >>> shortened(["scan.hdr", "scan_9.mib", "scan_10.mib", "scan_11.mib", "scan_13.mib"])
    ['scan.hdr', 'scan_{9..11}.mib', 'scan_13.mib']
    """
    short: list[str] = []
    run: list[str] = []
    counting: int | None = None
    for name in natsorted(names):
        counts = _counting(run[-1], name) if run else None
        if run and (counts is None or counting not in (None, counts)):
            short += _written(run, counting)
            run, counts = [], None
        run.append(name)
        counting = counts
    return short + _written(run, counting)


def expanded(short: Iterable[str]) -> Iterator[str]:
    """Yield the names that shortened ones stand for.

    Examples
    --------
    >>> list(expanded(["a.hdr", "a{098..101}.mib"]))
    ['a.hdr', 'a098.mib', 'a099.mib', 'a100.mib', 'a101.mib']
    """
    for text in short:
        found = RANGE.search(text)
        if found is None or not 0 <= int(found[2]) - int(found[1]) < MOST:
            yield text
            continue
        for number in range(int(found[1]), int(found[2]) + 1):
            yield f"{text[: found.start()]}{number:0{len(found[1])}}{text[found.end() :]}"


def _counting(name: str, following: str) -> int | None:
    """Return which number of a name is one more in the following one, if they differ in nothing else."""
    if NUMBER.sub("#", name) != NUMBER.sub("#", following):
        return None
    pairs = zip(NUMBER.findall(name), NUMBER.findall(following), strict=True)
    different = [(k, a, b) for k, (a, b) in enumerate(pairs) if a != b]
    if len(different) != 1:
        return None
    k, a, b = different[0]
    return k if f"{int(a) + 1:0{len(a)}}" == b else None


def _written(run: list[str], counting: int | None) -> list[str]:
    if len(run) < FEWEST or counting is None:
        return run
    first = list(NUMBER.finditer(run[0]))[counting]
    last = NUMBER.findall(run[-1])[counting]
    return [f"{run[0][: first.start()]}{{{first[0]}..{last}}}{run[0][first.end() :]}"]
