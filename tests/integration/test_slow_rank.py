"""A rank that holds the others up can be named, and the group goes on meanwhile."""
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from conftest import BIN, dummy_config, wait_for
from served import Http

ASK = {"token_ids": {"ids": [5, 6, 7]},
       "sampling": {"max_tokens": 60, "temperature": 0, "ignore_eos": True}}


class SlowedDown:
    """Lets a process run a part of the time only, as a busy neighbour on its core would."""

    def __init__(self, pid, stopped=0.02, running=0.005):
        self.pid, self.over = pid, threading.Event()
        self.stopped, self.running = stopped, running
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            os.kill(self.pid, signal.SIGSTOP)
            time.sleep(self.stopped)
            os.kill(self.pid, signal.SIGCONT)
            time.sleep(self.running)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        os.kill(self.pid, signal.SIGCONT)


class Crowded:
    """Two busy processes beside one on its core; the others may have the rest."""

    def __init__(self, pid, others):
        first, *rest = sorted(os.sched_getaffinity(0))
        for process, cores in [(pid, {first}), *((other, rest) for other in others)]:
            for thread in os.listdir(f"/proc/{process}/task"):
                os.sched_setaffinity(int(thread), cores)
        self.core, self.busy = first, []

    def __enter__(self):
        for _ in range(2):
            self.busy.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            os.sched_setaffinity(self.busy[-1].pid, {self.core})

    def __exit__(self, *_):
        for process in self.busy:
            process.kill()
            process.wait()


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
            assert f'tessera_rank_step_seconds_total{{group="0",phase="{phase}",rank="{rank}"}}' in metrics
    status = None

    def named():
        # While the machine has put both on one core, either is late half of the time, and nobody is
        # named; never the wrong one.
        nonlocal status
        cluster.client.generate(**ASK)
        status = subprocess.run([BIN / "tessera", "status", "--server", cluster.address],
                                capture_output=True, text=True, timeout=30)
        # Where the other one is often late too, held up by who knows what, its computing tells.
        found = re.findall(r"^rank (\d) (?:kept the others|computes).*: it slows the group$",
                           status.stdout, re.M)
        assert found in ([], [str(slow)]), status.stdout + status.stderr
        return found

    wait_for(named, 60, lambda: status.stdout + status.stderr)


def late_seconds(http):
    """By rank, as /metrics has them."""
    metrics = http.get("/metrics").body.decode()
    found = re.findall(r'^tessera_rank_late_seconds_total\{group="0",rank="(\d+)"\} (\S+)$', metrics, re.M)
    return {int(rank): float(seconds) for rank, seconds in found}


def stopped(pid, _):
    return SlowedDown(pid, stopped=0.02, running=0.02)


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize("held_up", [stopped, Crowded])
def test_a_rank_that_something_else_holds_up_is_named(start, tmp_path, held_up, slow):
    if held_up is Crowded and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs a core for the rank that is not held up")
    cluster = start(dummy_config(tmp_path), 2, 1, "--load-format", "dummy", "--port", 0,
                    "--threads-per-rank", 1)
    http = Http(cluster)
    other = 1 - slow
    pids = [rank.pid for rank in cluster.group().ranks]
    with held_up(pids[slow], [pids[other]]):
        def named():
            ids, _, _ = cluster.client.generate(**ASK)
            assert len(ids) == 60
            late = late_seconds(http)
            return len(late) == 2 and late[slow] > 0.5 and late[slow] > 2 * late[other]
        wait_for(named, 60, lambda: str(late_seconds(http)))
