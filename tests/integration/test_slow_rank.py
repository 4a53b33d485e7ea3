"""A rank that something else slows down can be named, and the group goes on meanwhile."""
import os
import signal
import subprocess
import threading
import time

from conftest import BIN, dummy_config, wait_for
from served import Http


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


def test_the_slow_rank_is_named(start, tmp_path):
    # A model that has something to compute: a rank that only waits is no slower for being stopped.
    cluster = start(dummy_config(tmp_path), 2, 1, "--load-format", "dummy", "--port", 0,
                    "--threads-per-rank", 1)
    prompt = {"token_ids": {"ids": [5, 6, 7]}}
    sampling = {"max_tokens": 60, "temperature": 0, "ignore_eos": True}
    alone, _, _ = cluster.client.generate(sampling=sampling, **prompt)
    slow = 1
    with SlowedDown(cluster.group().ranks[slow].pid):
        ids, _, last = cluster.client.generate(sampling=sampling, **prompt)
    assert ids == alone and len(ids) == 60  # the group goes on, to the same end

    def steps():
        return [rank.step_times.steps for rank in cluster.group().ranks]

    wait_for(lambda: min(steps()) >= 118 and len(set(steps())) == 1, 10, lambda: str(steps()))
    times = [rank.step_times for rank in cluster.group().ranks]
    for rank, other in enumerate(times):
        if rank == slow:
            continue
        assert times[slow].computing_micros > other.computing_micros, times
        assert times[slow].waiting_micros < other.waiting_micros, times

    metrics = Http(cluster).get("/metrics").body.decode()
    for phase in ("computing", "waiting", "transferring", "idle"):
        for rank in range(2):
            assert f'tessera_rank_step_seconds_total{{phase="{phase}",rank="{rank}"}}' in metrics
    status = subprocess.run([BIN / "tessera", "status", "--server", cluster.address],
                            capture_output=True, text=True, timeout=30)
    assert f"rank {slow} computes" in status.stdout, status.stdout + status.stderr
    assert "it slows the group" in status.stdout
