"""The executor in the driver's own process."""

from __future__ import annotations

import pytest

from service.executors.serial import SerialExecutor
from tests.service.executors.conformance import ExecutorConformance, setup_of, tasks_of
from tests.service.studies import toy_spec


class TestSerialExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> SerialExecutor:
        return SerialExecutor()


def test_it_takes_one_task_at_a_time() -> None:
    executor = SerialExecutor()
    assert (executor.room(), executor.workers()) == (0, 0)
    executor.start(setup_of(toy_spec()), lambda kind, message, fields: None)
    assert (executor.room(), executor.workers()) == (1, 1)
    executor.submit(tasks_of(toy_spec())[0])
    assert executor.room() == 0
    assert len(executor.wait(0.0)) == 1
    assert executor.room() == 1
