"""A cluster of processes on this machine, and what passes through its scheduler."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@functools.cache
def client(workers: int) -> Any:
    """Client of a cluster of single-threaded processes; it lives until `close`."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
    return Client(cluster, set_as_default=False)


def close(workers: int) -> None:
    """End the cluster, if there is one."""
    if client.cache_info().currsize:
        running = client(workers)
        running.close()
        running.cluster.close()
        client.cache_clear()


@dataclass
class Counted:
    """Bytes that were received."""

    total: int = 0


@contextlib.contextmanager
def bytes_through(client: Any) -> Iterator[Counted]:
    """Count what the scheduler of a local cluster, which lives in this process, receives: graphs, news and results.

    What the client receives from the scheduler arrives in this process too, and does not count again.
    """
    from distributed.comm import tcp

    counted = Counted()
    port = int(client.scheduler.address.rsplit(":", 1)[1])
    read = tcp.read_bytes_rw

    async def counting_read(stream: Any, n: int) -> memoryview:
        if stream.socket.getpeername()[1] != port:
            counted.total += n
        return await read(stream, n)

    tcp.read_bytes_rw = counting_read
    try:
        yield counted
    finally:
        tcp.read_bytes_rw = read
