"""Many tasks of one function over joblib: in this process, in others, or on the workers of a cluster.

Whose worker was lost (killed, out of memory, a machine gone) is sent again. Nothing is assumed of the function but
that it can be pickled by cloudpickle and returns its own errors as values: one that is raised means a lost worker.
"""

import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any

import joblib  # type: ignore[import-untyped]

Results = Generator[tuple[Any, Any], None, None]


def spread(
    function: Callable[[Any], Any], tasks: Mapping[Any, Any], lost: dict[Any, str], *, jobs: int | None, retries: int
) -> Results:
    """``(key, function(task))`` of all tasks, as they come in, on the caller's joblib backend.

    ``jobs`` None takes the ``n_jobs`` of the caller's ``joblib.parallel_config``. A worker that dies may take others
    with it, and nobody says which task it had. So what is missing is sent again, in the opposite order, as long as
    that brings anything; what is left then is sent by itself, up to ``retries`` times (once at least), and given up:
    it is in ``lost``, with the backend's error.
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
    """Send what is missing, and take from it what comes back; returns how a worker was lost, if one was."""
    results = _send(function, missing, jobs)
    try:
        for key, result in results:
            del missing[key]
            yield key, result
    except Exception as raised:  # noqa: BLE001 - of whatever kind a backend reports the loss of a worker by
        return f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
    finally:
        with warnings.catch_warnings():  # that unfinished tasks are given up is meant
            warnings.simplefilter("ignore")
            results.close()
    return ""


def _keyed(function: Callable[[Any], Any], key: Any, task: Any) -> tuple[Any, Any]:
    return key, function(task)


def _send(function: Callable[[Any], Any], tasks: Mapping[Any, Any], jobs: int | None) -> Results:
    backend, _ = joblib.parallel.get_active_backend()
    if type(backend).__name__ == "DaskDistributedBackend":
        yield from _send_to_dask(backend, function, tasks)
        return
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    yield from parallel(joblib.delayed(_keyed)(function, key, task) for key, task in list(tasks.items()))


def _send_to_dask(backend: Any, function: Callable[[Any], Any], tasks: Mapping[Any, Any]) -> Results:
    """By Dask's own client: joblib's backend (1.6) waits forever for a task that died with its worker."""
    from distributed import as_completed  # type: ignore[import-untyped,unused-ignore]

    # Dask itself moves a task to another worker some times ("distributed.scheduler.allowed-failures").
    futures = [
        backend.client.submit(_keyed, function, key, task, pure=False, **backend.submit_kwargs)
        for key, task in tasks.items()
    ]
    lost: Exception | None = None
    try:
        for future in as_completed(futures):
            try:
                result = future.result()
            except Exception as error:  # noqa: BLE001 - raised once the others are in
                lost = error
                continue
            yield result
    finally:
        backend.client.cancel(futures)
    if lost is not None:
        raise lost
