import json
import subprocess
import sys
from pathlib import Path

import pytest

from headwise.errors import InputError, NotFound
from headwise.training.runs import config_hash, find_run, run_folder

CONFIG = {"model": {"width": 5, "heads": 1}, "seed": 3}
HOLD = """
import fcntl, os, sys, time
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
file.write(str(os.getpid())); file.flush()
print("held", flush=True)
time.sleep(600)
"""


def test_an_unfinished_run_is_continued_and_a_finished_one_makes_a_new_one(tmp_path):
    name = f"toy-{config_hash(CONFIG)}"
    with run_folder(tmp_path, "toy", CONFIG) as first:
        assert (first.path.name, first.resumed, first.tracker) == (name, False, "")
        first.tracked_by("r7")
    with run_folder(tmp_path, "toy", CONFIG) as again:
        assert (again.path.name, again.resumed, again.tracker) == (name, True, "r7")
        again.finish()
    assert json.loads((tmp_path / name / "run.json").read_text())["state"] == "finished"
    with run_folder(tmp_path, "toy", CONFIG) as second:
        assert (second.path.name, second.resumed, second.tracker) == (f"{name}-2", False, "")


def test_another_configuration_is_another_run(tmp_path):
    with run_folder(tmp_path, "toy", CONFIG) as one, run_folder(tmp_path, "toy", CONFIG | {"seed": 5}) as other:
        assert one.path != other.path
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})


def test_a_folder_left_without_a_record_is_used(tmp_path):
    (tmp_path / f"toy-{config_hash(CONFIG)}").mkdir()
    with run_folder(tmp_path, "toy", CONFIG) as run:
        assert run.path.name == f"toy-{config_hash(CONFIG)}"


def test_two_processes_do_not_train_in_one_folder_and_a_dead_one_holds_nothing(tmp_path):
    with run_folder(tmp_path, "toy", CONFIG) as run:
        lock = run.path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True) as other:
        try:
            other.stdout.readline()
            with pytest.raises(InputError, match=rf"toy-.*: process .*{other.pid} is training here"):
                run_folder(tmp_path, "toy", CONFIG).__enter__()
        finally:
            other.kill()
    with run_folder(tmp_path, "toy", CONFIG) as run:
        assert run.resumed


def test_the_other_processes_of_a_distributed_run_follow_the_first(tmp_path, monkeypatch):
    with run_folder(tmp_path, "toy", CONFIG) as first:
        monkeypatch.setenv("RANK", "1")
        with run_folder(tmp_path, "toy", CONFIG) as second:
            assert second.path == first.path


def test_a_run_is_found_by_its_folder_or_its_tracker(tmp_path):
    with run_folder(tmp_path, "toy", CONFIG) as run:
        run.tracked_by("r7")
    assert find_run(tmp_path, "r7")[0] == find_run(tmp_path, run.path.name)[0] == run.path
    with pytest.raises(NotFound, match=rf"no run 'r8'; there are: {run.path.name}"):
        find_run(tmp_path, "r8")


def test_a_torn_record_names_the_remedy(tmp_path):
    folder = tmp_path / f"toy-{config_hash(CONFIG)}"
    folder.mkdir()
    Path(folder / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run.json: cannot be read \(.*remove .* to start this run again"):
        run_folder(tmp_path, "toy", CONFIG).__enter__()
