"""A sweep on a Dask scheduler and two workers, started as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from diag.common.sweep import results, run
from diag.common.task import Task
from diag.errors import UserError

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path):
    """(address, worker processes)."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    with (tmp_path / "log").open("w") as log:
        processes = [
            subprocess.Popen(
                [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file],
                stdout=log, stderr=log,
            ),
            *(
                subprocess.Popen(
                    [*dask, "worker", "--scheduler-file", file, "--name", name, "--no-nanny", "--nthreads", "1",
                     "--resources", "GPU=1", "--no-dashboard"],
                    stdout=log, stderr=log,
                )
                for name in ("first", "second")
            ),
        ]  # fmt: skip
        try:
            yield _address(file), processes[1:]
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _address(file) -> str:
    from distributed import Client

    with Client(scheduler_file=str(file), timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        return json.loads(file.read_text())["address"]


def test_a_worker_that_dies_loses_and_doubles_nothing(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("diag.common.cluster.GONE", 3.0)
    address, workers = cluster
    tasks = [Task(f"t{n}", "subprocess:run", {"args": ["sleep", "1"]}, resources={"GPU": 1}) for n in range(5)]
    tasks += [Task("variable", "os:getenv", {"key": "LOCKSTEP_TEST"}, {"LOCKSTEP_TEST": "on"})]
    tasks += [Task("there", "builtins:dict", {"seed": 1}, worker="second"), Task("dies", "os:_exit", {"status": 7})]
    bound = Task("bound", "subprocess:run", {"args": ["sleep", "1000"]}, worker="first")
    found = []
    for done in run([*tasks, bound], tmp_path / "cluster", cluster=address):
        found.append(done)
        if len(found) == 1:
            time.sleep(0.5)  # both are in the middle of something
            workers[0].kill()
    assert sorted(done.key for done in found) == sorted(task.key for task in (*tasks, bound))
    assert next(done.error for done in found if done.key == "bound") == "its worker first is gone"
    list(run(tasks, tmp_path / "here", jobs=2))
    there, here = ([(done.key, done.value, done.error) for done in results(tasks, tmp_path / name)]
                   for name in ("cluster", "here"))  # fmt: skip
    assert there == here

    for worker, resources in (("first", {}), (None, {"TPU": 2})):
        with pytest.raises(UserError, match=r"no worker can run it.*dask worker"):
            list(run([Task("it", "builtins:dict", {}, {}, resources, worker=worker)], tmp_path / "x", cluster=address))
