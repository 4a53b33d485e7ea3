"""Whoever dies, and however: nothing is left within 2 s."""
import signal
import os

import grpc
import pytest

from conftest import TINY, alive, dummy_config, segments, wait_for

GONE_WITHIN = 2.0


def workers(cluster):
    return [rank.pid for rank in cluster.group().ranks]


def mpirun(cluster):
    for pid in cluster.pids():
        with open(f"/proc/{pid}/comm") as comm:
            if comm.read().strip() in ("mpirun", "orterun"):
                return pid
    raise AssertionError("no mpirun below the coordinator")


VICTIMS = {
    "coordinator": lambda cluster: cluster.process.pid,
    "mpirun": mpirun,
    "leader": lambda cluster: workers(cluster)[0],
    "last rank": lambda cluster: workers(cluster)[-1],
}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_nothing_outlives_a_death(start, victim, how):
    before = segments()
    cluster = start(TINY, 2, 2)
    pids = cluster.pids()
    assert len(pids) >= 6  # coordinator, mpirun, four ranks
    pid = VICTIMS[victim](cluster)
    os.kill(pid, how)
    wait_for(lambda: cluster.process.poll() is not None and not any(map(alive, pids)), GONE_WITHIN,
             lambda: f"left: {[p for p in pids if alive(p)]}\n{cluster.log()}")
    wait_for(lambda: segments() <= before, GONE_WITHIN, lambda: str(segments() - before))
    orderly = victim == "coordinator" and how != signal.SIGKILL
    assert (cluster.process.returncode == 0) == orderly, cluster.log()
    if victim != "coordinator":
        assert "error" in cluster.log().lower()


def test_streams_of_a_dead_group_get_unavailable(start):
    cluster = start(TINY, 2, 1, "--max-model-len", 512)
    stream = cluster.client.call("Generate", token_ids={"ids": [5, 6, 7]},
                                 sampling={"max_tokens": 500, "temperature": 0, "ignore_eos": True})
    next(stream)
    os.kill(workers(cluster)[1], signal.SIGKILL)
    with pytest.raises(grpc.RpcError) as error:
        for _ in stream:
            pass
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "/" not in error.value.details()  # no path, no address


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_ctrl_c_with_streams_running(start, tmp_path, how):
    cluster = start(dummy_config(tmp_path), 2, 2, "--load-format", "dummy")
    options = {"max_tokens": 4000, "temperature": 0, "ignore_eos": True}
    streams = [cluster.client.call("Generate", token_ids={"ids": [1, 2, i]}, sampling=options)
               for i in range(4)]
    for stream in streams:
        next(stream)
    pids = cluster.pids()
    cluster.process.send_signal(how)
    wait_for(lambda: not any(map(alive, pids)), GONE_WITHIN, cluster.log)
    for stream in streams:
        with pytest.raises(grpc.RpcError) as error:
            for _ in stream:
                pass
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_ctrl_c_while_the_group_starts(start):
    cluster = start(TINY, 2, 2, ready=False)
    wait_for(lambda: len(cluster.pids()) > 1 or cluster.process.poll() is not None, 30)
    pids = cluster.pids()
    cluster.process.send_signal(signal.SIGINT)
    wait_for(lambda: not any(map(alive, pids)), 2 * GONE_WITHIN, cluster.log)
