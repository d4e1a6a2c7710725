"""Handing blocks of dask arrays over, one by one, to somebody who alone may take them."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest

from intake_emio.frames.store import hand_over


class Block:
    """Something that is made of a block, whose life can be watched."""

    def __init__(self, number):
        self.number = number


def blocks(count, made=None):
    """A lazy array whose blocks are objects with their numbers."""

    def make(block_id=None):
        if made is not None:
            made.append(block_id[0])
        return Block(block_id[0])

    return da.map_blocks(make, chunks=((1,) * count,), dtype=object, meta=np.empty((0,), object))


SCHEDULERS = pytest.mark.parametrize("scheduler", ["synchronous", "threads"])


@SCHEDULERS
def test_every_block_is_handed_over_once_in_the_thread_that_asks(scheduler):
    taken, threads = [], set()

    def take(block):
        taken.append(block.number)
        threads.add(threading.current_thread())

    with dask.config.set(scheduler=scheduler):
        hand_over([blocks(20)], take)
    assert sorted(taken) == list(range(20))
    assert threads == {threading.current_thread()}


@SCHEDULERS
def test_few_blocks_are_on_their_way_and_none_is_kept(scheduler):
    made, alive, most = [], [], 0

    def take(block):
        nonlocal most
        alive.append(weakref.ref(block))
        del block
        most = max(most, len(made) - len(alive), sum(reference() is not None for reference in alive))

    with dask.config.set(scheduler=scheduler, num_workers=2):
        hand_over([blocks(50, made)], take)
    assert len(alive) == 50
    assert most <= 4


def test_what_several_arrays_need_is_computed_once():
    made, taken = [], []
    shared = blocks(5, made)
    numbers = shared.map_blocks(lambda block: block.number, dtype=int, meta=np.empty((0,), int))
    squares = shared.map_blocks(lambda block: block.number**2, dtype=int, meta=np.empty((0,), int))
    hand_over([numbers, squares], taken.append)
    assert sorted(made) == list(range(5))
    assert sorted(taken) == sorted([*range(5), *(n**2 for n in range(5))])


def test_several_threads_can_take_at_the_same_time():
    def take_all(_):
        taken = []
        hand_over([blocks(10)], lambda block: taken.append(block.number))
        return sorted(taken)

    with ThreadPoolExecutor(8) as threads:
        assert all(taken == list(range(10)) for taken in threads.map(take_all, range(32)))


def test_schedulers_that_tell_nothing_hand_over_at_the_end():
    taken = []

    def plain(graph, keys, **options):
        return dask.get(graph, keys)

    with dask.config.set(scheduler=plain):
        hand_over([blocks(5)], lambda block: taken.append(block.number))
    assert sorted(taken) == list(range(5))


@SCHEDULERS
def test_who_cannot_take_a_block_stops_the_computation(scheduler):
    made = []

    def take(block):
        raise OSError("disk full")

    with dask.config.set(scheduler=scheduler, num_workers=1), pytest.raises(OSError, match="disk full"):
        hand_over([blocks(50, made)], take)
    assert len(made) < 50


def test_a_cluster_hands_over_one_by_one():
    distributed = pytest.importorskip("distributed")
    taken = []
    numbers = da.arange(20, chunks=1)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        hand_over([numbers.map_blocks(lambda block: block * 2)], lambda block: taken.append(block.item()))
        with pytest.raises(ZeroDivisionError):
            hand_over([numbers.map_blocks(lambda block: 1 // block.item(), dtype=int)], lambda block: None)
    assert sorted(taken) == list(range(0, 40, 2))
