"""Independent pieces of work side by side, each in a process of its own."""

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


def side_by_side(
    work: Mapping[str, Callable[[], Any]], workers: int, *, title: str = "parts", logs: Path | None = None
) -> None:
    """Call each once, at most ``workers`` at a time, in their order.

    An interrupt or an error ends those that wait; those under way are finished first, so that nothing of them is lost.
    All must be importable by another process: functions of a module, or ``partial`` of one. What each writes to stderr,
    such as its own progress, goes to ``logs``/<name>.log, or stays.
    """
    bar = tqdm(total=len(work), desc=title, disable=not work)
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    with bar, pool:
        futures = {pool.submit(_logged, call, logs and logs / f"{name}.log"): name for name, call in work.items()}
        try:
            for future in as_completed(futures):
                future.result()
                bar.set_postfix_str(futures[future])
                bar.update()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _logged(call: Callable[[], Any], log: Path | None) -> None:
    if log is None:
        call()
        return
    kept = sys.stderr
    with log.open("a") as sys.stderr:
        try:
            call()
        finally:
            sys.stderr = kept


def _end_with_parent(parent: int) -> None:
    """A worker whose parent was killed would go on for minutes, beside the run that takes its place."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
