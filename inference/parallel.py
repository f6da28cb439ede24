"""Tasks of one function on joblib: in this process, in other processes, or on the workers of a cluster.

The function must be picklable by cloudpickle, and must return its errors as values: an error that is raised means that
a worker was lost (killed, out of memory, machine lost).
"""

import threading
import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any

import joblib  # type: ignore[import-untyped]

Results = Generator[tuple[Any, Any], None, None]

EXCLUSIVE = threading.RLock()
"""Held by a task that uses the state of its process: random state, Pyro's handlers, torch's threads.

If workers are threads of one process, such tasks take turns. A task may run others in its own thread, such as a refit
by `Blocks` with one job.
"""


def send(
    function: Callable[[Any], Any], tasks: Mapping[Any, Any], *, jobs: int | None, pre_dispatch: str = "2 * n_jobs"
) -> Results:
    """Yield ``(key, function(task))`` for each task, in the order in which tasks end, on the caller's joblib backend.

    ``jobs`` None takes the ``n_jobs`` of the caller's ``joblib.parallel_config``; ``pre_dispatch`` is that of
    `joblib.Parallel`. If a worker is lost, the error of the backend is raised, on Dask after the other results,
    otherwise at once. Close the generator to cancel the remaining tasks.
    """
    backend, _ = joblib.parallel.get_active_backend()
    if type(backend).__name__ == "DaskDistributedBackend":
        yield from _send_to_dask(backend, function, tasks)
        return
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=pre_dispatch, return_as="generator_unordered")
    yield from parallel(joblib.delayed(_keyed)(function, key, task) for key, task in list(tasks.items()))


def close(results: Results) -> None:
    """Cancel the tasks that have not ended, without the warning of joblib."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results.close()


def send_all(
    function: Callable[[Any], Any], tasks: Mapping[Any, Any], lost: dict[Any, str], *, jobs: int | None, retries: int
) -> Results:
    """Like `send`, but the tasks of lost workers are sent again.

    The loss of a worker may also end tasks of other workers, and the backend does not say which task caused it. Missing
    tasks are therefore sent again, in reverse order, as long as this brings results. Each of the rest is then sent
    alone, up to ``retries`` times (at least once). Tasks that fail alone are given up.

    Args:
        function: see `send`.
        tasks: the tasks by key.
        lost: filled with the error of the backend for each task that was given up, by key.
        jobs: see `send`.
        retries: number of times that a task is sent alone.
    """
    missing = dict(tasks)
    while missing:
        before = len(missing)
        yield from _round(function, missing, jobs)
        if len(missing) == before:
            break
        missing = dict(reversed(missing.items()))
    for key in list(missing):
        for _ in range(max(1, retries)):
            one = {key: missing[key]}
            error = yield from _round(function, one, jobs)
            if not one:
                break
        else:
            lost[key] = error


def _round(
    function: Callable[[Any], Any], missing: dict[Any, Any], jobs: int | None
) -> Generator[tuple[Any, Any], None, str]:
    """Send the missing tasks and remove those that end; returns the error of a lost worker, or ""."""
    results = send(function, missing, jobs=jobs)
    try:
        for key, result in results:
            del missing[key]
            yield key, result
    except Exception as raised:  # noqa: BLE001 - each backend reports a lost worker by an error of another type
        return f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
    finally:
        close(results)
    return ""


def _keyed(function: Callable[[Any], Any], key: Any, task: Any) -> tuple[Any, Any]:
    return key, function(task)


def _send_to_dask(backend: Any, function: Callable[[Any], Any], tasks: Mapping[Any, Any]) -> Results:
    """`send` by Dask's own client: joblib's backend (1.6) waits forever for a task that was lost with its worker."""
    from distributed import as_completed  # type: ignore[import-untyped,unused-ignore]

    # Dask itself moves a task to another worker a few times ("distributed.scheduler.allowed-failures").
    futures = [
        backend.client.submit(_keyed, function, key, task, pure=False, **backend.submit_kwargs)
        for key, task in tasks.items()
    ]
    lost: Exception | None = None
    try:
        for future in as_completed(futures):
            try:
                result = future.result()
            except Exception as error:  # noqa: BLE001 - raised after the other results
                lost = error
                continue
            yield result
    finally:
        backend.client.cancel(futures)
    if lost is not None:
        raise lost
