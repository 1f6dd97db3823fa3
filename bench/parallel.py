"""Independent tasks computed here, in K processes, or on a Dask cluster: by an executor of `concurrent.futures` each.

`executors` opens one of the three, `finished` yields futures as they end. Two runs of a task give the same bits where
BLAS has the same number of threads: `bench.figures` sets it to one, as Dask's workers do by themselves.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

LOOK = 10.0  # seconds after which a cluster that finishes nothing is asked whether it has workers left


class LostError(OSError):
    """Processes, or a cluster, that ended before their work did."""


class Here(Executor):
    """Computes a task when it is submitted."""

    def submit(self, fn: Callable, /, *args: Any, **options: Any) -> Future:
        future = Future()
        try:
            future.set_result(fn(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Workers:
    """executor: computes tasks; at_once: how many are given to it at a time; look: raises LostError if nobody works."""

    executor: Executor
    at_once: int
    look: Callable[[], None] = lambda: None


def executors(jobs: int, cluster: str | None) -> AbstractContextManager[Workers]:
    """Workers to enter: this process for one job, K processes for K, or the Dask cluster with this address."""
    if cluster:
        return _cluster(cluster)
    return _processes(jobs) if jobs > 1 else _here()


@contextmanager
def _here() -> Iterator[Workers]:
    yield Workers(Here(), 1)


@contextmanager
def _processes(jobs: int) -> Iterator[Workers]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads, and a GPU's state
    ignored = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process to handle
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, context, initializer=signal.signal, initargs=ignored)
    try:
        yield Workers(pool, jobs)
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    """Raises ValueError where distributed is missing, LostError where no cluster answers or it has no workers."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"--cluster needs distributed, the extra refngd[cluster]: {error}") from error
    try:
        client = Client(address, timeout=LOOK)
    except (OSError, ValueError) as error:  # nobody there; no address
        raise LostError(f"no cluster answers at {address}: {error}") from error

    def look() -> None:
        try:
            threads = client.nthreads()
        except OSError as error:
            raise LostError(f"the cluster at {address} does not answer: {error}") from error
        if not threads:
            raise LostError(f"the cluster at {address} has no workers")

    with client:
        look()
        yield Workers(client.get_executor(), 10**9, look)


def finished(workers: Workers, tasks: Iterable[Any], call: Callable[[Any], tuple]) -> Iterator[tuple[Any, Future]]:
    """Each task with its future, as they end; call(task) is the function and its arguments.

    Raises LostError if the workers end before.
    """
    waiting, running = iter(tasks), {}
    while True:
        for task in islice(waiting, workers.at_once - len(running)):
            running[workers.executor.submit(*call(task))] = task
        if not running:
            return
        done, _ = wait(running, LOOK, FIRST_COMPLETED)
        if not done:
            workers.look()
        for future in done:
            error = CancelledError() if future.cancelled() else future.exception()
            if isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ == "KilledWorker":
                raise LostError(f"workers ended before their work did: {error or type(error).__name__}") from error
            yield running.pop(future), future
