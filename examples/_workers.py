"""Independent functions in parallel, each in its own process."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm


def run_in_processes(
    calls: Mapping[str, Callable[[], Any]],
    workers: int,
    *,
    title: str = "parts",
    logs: Path | None = None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Call each function once, in this order, in at most ``workers`` processes at a time.

    After an interrupt or an error no further call is started, and the running ones are finished, so that their results
    are not lost. Another process must be able to import the functions: functions of a module, or ``partial`` of one.
    With ``logs``, the stderr of each call (its progress bar, for example) goes to ``logs``/<name>.log. ``after`` is
    called in this process after each call.
    """
    bar = tqdm(total=len(calls), desc=title, disable=not calls)
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    with bar, pool:
        futures = {pool.submit(_call_logged, call, logs and logs / f"{name}.log"): name for name, call in calls.items()}
        try:
            for future in as_completed(futures):
                future.result()
                bar.set_postfix_str(futures[future])
                bar.update()
                after()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _call_logged(call: Callable[[], Any], log: Path | None) -> None:
    if log is None:
        call()
        return
    stderr = sys.stderr
    with log.open("a") as sys.stderr:
        try:
            call()
        finally:
            sys.stderr = stderr


def _end_with_parent(parent: int) -> None:
    """End this worker if its parent is killed; otherwise it would run for minutes beside the repeated run."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
