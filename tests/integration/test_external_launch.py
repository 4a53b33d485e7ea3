"""--launch external: groups that someone else starts, one after the other."""
import os
import re
import signal
import subprocess

import grpc
import pytest

from conftest import BIN, TINY, Cluster, alive, family, segments, wait_for

GREEDY = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}


def start_group(address, ranks):
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    return subprocess.Popen(
        ["mpirun", *root, "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1",
         "-n", str(ranks), str(BIN / "tessera-worker"), "--coordinator", address,
         "--model", str(TINY)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_group_serves_is_lost_and_another_takes_its_place(tmp_path):
    before = segments()
    cluster = Cluster(tmp_path, TINY, 2, 2, "--launch", "external", "--replay-timeout", 1)
    group = None
    try:
        address = wait_for(lambda: re.search(r"--coordinator[ =](\S+)", cluster.log()), 20,
                           cluster.log).group(1)
        group = start_group(address, 4)
        first = cluster.wait_ready().client.generate(token_ids={"ids": [1, 2, 3]}, sampling=GREEDY)[0]

        pids = family(group.pid)
        os.kill(cluster.group().ranks[3].pid, signal.SIGKILL)
        wait_for(lambda: group.poll() is not None and not any(map(alive, pids)), 20, cluster.log)
        with pytest.raises(grpc.RpcError) as error:
            wait_for(lambda: cluster.client.generate(token_ids={"ids": [1]}, sampling=GREEDY), 10)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert cluster.process.poll() is None  # it waits for the next group

        group = start_group(address, 4)
        serving = lambda: any(g.state == 3 for g in cluster.client.call("GetClusterStatus").groups)
        wait_for(serving, 30, cluster.log)
        second = cluster.client.generate(token_ids={"ids": [1, 2, 3]}, sampling=GREEDY)[0]
        assert second == first

        pids = family(group.pid)
        assert cluster.stop(signal.SIGINT) == 0
        wait_for(lambda: group.poll() is not None and not any(map(alive, pids)), 20, cluster.log)
    finally:
        cluster.stop(signal.SIGKILL)
        if group is not None and group.poll() is None:
            group.kill()
    wait_for(lambda: segments() <= before, 20)
