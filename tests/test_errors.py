import errno
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from zoo.errors import LESS_MEMORY, UserError, one_line_errors, suggestion, unknown


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("expected a,\n got b"), 2, "Error: expected a, got b\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            2,
            "Error: disk full (/data/x): free some space and run the same command again\n",
        ),
        (KeyboardInterrupt(), 130, "Error: interrupted; run the same command again to continue\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "f"),
            2,
            "Error: Permission denied (f)\n",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "p/.zoo/locks"),
            2,
            "Error: a file is where a folder is needed (p/.zoo/locks): move it away\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "from", None, "to"),
            2,
            "Error: disk full (to): free some space and run the same command again\n",
        ),
        (
            shutil.Error(
                [
                    ("a/x", "b/x", "[Errno 28] No space left on device: 'a/x' -> 'b/x'"),
                    ("a/y", "b/y", "[Errno 28] No space left on device: 'a/y' -> 'b/y'"),
                ]
            ),
            2,
            "Error: disk full (b/x): free some space and run the same command again\n",
        ),
        (
            shutil.Error([("a/x", "b/x", "[Errno 13] Permission denied: 'a/x'")]),
            2,
            "Error: [Errno 13] Permission denied: 'a/x'\n",
        ),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            2,
            "Error: not enough memory (ImportError: libtorch_cpu.so: failed to map segment from "
            f"shared object): {LESS_MEMORY}\n",
        ),
        (MemoryError(), 2, f"Error: not enough memory: {LESS_MEMORY}\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5 GiB."),
            2,
            "Error: not enough memory (OutOfMemoryError: CUDA out of memory. Tried to allocate 5 "
            f"GiB.): {LESS_MEMORY}\n",
        ),
        (
            shutil.Error("`a` and `b` are the same file"),
            2,
            "Error: `a` and `b` are the same file\n",
        ),
    ],
)
def test_what_a_user_can_mend_ends_in_one_line(capsys, error, status, line):
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert ended.value.code == status
    assert capsys.readouterr().err == line


def test_a_defect_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="sizes differ"), one_line_errors():
        raise RuntimeError("sizes differ")
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError


def test_an_unknown_name_lists_the_valid_ones():
    assert str(unknown("arch", "xyz", ["vit", "mixer"])) == "unknown arch 'xyz'; valid: mixer, vit"


@pytest.mark.parametrize(
    ("name", "valid", "meant"),
    [
        ("vit-smal", ["vit-full", "vit-small", "vit-gap-small"], " did you mean 'vit-small'?"),
        ("vit-samll", ["vit-full", "vit-small"], " did you mean 'vit-small'?"),
        ("acc", ["accuracy", "alias", "arch"], " did you mean 'accuracy'?"),
        ("a", ["alias", "arch", "seed"], " did you mean 'alias' or 'arch'?"),
        ("imagenet1k_v1", ["IMAGENET1K_V1", "DEFAULT"], " did you mean 'IMAGENET1K_V1'?"),
        ("CKA", ["cka", "erf"], " did you mean 'cka'?"),
        ("", ["accuracy"], ""),
        ("xyz", ["accuracy"], ""),
    ],
)
def test_what_was_meant_begins_with_the_name_or_is_the_nearest(name, valid, meant):
    assert suggestion(name, valid) == meant


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
            -signal.SIGINT,  # a shell shows 130
            "Error: interrupted; run the same command again to continue",
        ),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_ctrl_c_is_one_line_while_modules_are_imported(ends, status, said):
    code = "import os, signal, time; from zoo.errors import tell_interrupts; tell_interrupts()\n"
    done = subprocess.run(
        [sys.executable, "-c", code + ends], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (status, said)
    assert ("Traceback" in done.stderr) == (status == 1)
