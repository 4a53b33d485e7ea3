"""A group that the coordinator starts over two hosts, and faults of its processes, hosts and network.

Every client gets what it would have got without the fault."""
import os
import signal

import pytest

from on_hosts import (KINDS, LONG, ClusterOn, Streams, Watch, capfd_disabled, equal,  # noqa: F401
                      hosts, table, time, wait_for)

# The leader is on hosts[1], the other rank on hosts[2].
LAYOUTS = [(2, 1), (1, 2)] if LONG else [(1, 2)]
HEALED_AFTER = 2.0


class Shared:
    """One cluster for all faults, and another one when a fault has ended it."""

    def __init__(self, hosts):
        self.hosts, self.clusters = hosts, {}
        self.undisturbed = None

    def cluster(self, tp, pp):
        found = self.clusters.get((tp, pp))
        if found is None or found.process.poll() is not None:
            self.stop()
            found = ClusterOn(self.hosts, tp, pp, on=self.hosts[1:3]).wait_ready()
            self.clusters[tp, pp] = found
        found.back(1)
        return found

    def stop(self):
        for cluster in self.clusters.values():
            cluster.stop()
        self.clusters = {}


@pytest.fixture(scope="module")
def shared(hosts):
    made = Shared(hosts)
    on_one_host = ClusterOn(hosts, 1, 2, on=hosts[1:2], slots=2).wait_ready()
    made.undisturbed = Streams(on_one_host).wait()
    assert on_one_host.stop() == 0
    yield made
    made.stop()


@pytest.mark.parametrize("tp, pp", LAYOUTS)
def test_a_group_on_two_hosts_answers_as_on_one(shared, tp, pp):
    cluster = shared.cluster(tp, pp)
    assert {rank.host for rank in cluster.serving()[0].ranks} == {"host2", "host3"}
    assert all(isinstance(told, dict) for told in shared.undisturbed.values()), shared.undisturbed
    equal(Streams(cluster).wait(), shared.undisturbed, cluster.log)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


# What happens, and whether something has to be mended before the group can come back.
FAULTS = {
    "rank 1 killed": (lambda cluster, hosts: kill(cluster.pid(hosts[2])), False),
    "mpirun killed": (lambda cluster, hosts: kill(cluster.mpirun()), False),
    "rank 1 stopped": (lambda cluster, hosts: os.kill(cluster.pid(hosts[2]), signal.SIGSTOP), False),
    "host of rank 1 without power": (lambda cluster, hosts: hosts[2].lose_power(), True),
    "host of rank 1 cut off": (lambda cluster, hosts: hosts[2].cut(), True),
}
if LONG:
    FAULTS |= {
        "leader killed": (lambda cluster, hosts: kill(cluster.pid(hosts[1])), False),
        "leader stopped": (lambda cluster, hosts: os.kill(cluster.pid(hosts[1]), signal.SIGSTOP), False),
        "processes of rank 1's host killed": (lambda cluster, hosts: hosts[2].kill(), False),
        "processes of leader's host killed": (lambda cluster, hosts: hosts[1].kill(), False),
        "host of rank 1 link down": (lambda cluster, hosts: hosts[2].link_down(), True),
        "leader's host without power": (lambda cluster, hosts: hosts[1].lose_power(), True),
        "leader's host cut off": (lambda cluster, hosts: hosts[1].cut(), True),
        "leader's host link down": (lambda cluster, hosts: hosts[1].link_down(), True),
        "coordinator cut off": (lambda cluster, hosts: hosts[0].cut(), True),
    }


@pytest.mark.parametrize("tp, pp", LAYOUTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_client_notices(shared, hosts, table, fault, tp, pp):
    cluster = shared.cluster(tp, pp)
    strike, mend = FAULTS[fault]
    if LONG:
        time.sleep(5)  # a group that served so long is started again at once
    streams = Streams(cluster, f"{fault} {time.time()}").flow()
    before = cluster.serving()[0].group_id
    struck, healed = time.time(), None
    strike(cluster, hosts)
    watch = Watch(cluster, 1, but=[before])
    try:
        if mend:
            time.sleep(HEALED_AFTER)
    finally:
        hosts.heal()
    if mend:
        healed = time.time()
    told = streams.wait()
    back = watch.wait()
    losses = cluster.losses(struck)
    table.add(f"{fault}, tp {tp} pp {pp}", struck, losses, streams, healed, back)
    equal(told, shared.undisturbed, cluster.log)
    assert len(losses) == 1, cluster.log()
    assert losses[0].requests_moved == len(KINDS)


def test_nothing_is_left_of_a_killed_coordinator(shared, hosts):
    cluster = shared.cluster(*LAYOUTS[-1])
    streams = Streams(cluster, "killed").flow()
    kill(cluster.process.pid)
    begin = time.monotonic()
    wait_for(lambda: not any(host.processes() for host in hosts), 20)
    print(f"everything gone after {time.monotonic() - begin:.2f} s")
    streams.wait()
