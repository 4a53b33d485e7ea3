"""A rank that holds the others up can be named, and the group goes on meanwhile."""
import os
import signal
import subprocess
import threading
import time

from conftest import BIN, dummy_config, wait_for
from served import Http

ASK = {"token_ids": {"ids": [5, 6, 7]},
       "sampling": {"max_tokens": 60, "temperature": 0, "ignore_eos": True}}


class SlowedDown:
    """Lets a process run a fifth of the time, as a busy neighbour on its core would."""

    def __init__(self, pid):
        self.pid, self.over = pid, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            os.kill(self.pid, signal.SIGSTOP)
            time.sleep(0.02)
            os.kill(self.pid, signal.SIGCONT)
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        os.kill(self.pid, signal.SIGCONT)


def test_a_group_with_a_slowed_rank_goes_on_to_the_same_end(start, tmp_path):
    cluster = start(dummy_config(tmp_path), 2, 1, "--load-format", "dummy")
    alone, _, _ = cluster.client.generate(**ASK)
    with SlowedDown(cluster.group().ranks[1].pid):
        ids, _, _ = cluster.client.generate(**ASK)
    assert ids == alone and len(ids) == 60


def test_the_rank_that_the_others_wait_for_is_named(start, tmp_path):
    # Seven eighths of the work make a slow rank on any machine, however busy.
    slow, other = 0, 1
    cluster = start(dummy_config(tmp_path), 2, 1, "--load-format", "dummy", "--port", 0,
                    "--tensor-split", "7,1", "--threads-per-rank", 1)
    ids, _, _ = cluster.client.generate(**ASK)
    assert len(ids) == 60

    def steps():
        return [rank.step_times.steps for rank in cluster.group().ranks]

    wait_for(lambda: min(steps()) >= 59 and len(set(steps())) == 1, 10, lambda: str(steps()))
    times = [rank.step_times for rank in cluster.group().ranks]
    assert times[slow].computing_micros > times[other].computing_micros, times
    assert times[slow].waiting_micros < times[other].waiting_micros, times

    metrics = Http(cluster).get("/metrics").body.decode()
    for phase in ("computing", "waiting", "transferring", "idle"):
        for rank in range(2):
            assert f'tessera_rank_step_seconds_total{{phase="{phase}",rank="{rank}"}}' in metrics
    status = subprocess.run([BIN / "tessera", "status", "--server", cluster.address],
                            capture_output=True, text=True, timeout=30)
    assert f"rank {slow} computes" in status.stdout, status.stdout + status.stderr
    assert "it slows the group" in status.stdout
