"""Batches made in a thread while the step before computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import Protocol, TypeVar

Batch = TypeVar("Batch", covariant=True)


class Batches(Protocol[Batch]):
    """What gives the batch of any step."""

    def __getitem__(self, step: int) -> Batch: ...


def ahead(
    batches: Batches[Batch], first: int, last: int, depth: int = 4
) -> Generator[Batch, None, None]:
    """Yields the batches of the steps [first, last) while the next ones are made in a thread.

    Args:
        batches: Asked for each step, in order.
        first: First step.
        last: One beyond the last step.
        depth: Batches that wait at the most.

    Raises:
        InputError: A file cannot be read; raised where the batch would have been yielded.
    """
    ready: queue.Queue[Batch | BaseException] = queue.Queue(depth)
    stop = threading.Event()

    def work() -> None:
        for step in range(first, last):
            try:
                item: Batch | BaseException = batches[step]
            except BaseException as error:
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or isinstance(item, BaseException):
                return

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        for _ in range(first, last):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
