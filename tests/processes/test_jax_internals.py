"""What is used of jax beyond its public interface is still there."""

import subprocess
import sys

from tests.conftest import environment

CODE = """
from scaling.processes.distributed import connect
from scaling.processes.jax_internals import coordination_client, processes_are_detected
assert not processes_are_detected()
connect()
client = coordination_client()
client.key_value_set("key", "value")
assert client.blocking_key_value_get("key", 1000) == "value"
"""


def test_jax_still_has_the_store_that_processes_agree_by_and_its_detection_of_processes() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        "coordination_client: `agreed` and `meet` need another way for processes to exchange "
        "values; "
        f"processes_are_detected: runs on TPU pods and Kubernetes would be alone.\n{done.stderr}"
    )
