"""What the user is told when mpirun cannot start the group: mpirun's first sentence, whole."""
import shutil

import pytest

from conftest import BIN, TINY, run, segments


def failed_launch(*flags):
    """The one line of a server whose group does not start."""
    before = segments()
    result = run(BIN / "tessera", "serve", "--model", TINY, "-tp", 3, "--no-http", "--grpc-port", 0,
                 "--cluster-port", 0, *flags)
    assert result.returncode == 1, result
    assert segments() <= before
    line, = result.stderr.splitlines()
    return line


def hostfile(tmp_path, text):
    path = tmp_path / "hosts"
    path.write_text(text)
    return path


def test_too_few_slots(tmp_path):
    line = failed_launch("--hostfile", hostfile(tmp_path, "localhost slots=2\n"))
    assert ("There are not enough slots available in the system to satisfy the 3 slots that were "
            "requested by the application: ") in line
    assert line.endswith("/tessera-worker")


def test_no_hostfile(tmp_path):
    line = failed_launch("--hostfile", tmp_path / "missing")
    assert line.endswith(f"Open RTE was unable to open the hostfile: {tmp_path}/missing")


@pytest.mark.skipif(shutil.which("ssh") is None, reason="SKIPPED LOUDLY: no ssh on this machine")
def test_a_host_that_nobody_knows(tmp_path):
    line = failed_launch("--hostfile", hostfile(tmp_path, "no-such-host.invalid slots=4\n"))
    assert "exit status 255: ssh: Could not resolve hostname no-such-host" in line


def test_an_argument_that_mpirun_does_not_know():
    line = failed_launch("--mpirun-args", "--frobnicate")
    assert line.endswith('mpirun: Error: unknown option "--frobnicate"')
