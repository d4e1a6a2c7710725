"""Which files are one data set: those that are read together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..finding import natural
from .crawl import Dataset


def grouped(found: Iterable[Dataset]) -> list[Dataset]:
    """Join what was found by way of different files of the same data set, in natural order of their places.

    A data set is joined with another one

    - if both have the same pixels. A file without pixels then stands for them, such as a header: it knows the most;
    - if its pixels are some of the other's;
    - if all of its pixels were read for the other's header, and not also the other way round: references for dark
      and gain, the further series of an acquisition.
    """
    joined = _consulted(_parts(_same_pixels(sorted(found, key=lambda one: natural(one.place)))))
    owners = {name: k for k, one in enumerate(joined) for name in one.pixels}
    return [_without(one, {name for name in one.files if owners.get(name, k) != k}) for k, one in enumerate(joined)]


def _same_pixels(found: Iterable[Dataset]) -> list[Dataset]:
    by_pixels: dict[frozenset[str], list[Dataset]] = {}
    for one in found:
        by_pixels.setdefault(one.pixels, []).append(one)
    chosen = []
    for group in by_pixels.values():
        best = next((one for one in group if one.uri not in one.pixels), group[0])
        chosen.append(_joined(best, [one for one in group if one is not best]))
    return chosen


def _parts(found: list[Dataset]) -> list[Dataset]:
    """Join data sets whose pixels are some of another's."""
    larger: dict[str, list[int]] = {}
    for k, one in enumerate(found):
        if len(one.pixels) > 1:
            for name in one.pixels:
                larger.setdefault(name, []).append(k)
    hosts = {}
    for k, one in enumerate(found):
        candidates = [h for h in larger.get(min(one.pixels), ()) if one.pixels < found[h].pixels]
        if candidates:
            hosts[k] = max(candidates, key=lambda h: len(found[h].pixels))
    return _hosted(found, hosts)


def _consulted(found: list[Dataset]) -> list[Dataset]:
    """Join data sets whose pixels another one read for its header."""
    readers: dict[str, list[int]] = {}
    for k, one in enumerate(found):
        for name in one.files - one.pixels:
            readers.setdefault(name, []).append(k)
    hosts = {}
    for k, one in enumerate(found):
        for h in readers.get(min(one.pixels), ()):
            if h != k and one.pixels <= found[h].files and not found[h].pixels <= one.files:
                hosts[k] = h
                break
    return _hosted(found, hosts)


def _hosted(found: list[Dataset], hosts: dict[int, int]) -> list[Dataset]:
    """Join every data set that has a host with it, or with the host's host; those in a circle stay alone."""
    guests: dict[int, list[Dataset]] = {}
    gone = set()
    for k in hosts:
        way = [k]
        while way[-1] in hosts and hosts[way[-1]] not in way:
            way.append(hosts[way[-1]])
        if way[-1] not in hosts:
            guests.setdefault(way[-1], []).append(found[k])
            gone.add(k)
    return [_joined(one, guests.get(k, [])) for k, one in enumerate(found) if k not in gone]


def _joined(one: Dataset, others: list[Dataset]) -> Dataset:
    if not others:
        return one
    files = one.files.union(*(other.files for other in others))
    stamps = {name: stamp for known in (*others, one) for name, stamp in known.stamps.items()}
    return replace(one, files=files, stamps=stamps)


def _without(one: Dataset, names: set[str]) -> Dataset:
    """Return a data set without files that are another's."""
    if not names:
        return one
    return replace(one, files=one.files - names)
