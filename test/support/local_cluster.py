"""A dask.distributed cluster of this machine: the scheduler in this process, its workers in others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ALLOWED_FAILURES = 1


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """A LocalCluster, on 127.0.0.1 alone. A task whose worker died is done again once."""
    import dask
    from distributed import LocalCluster

    settings = {"distributed.scheduler.allowed-failures": ALLOWED_FAILURES, "distributed.admin.tick.interval": "1h"}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster
