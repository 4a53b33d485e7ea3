"""A /dev/shm as small as containers have it (Docker's default: 64 MB), and smaller.

Each group answers a prompt of 3,000 tokens, or says at once what it lacks. A full /dev/shm ends
whoever writes into it with SIGBUS, at the first prompt that is longer than all before."""
import os
import subprocess
import time

import pytest

from conftest import BIN, dummy_config, run
from served import Http

PROMPT = [7 + i % 900 for i in range(3000)]


def within(megabytes, *more):
    """The command that gives the one behind it a /dev/shm of that size, and mounts `more`."""
    mounts = [f"mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm", *more, 'exec "$@"']
    return ["unshare", "--mount", "sh", "-c", " && ".join(mounts), "sh"]


@pytest.fixture(autouse=True)
def may_mount():
    if subprocess.run([*within(1), "true"], capture_output=True).returncode != 0:
        pytest.skip("SKIPPED LOUDLY: this user may not mount (unshare --mount)")


@pytest.fixture
def model(tmp_path):
    """Cheap to compute, and with wide activations: a stage of 4 ranks shares 8 MB for each of them."""
    return dummy_config(tmp_path, hidden_size=1024, num_hidden_layers=3, intermediate_size=256)


def answers(cluster):
    answer = Http(cluster).post("/v1/completions", {"prompt": PROMPT, "max_tokens": 2,
                                                    "temperature": 0, "ignore_eos": True})
    assert answer.status == 200, (answer, cluster.log())
    assert answer.json()["usage"]["completion_tokens"] == 2
    assert cluster.process.poll() is None


def fill(cluster):
    """All that is left of the cluster's /dev/shm."""
    with open(f"/proc/{cluster.process.pid}/root/dev/shm/filler", "wb", buffering=0) as filler:
        with pytest.raises(OSError, match="No space left"):
            while True:
                filler.write(bytes(1 << 20))


FLAGS = ["--load-format", "dummy", "--port", 0]


def test_twelve_ranks_in_64_mb_answer_even_when_others_fill_it(start, model):
    cluster = start(model, 4, 3, *FLAGS, inside=within(64))
    assert "note: /dev/shm" not in cluster.log()
    fill(cluster)
    answers(cluster)


@pytest.mark.parametrize("megabytes", [8, 4, 1])
def test_two_ranks_in_less_than_they_want_say_so_and_answer(start, model, megabytes):
    cluster = start(model, 2, 1, *FLAGS, inside=within(megabytes))
    note, = [line for line in cluster.log().splitlines() if line.startswith("note: /dev/shm")]
    assert f"has {megabytes * 1.048576:.1f} MB free, 2 ranks want 8.9 MB" in note
    assert "--shm-size" in note
    fill(cluster)
    answers(cluster)


def test_no_room_anywhere_is_one_clear_line_at_once(model, tmp_path):
    # Of the 12 MB mpirun takes 8.
    sessions = tmp_path / "sessions"
    sessions.mkdir()
    command = within(1, f"mount -t tmpfs -o size=12m tmpfs {sessions}")
    begin = time.monotonic()
    result = run(*command, BIN / "tessera", "serve", "--model", model, "-tp", 2, "--grpc-port", 0,
                 "--cluster-port", 0, "--load-format", "dummy", "--no-http",
                 env={**os.environ, "TMPDIR": str(sessions)})
    assert result.returncode == 1, result
    line, = result.stderr.splitlines()
    assert "has 1.0 MB free and " in line and "2 ranks want 8.9 MB for their messages" in line
    assert time.monotonic() - begin < 5
