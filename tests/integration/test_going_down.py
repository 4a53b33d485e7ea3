"""Whoever dies, and however: nothing is left within 2 s."""
import signal
import os
import time

import grpc
import pytest

from conftest import TINY, alive, best_of_three, dummy_config, segments, wait_for

GONE_WITHIN = 2.0
PATIENCE = 30  # on a machine that is busy with something else


def workers(cluster):
    return [rank.pid for rank in cluster.group().ranks]


def mpirun(cluster):
    for pid in cluster.pids():
        with open(f"/proc/{pid}/comm") as comm:
            if comm.read().strip() in ("mpirun", "orterun"):
                return pid
    raise AssertionError("no mpirun below the coordinator")


def seconds_until_gone(cluster, pids, segments_before, strike):
    """Strikes, and waits until no process and no segment is left."""
    begin = time.monotonic()
    strike()
    wait_for(lambda: cluster.process.poll() is not None and not any(map(alive, pids)), PATIENCE,
             lambda: f"left: {[p for p in pids if alive(p)]}\n{cluster.log()}")
    wait_for(lambda: segments() <= segments_before, PATIENCE,
             lambda: str(segments() - segments_before))
    return time.monotonic() - begin


VICTIMS = {
    "coordinator": lambda cluster: cluster.process.pid,
    "mpirun": mpirun,
    "leader": lambda cluster: workers(cluster)[0],
    "last rank": lambda cluster: workers(cluster)[-1],
}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_nothing_outlives_a_death(start, victim, how):
    def attempt():
        before = segments()
        cluster = start(TINY, 2, 2, "--max-relaunches", 0)
        pids = cluster.pids()
        assert len(pids) >= 6  # coordinator, mpirun, four ranks
        pid = VICTIMS[victim](cluster)
        seconds = seconds_until_gone(cluster, pids, before, lambda: os.kill(pid, how))
        orderly = victim == "coordinator" and how != signal.SIGKILL
        assert (cluster.process.returncode == 0) == orderly, cluster.log()
        if victim != "coordinator":
            assert "error" in cluster.log().lower()
        return seconds

    best_of_three(attempt, GONE_WITHIN)


def test_streams_of_a_dead_group_that_is_not_started_again_get_unavailable(start):
    cluster = start(TINY, 2, 1, "--max-model-len", 512, "--max-relaunches", 0)
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
    config = dummy_config(tmp_path)

    def attempt():
        before = segments()
        cluster = start(config, 2, 2, "--load-format", "dummy", "--shutdown-timeout", 1)
        options = {"max_tokens": 4000, "temperature": 0, "ignore_eos": True}
        streams = [cluster.client.call("Generate", token_ids={"ids": [1, 2, i]}, sampling=options)
                   for i in range(4)]
        for stream in streams:
            next(stream)
        seconds = seconds_until_gone(cluster, cluster.pids(), before,
                                     lambda: cluster.process.send_signal(how))
        for stream in streams:
            with pytest.raises(grpc.RpcError) as error:
                for _ in stream:
                    pass
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        return seconds

    best_of_three(attempt, GONE_WITHIN)


def test_ctrl_c_while_the_group_starts(start):
    def attempt():
        before = segments()
        cluster = start(TINY, 2, 2, ready=False)
        wait_for(lambda: len(cluster.pids()) > 1 or cluster.process.poll() is not None, 30)
        return seconds_until_gone(cluster, cluster.pids(), before,
                                  lambda: cluster.process.send_signal(signal.SIGINT))

    best_of_three(attempt, GONE_WITHIN)


def test_sigterm_lets_running_streams_end_and_takes_no_new_ones(start, tmp_path):
    cluster = start(dummy_config(tmp_path), 2, 1, "--load-format", "dummy")
    options = {"max_tokens": 300, "temperature": 0, "ignore_eos": True}
    stream = cluster.client.call("Generate", token_ids={"ids": [1, 2, 3]}, sampling=options)
    next(stream)
    cluster.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as error:
        wait_for(lambda: cluster.client.generate(token_ids={"ids": [1]}, sampling={"max_tokens": 1})
                 and False, PATIENCE)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert 1 + sum(len(message.token_ids) for message in stream) == 300
    assert cluster.process.wait(20) == 0, cluster.log()


def test_a_second_sigterm_ends_at_once(start, tmp_path):
    cluster = start(dummy_config(tmp_path), 2, 1, "--load-format", "dummy")
    stream = cluster.client.call("Generate", token_ids={"ids": [1, 2, 3]},
                                 sampling={"max_tokens": 4000, "temperature": 0, "ignore_eos": True})
    next(stream)
    cluster.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "stopping: 1 request has up to 30s" in cluster.log(), PATIENCE, cluster.log)
    cluster.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as error:
        for _ in stream:
            pass
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert cluster.process.wait(20) == 0, cluster.log()
