"""A coordinator that dies and comes back finds its groups waiting, with their weights loaded."""
import os
import signal
import socket
import subprocess
import time

from conftest import BIN, TINY, Cluster, alive, family, segments, wait_for
from test_external_launch import GREEDY

REJOINED_WITHIN = 2.0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def start_group(address, ranks, *flags):
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    return subprocess.Popen(
        ["mpirun", *root, "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1",
         "-n", str(ranks), str(BIN / "tessera-worker"), "--coordinator", address,
         "--model", str(TINY), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class External(Cluster):
    """One that waits for groups on a port that its successor will have, too."""

    def __init__(self, directory, port):
        directory.mkdir()
        super().__init__(directory, TINY, 2, 2, "--launch", "external", "--cluster-port", port)


def test_groups_rejoin_a_coordinator_that_was_killed(tmp_path):
    before = segments()
    port = free_port()
    group = None
    coordinators = []
    try:
        coordinators.append(External(tmp_path / "first", port))
        group = start_group(f"127.0.0.1:{port}", 4)
        first = coordinators[0].wait_ready()
        answer = first.client.generate(token_ids={"ids": [1, 2, 3]}, sampling=GREEDY)[0]
        ranks = [rank.pid for rank in first.group().ranks]
        group_id = first.group().group_id
        for number in (2, 3):
            coordinators[-1].stop(signal.SIGKILL)
            coordinators.append(External(tmp_path / f"coordinator{number}", port))
            begin = time.monotonic()
            again = coordinators[-1].wait_ready()
            took = time.monotonic() - begin
            print(f"rejoined after {took:.2f} s")
            assert took < 10 * REJOINED_WITHIN, again.log()
            assert again.client.generate(token_ids={"ids": [1, 2, 3]}, sampling=GREEDY)[0] == answer
            wait_for(lambda: [rank.pid for rank in again.group().ranks] == ranks, 10, again.log)
            assert again.group().group_id == group_id
        pids = family(group.pid)
        assert coordinators[-1].stop(signal.SIGTERM) == 0
        wait_for(lambda: group.poll() is not None and not any(map(alive, pids)), 20)
        assert group.returncode == 0
    finally:
        for coordinator in coordinators:
            coordinator.stop(signal.SIGKILL)
        if group is not None and group.poll() is None:
            group.kill()
    wait_for(lambda: segments() <= before, 20)


def test_a_group_that_nobody_comes_back_for_ends(tmp_path):
    port = free_port()
    coordinator = External(tmp_path / "first", port)
    group = start_group(f"127.0.0.1:{port}", 4, "--rejoin-timeout", "1")
    try:
        coordinator.wait_ready()
        pids = family(group.pid)
        coordinator.stop(signal.SIGKILL)
        wait_for(lambda: group.poll() is not None and not any(map(alive, pids)), 20)
        assert group.returncode != 0
    finally:
        coordinator.stop(signal.SIGKILL)
        if group.poll() is None:
            group.kill()
