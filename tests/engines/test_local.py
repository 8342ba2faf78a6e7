"""The local engine: what it says of failures, and how two of it share a study."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from scaling.runs.lock import locked
from tests.conftest import EXPERIMENT, environment, scaling

STUDY = Path("runs/micro")


def test_one_wrong_folder_is_one_sentence_and_the_number_of_steps_that_wait(
    tmp_path: Path,
) -> None:
    wrong = ("--set", "data.root=nowhere", "--set", "data.phantom=null")
    done = scaling("run", EXPERIMENT, *wrong, folder=tmp_path)
    assert done.returncode in (1, 2)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert sum("nowhere" in line for line in said) == 1, done.stderr
    assert any("18 steps wait for prepare" in line for line in said) or done.returncode == 2
    assert len(said) <= 4, done.stderr


def test_step_that_another_process_runs_is_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scaling", "run", str(EXPERIMENT)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with locked(tmp_path / STUDY / "phantom/LOCK"):
        process = subprocess.Popen(  # type: ignore[call-overload]
            command, cwd=tmp_path, env=environment(), text=True, **pipes
        )
        line = process.stdout.readline()
        assert "phantom waits: " in line
        assert "is being written by process" in line
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 85
    assert "told to stop" in rest
    assert "failed" not in rest
    assert not (tmp_path / STUDY / "phantom/config.json").exists()
