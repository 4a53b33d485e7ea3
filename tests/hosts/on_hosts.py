"""Clusters on several hosts, their clients, and what a fault costs them."""
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from conftest import BIN, Cluster, alive, default_model, family, wait_for  # noqa: E402,F401
from hosts import REMOTE_SHELL, Hosts, has_netem, missing  # noqa: E402,F401
from test_unbroken_streams import kinds  # noqa: E402

LONG = os.environ.get("TESSERA_TEST_HOSTS_LONG", "") not in ("", "0")
NETWORK = f"--mca plm_rsh_agent {REMOTE_SHELL} --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0"
KINDS = kinds() if LONG else {name: kinds()[name] for name in ("greedy", "seeded", "grammar", "n = 3")}


@pytest.fixture(scope="module")
def hosts():
    """Four hosts; the first has the coordinator and no rank."""
    why = missing()
    if why is not None:
        pytest.skip(f"SKIPPED LOUDLY: no hosts can be made here: {why}")
    with Hosts(4) as made:
        yield made


class ClusterOn(Cluster):
    """A coordinator on hosts[0], with groups on those of a hostfile or none of its own."""

    count = 0

    def __init__(self, hosts, tp, pp, *flags, on=(), slots=1):
        ClusterOn.count += 1
        directory = hosts.directory / f"cluster{ClusterOn.count}"
        directory.mkdir()
        launch = (["--hostfile", hosts.hostfile(*on, slots=slots), "--mpirun-args", NETWORK] if on
                  else ["--launch", "external"])
        super().__init__(directory, default_model(), tp, pp, "--host", hosts[0].address,
                         "--cluster-host", hosts[0].address, "--max-model-len", 1024, *launch, *flags,
                         inside=hosts[0].inside)

    def status(self):
        return self.client.call("GetClusterStatus")

    def serving(self):
        return [group for group in self.status().groups if group.state == 3]

    def back(self, groups, timeout=90):
        """Once so many groups serve."""
        wait_for(lambda: self.process.poll() is not None or len(self.serving()) >= groups, timeout,
                 self.log)
        assert self.process.poll() is None, self.log()
        return time.time()

    def pid(self, host):
        """Of a rank there."""
        return next(rank.pid for group in self.serving() for rank in group.ranks
                    if rank.host == host.name)

    def mpirun(self):
        return next(pid for pid in family(self.process.pid)
                    if pathlib.Path(f"/proc/{pid}/comm").read_text() == "mpirun\n")

    def losses(self, since):
        return [lost for lost in self.status().lost_groups if lost.lost_unix_millis / 1000 >= since]


class ExternalGroup:
    """One that no coordinator starts: mpirun on the first of its hosts."""

    def __init__(self, on, port, *flags, slots=1):
        hosts = on[0].hosts
        self.on, self.log_path = on, hosts.directory / f"group_{on[0].name}.log"
        command = [*on[0].inside, "mpirun", "--allow-run-as-root", "--bind-to", "none", "-n",
                   slots * len(on), "--hostfile", hosts.hostfile(*on, slots=slots), "--mca",
                   "mpi_yield_when_idle", 1, *NETWORK.split(), BIN / "tessera-worker", "--coordinator",
                   f"{hosts[0].address}:{port}", "--model", default_model(), "--threads-per-rank", 1,
                   "--group-id", f"group-of-{on[0].name}", *flags]
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def end(self):
        for host in self.on:
            host.kill()
        self.process.wait()


class Streams:
    """One request of every kind at once, each on a thread of its own; and when tokens came."""

    def __init__(self, cluster, number=0, kinds=None):
        self.told, self.came, self.threads = {}, {}, []
        for name, sampling in (kinds or KINDS).items():
            self.came[name] = []
            thread = threading.Thread(target=self.run, args=(cluster, name, sampling, number))
            thread.start()
            self.threads.append(thread)

    def run(self, cluster, name, sampling, number):
        told = {}
        try:
            for message in cluster.client.call(
                    "Generate", timeout=120, request_id=f"{name} {number}", sampling=sampling,
                    text=f"A story about {name}, told by a patient machine:"):
                self.came[name].append(time.time())
                of = told.setdefault(message.index, {"ids": [], "text": "", "logprobs": [], "end": 0})
                of["ids"] += message.token_ids
                of["text"] += message.text
                of["logprobs"] += [entry.SerializeToString() for entry in message.logprobs]
                of.setdefault("prompt", []).extend(
                    entry.SerializeToString() for entry in message.prompt_logprobs)
                of["end"] = message.finish_reason or of["end"]
            self.told[name] = told
        except Exception as error:  # shown by the comparison
            self.told[name] = repr(error)

    def flow(self, messages=8):
        """Once every stream has so many."""
        wait_for(lambda: all(len(came) >= messages or name in self.told
                             for name, came in self.came.items()), 60)
        return self

    def wait(self):
        for thread in self.threads:
            thread.join(180)
        assert not any(thread.is_alive() for thread in self.threads), "a stream hangs"
        return self.told

    def resumed(self, since):
        """Until the last of those that stood still at `since` had a new message; None: all had ended."""
        firsts = [min((at for at in came if at > since), default=None) for came in self.came.values()]
        return max((first for first in firsts if first is not None), default=None)


def equal(told, undisturbed, explain):
    for name in undisturbed:
        assert told[name] == undisturbed[name], f"{name}\n{explain()}"


class Watch:
    """When so many groups serve (again), found out beside what the test does."""

    def __init__(self, cluster, groups, but=()):
        self.at = None
        self.thread = threading.Thread(target=self.run, args=(cluster, groups, set(but)), daemon=True)
        self.thread.start()

    def run(self, cluster, groups, but):
        try:
            wait_for(lambda: len({group.group_id for group in cluster.serving()} - but) >= groups, 90)
            self.at = time.time()
        except Exception as error:  # not back: `at` says so
            print(f"not back: {error!r}")

    def over(self):
        return not self.thread.is_alive()

    def wait(self):
        """None: not back in time."""
        self.thread.join()
        return self.at


class Table:
    """What faults cost, in seconds after each; printed at the end."""

    def __init__(self, title):
        self.title, self.rows = title, []

    def add(self, fault, struck, losses, streams, healed=None, back=None):
        loss = losses[-1] if losses else None
        lost = loss and loss.lost_unix_millis / 1000
        times = [lost, streams.resumed(lost or struck), healed, back]
        self.rows.append((fault, *("-" if at is None else f"{at - struck:.2f}" for at in times),
                          loss.requests_moved if loss else 0, loss.error if loss else ""))

    def print(self):
        heads = ("", "detected", "new token", "healed", "all back", "moved", "said of it")
        print(f"\n{self.title}")
        for row in [heads, *self.rows]:
            print("{:36} {:>9} {:>9} {:>9} {:>9} {:>5}  {:.90}".format(*row))


@pytest.fixture(scope="module")
def table(request, capfd_disabled):
    made = Table(request.module.__doc__.splitlines()[0])
    yield made
    with capfd_disabled():
        made.print()


@pytest.fixture(scope="module")
def capfd_disabled(request):
    """What lets a module's last words through to the terminal."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled
