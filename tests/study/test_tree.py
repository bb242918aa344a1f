"""A tree of results as a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WRITE = """
import resource, signal, sys
from pathlib import Path
import numpy as np, xarray as xr
from zoo.study.tree import write_tree
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
tree = xr.DataTree.from_dict({f"/{i}": xr.Dataset({"x": ("n", np.ones(2_000))}) for i in range(9)})
try:
    write_tree(tree, Path(sys.argv[1]))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="sets a limit of POSIX")
def test_a_disk_that_gets_full_is_an_error_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "results.nc")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "File too large\n", "")
    assert list(tmp_path.iterdir()) == []
