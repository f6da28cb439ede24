"""The pool of workers: each task once, lost workers' tasks again, and errors of the backend by their task."""

import os
import threading

import joblib
import pytest

from posterity.inference.parallel import EXCLUSIVE, close, send, send_all


def square(number):
    return number**2


def dies_once(task):
    """Ends its process where the file is not there yet."""
    number, path = task
    if number == 2 and not path.exists():
        path.write_text("")
        os._exit(1)
    return number


def dies_always(task):
    if task == 2:
        os._exit(1)
    return task


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_every_task_has_its_result(backend):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert dict(send(square, {f"task {n}": n for n in range(20)}, jobs=None)) == {
            f"task {n}": n**2 for n in range(20)
        }


def test_what_is_not_wanted_any_more_can_be_given_up():
    with joblib.parallel_config(backend="sequential"):
        results = send(square, dict(enumerate(range(5))), jobs=1)
        assert next(results) == (0, 0)
        close(results)
        assert list(results) == []


def test_the_task_of_a_lost_worker_is_sent_again(tmp_path):
    lost = {}
    tasks = {n: (n, tmp_path / "died") for n in range(4)}
    with joblib.parallel_config(backend="loky", n_jobs=2):
        results = dict(send_all(dies_once, tasks, lost, jobs=None, retries=1))
    assert results == {n: n for n in range(4)}
    assert lost == {}


@pytest.mark.slow
def test_a_task_that_kills_its_worker_is_given_up_and_the_others_are_not():
    lost = {}
    with joblib.parallel_config(backend="loky", n_jobs=2):
        results = dict(send_all(dies_always, dict(enumerate(range(4))), lost, jobs=None, retries=1))
    assert results == {n: n for n in (0, 1, 3)}
    assert list(lost) == [2]
    assert "Terminated" in lost[2]


def test_tasks_of_one_process_take_turns():
    inside, most = [0], [0]

    def task(_):
        with EXCLUSIVE:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            threading.Event().wait(0.001)
            inside[0] -= 1

    with joblib.parallel_config(backend="threading", n_jobs=4):
        list(send(task, dict(enumerate(range(12))), jobs=None))
    assert most[0] == 1
