"""Tasks over joblib: each result comes with its key, and the tasks of lost workers are sent again."""

import joblib
import pytest

from posterity.inference.parallel import close, send, send_all


def square(task):
    return task**2


TASKS = {f"task {n}": n for n in range(6)}
SQUARES = {f"task {n}": n**2 for n in range(6)}


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_every_task_comes_back_with_its_key(backend):
    with joblib.parallel_config(backend, n_jobs=2):
        assert dict(send(square, TASKS, jobs=None)) == SQUARES
        assert list(send(square, {}, jobs=None)) == []


def test_the_remaining_tasks_of_a_closed_generator_are_not_done():
    done = []
    results = send(done.append, TASKS, jobs=1)
    next(results)
    close(results)
    assert len(done) < len(TASKS)


class Losing:
    """A worker that is lost the first ``times`` at which it gets a task; counts how often it gets each."""

    def __init__(self, times):
        self.times, self.calls = dict(times), []

    def __call__(self, task):
        self.calls.append(task)
        if self.times.get(task, 0):
            self.times[task] -= 1
            raise MemoryError("killed\nat some line")
        return task**2


def test_the_tasks_of_a_lost_worker_are_sent_again():
    losing, lost = Losing({2: 1}), {}
    assert dict(send_all(losing, TASKS, lost, jobs=1, retries=2)) == SQUARES
    assert lost == {}
    # Those behind the lost one come back in the second round, in reverse order, and none comes back twice.
    assert losing.calls == [0, 1, 2, 5, 4, 3, 2]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_task_that_is_lost_alone_is_given_up_and_named(retries):
    losing, lost = Losing({2: 100}), {}
    found = dict(send_all(losing, TASKS, lost, jobs=1, retries=retries))
    assert found == {key: value for key, value in SQUARES.items() if key != "task 2"}
    assert lost == {"task 2": "MemoryError: killed"}
    # Once with all, once behind the others in reverse order, once in a round that brings nothing, and then alone.
    assert losing.calls.count(2) == 3 + max(1, retries)


def test_tasks_that_are_lost_beside_others_come_back_alone():
    losing, lost = Losing({0: 2}), {}  # the first of a round: the round brings nothing
    assert dict(send_all(losing, TASKS, lost, jobs=1, retries=2)) == SQUARES
    assert lost == {}
    assert losing.calls == [0, 0, 0, 1, 2, 3, 4, 5]


def test_the_error_of_a_lost_worker_is_raised_by_a_single_round():
    with pytest.raises(MemoryError, match="killed"):
        list(send(Losing({3: 1}), TASKS, jobs=1))
