"""Commands of zoo, DVC and the pipeline, without the seconds that imports take.

`run` hands them to a process that has imported torch and MLflow and does each one in a fork, or in
several that find each other as those of torchrun do; the stages of `dvc repro` are forks in turn.
tests/test_studies.py, tests/test_wheel.py and tests/training/test_parallel.py start real ones.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos_steps import dvc, end, python, warm, zoo

ROOT = Path(__file__).parent.parent


@functools.cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.warm"],
        cwd=ROOT, env=_inherited(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _inherited() -> dict[str, str]:
    # Otherwise the tests' own server settings or root would be used.
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}


def run(
    folder: Path, *command: str, check: bool = True, processes: int = 1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder: `zoo ...`, `dvc ...`, `python -m MODULE ...`, or any."""
    environment = _inherited() | {"PYTHONPATH": str(folder)} | environment
    if processes > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if command[0] in STEPS:
        with tempfile.TemporaryDirectory() as said:
            paths = [Path(said, name) for name in ("out", "error")]
            asked = {"folder": folder, "command": command, "environment": environment,
                     "processes": processes}  # fmt: skip
            server = _server()
            print(json.dumps(asked | {"said": paths}, default=str), file=server.stdin, flush=True)
            code = int(server.stdout.readline())
            done = subprocess.CompletedProcess(command, code, *(p.read_text() for p in paths))
    else:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


STEPS = {"zoo": zoo, "dvc": dvc, "python": python}


def do(
    rank: int, processes: int, folder: str, command: list[str], environment: dict[str, str],
    said: list[str],
) -> None:  # fmt: skip
    """Do a command in this process, a fork, as the one of its rank."""
    for stream, target in (("stdin", os.devnull), ("stdout", said[0]), ("stderr", said[1])):
        file = open(target, "r" if stream == "stdin" else "a")  # noqa: SIM115
        os.dup2(file.fileno(), ("stdin", "stdout", "stderr").index(stream))
        setattr(sys, stream, file)
    os.environ.clear()
    os.environ.update(environment)
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
    os.chdir(folder)
    name, *arguments = command
    STEPS[name](*arguments)()


if __name__ == "__main__":
    warm()
    for line in sys.stdin:
        asked, children = json.loads(line), []
        for rank in range(asked["processes"]):
            child = os.fork()
            if not child:
                end(lambda rank=rank, asked=asked: do(rank, **asked))
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(next(filter(None, codes), 0), flush=True)
