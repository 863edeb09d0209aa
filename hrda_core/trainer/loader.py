"""Draws batches before they are needed, in one background thread or in worker processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hrda_core.errors import DataError, HrdaError
from hrda_core.trainer.samples import Samples
from hrda_core.uda.step import Batch

__all__ = ["Loaded", "load_batches"]


@dataclass(frozen=True)
class Loaded:
    """A batch, and how long the loop waited for it, in seconds."""

    batch: Batch
    wait_s: float


def load_batches(samples: Samples, start: int, stop: int, workers: int, *, pin: bool = False) -> Iterator[Loaded]:
    """Yield the batches of iterations `start`..`stop`-1 in order; some of them are drawn ahead.

    Args:
        workers: number of processes; 0 = one thread of this process.
        pin: put batches into page-locked memory, for a GPU.

    Raises:
        DataError: a file cannot be used, or a worker process died.
    """
    source = _by_threads(samples, start, stop) if workers == 0 else _by_processes(samples, start, stop, workers, pin)
    while True:
        begin = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            return
        yield Loaded(batch, time.perf_counter() - begin)


def _by_threads(samples: Samples, start: int, stop: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = [pool.submit(samples.batch, iteration) for iteration in range(start, min(start + 2, stop))]
        for iteration in range(start, stop):
            batch = pending.pop(0).result()
            if iteration + 2 < stop:
                pending.append(pool.submit(samples.batch, iteration + 2))
            yield batch


class _Iterations(Dataset["Batch | HrdaError"]):
    """Iterations as a map-style data set, so that worker processes can be asked for them."""

    def __init__(self, samples: Samples, start: int, stop: int) -> None:
        self.samples, self.start, self.stop = samples, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch | HrdaError:
        try:
            return self.samples.batch(self.start + index)
        except HrdaError as error:
            return error  # raised by the reader: the loader would wrap its sentence into a traceback


def _by_processes(samples: Samples, start: int, stop: int, workers: int, pin: bool) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        _Iterations(samples, start, stop),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        worker_init_fn=_one_thread,
        # Its own generator: the loader would draw from the global one, and a resumed run would differ.
        generator=torch.Generator().manual_seed(0),
    )
    try:
        for batch in loader:
            if isinstance(batch, HrdaError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a process that loads training data died ({str(error).splitlines()[0]}): out of memory, or killed; "
            f"the last checkpoint is whole: go on with --resume auto, perhaps with fewer --runtime.workers"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
