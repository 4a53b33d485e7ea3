"""Several hosts on one machine, and what can happen to them.

A host is a network namespace with one link to a switch (a bridge in a namespace of its own), a mount
namespace with its own /tmp, /dev/shm and /etc/hosts, and a hostname. Processes keep the machine's
process ids. Whoever uses the hosts' services from outside has an address on the switch, too.

    with Hosts(3) as hosts:
        subprocess.run([*hosts[0].inside, "ip", "address"])
        hosts[2].cut()

Whatever was made goes with the end of the block. What a run left that was killed, the next one
removes: every name begins with PREFIX and the process id of its run.
"""
import functools
import ipaddress
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PREFIX = "tesshost"
REMOTE_SHELL = HERE / "remote_shell.py"
SCRATCH = pathlib.Path("/var/tmp")  # the hosts share it; each has its own /tmp
NAMES = pathlib.Path("/run/netns")

# A host's first process: makes it a host, then answers on ssh's port, and holds the namespaces.
FIRST_PROCESS = """
set -e
hostname "$1"
mount -t tmpfs -o size=1g tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --bind "$2" /etc/hosts
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
ip link set lo up
ip link set eth0 up
exec env -i HOME="$HOME" PATH="$PATH" SHELL=/bin/sh "$3"
"""


def ip(*arguments, inside=None):
    return tool("ip", arguments, inside)


def tc(*arguments, inside=None):
    return tool("tc", arguments, inside)


def tool(program, arguments, inside):
    command = [program, *(["-n", inside] if inside else []), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def missing():
    """Why this machine cannot have hosts; None if it can."""
    for program in ("ip", "tc", "nsenter", "unshare", "mount"):
        if shutil.which(program) is None:
            return f"no program {program} (iproute2, util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "sh", "-c",
         "ip link add veth0 type veth peer name veth1 && ip link add bridge0 type bridge && "
         "mount -t tmpfs tmpfs /tmp"], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"namespaces, veth or bridges may not be made: {tried.stderr.strip()}"
    return None


@functools.cache
def has_netem():
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", "ip link add veth0 type veth peer name veth1 && "
         "tc qdisc add dev veth0 root netem delay 1ms"], capture_output=True).returncode == 0


def namespace_of(path):
    try:
        found = os.stat(path)
        return found.st_dev, found.st_ino
    except OSError:
        return None


def processes_in(name):
    """Of the network namespace that has this name."""
    wanted = namespace_of(NAMES / name)
    return [int(entry.name) for entry in pathlib.Path("/proc").iterdir()
            if entry.name.isdigit() and wanted is not None
            and namespace_of(entry / "ns" / "net") == wanted]


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def remove(run):
    """Everything whose name begins with PREFIX and the number of that run."""
    mine = re.compile(rf"{PREFIX}{run}-")
    names = [entry.name for entry in NAMES.iterdir() if mine.match(entry.name)] if NAMES.exists() else []
    for name in names:
        deadline = time.monotonic() + 10
        while processes_in(name) and time.monotonic() < deadline:
            kill_all(processes_in(name))
            time.sleep(0.02)
    subprocess.run(["ip", "link", "delete", f"tess{run}"], capture_output=True)
    for name in names:  # the cables go with them
        subprocess.run(["ip", "netns", "delete", name], check=False)
    for entry in SCRATCH.iterdir():
        if mine.match(entry.name):
            shutil.rmtree(entry, ignore_errors=True)


def remove_leftovers():
    """Of runs that were killed."""
    folders = [folder for folder in (NAMES, SCRATCH) if folder.exists()]
    runs = {match.group(1) for folder in folders for entry in folder.iterdir()
            if (match := re.match(rf"{PREFIX}(\d+)-", entry.name))}
    for run in runs:
        if not pathlib.Path(f"/proc/{run}").exists():
            remove(run)


class Host:
    def __init__(self, hosts, number):
        self.hosts, self.number, self.name = hosts, number, f"host{number}"
        self.relay = None
        self.address = str(hosts.network[number])
        self.namespace = f"{hosts.prefix}{self.name}"
        self.port = f"port{number}"  # the switch's end of its cable
        ip("netns", "add", self.namespace)
        ip("link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace,
           inside=hosts.switch)
        ip("address", "add", f"{self.address}/24", "dev", "eth0", inside=self.namespace)
        self.plug()
        ip("link", "set", self.port, "up", inside=hosts.switch)
        self.first = subprocess.Popen(
            ["nsenter", f"--net={NAMES / self.namespace}", "unshare", "--mount", "--uts",
             "--propagation", "private", "sh", "-c", FIRST_PROCESS, "sh", self.name,
             hosts.directory / "etc_hosts", REMOTE_SHELL],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.first.stdout.readline() == b"up\n", f"{self.name} does not come up"
        pid = self.first.pid
        self.inside = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt",
                       f"--uts=/proc/{pid}/ns/uts"]

    def processes(self):
        return [pid for pid in processes_in(self.namespace) if pid != self.first.pid]

    def plug(self):
        ip("link", "set", self.port, "master", "switch", inside=self.hosts.switch)

    # What happens to hosts.

    def kill(self):
        """Every process ends; the kernel lives, and ends their connections."""
        kill_all(self.processes())

    def cut(self):
        """A cable pulled somewhere in the network: nothing arrives, and no end notices."""
        ip("link", "set", self.port, "nomaster", inside=self.hosts.switch)

    def lose_power(self):
        """Nobody hears of the processes' end."""
        self.cut()
        self.kill()

    def link_down(self):
        """The host itself sees that it has no network."""
        ip("link", "set", "eth0", "down", inside=self.namespace)

    def disturb(self, loss=0.0, delay=0.0, reorder=0.0):
        """Of frames, both ways: the part that vanishes, the seconds that each takes, the part that
        overtakes the others. By tc's netem, or a relay of ours where the kernel has none."""
        if has_netem():
            how = ["loss", f"{loss:.0%}", "delay", f"{delay * 1000:.0f}ms"]
            how += ["reorder", f"{reorder:.0%}"] if reorder else []
            for namespace, device in self.ends():
                tc("qdisc", "replace", "dev", device, "root", "netem", *how, inside=namespace)
            return
        switch, near, far = self.hosts.switch, f"near{self.number}", f"far{self.number}"
        ip("link", "add", "bad" + self.port, "type", "bridge", "forward_delay", "0", inside=switch)
        for tap, bridge in ((near, "bad" + self.port), (far, "switch")):
            ip("tuntap", "add", tap, "mode", "tap", inside=switch)
            ip("link", "set", tap, "master", bridge, "up", inside=switch)
        self.relay = subprocess.Popen(
            ["nsenter", f"--net={NAMES / switch}", HERE / "relay.py", near, far, *map(str, (loss, delay, reorder))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.relay.stdout.readline() == b"up\n"
        ip("link", "set", "bad" + self.port, "up", inside=switch)
        ip("link", "set", self.port, "master", "bad" + self.port, inside=switch)

    def heal(self):
        self.plug()
        ip("link", "set", "eth0", "up", inside=self.namespace)
        if self.relay is not None:
            self.relay.kill()
            self.relay.wait()
            self.relay = None
            for device in ("bad" + self.port, f"near{self.number}", f"far{self.number}"):
                ip("link", "delete", device, inside=self.hosts.switch)
        elif has_netem():
            for namespace, device in self.ends():
                if "netem" in tc("qdisc", "show", "dev", device, inside=namespace):
                    tc("qdisc", "delete", "dev", device, "root", inside=namespace)

    def ends(self):
        """Of its cable."""
        return (self.hosts.switch, self.port), (self.namespace, "eth0")


class Hosts:
    def __init__(self, count):
        remove_leftovers()
        run = os.getpid()
        self.prefix = f"{PREFIX}{run}-"
        self.switch = f"{self.prefix}switch"
        self.network = ipaddress.ip_network(f"198.18.{run % 256}.0/24")  # of RFC 2544, for tests
        self.hosts = []
        remove(run)
        try:
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix=self.prefix, dir=SCRATCH))
            (self.directory / "etc_hosts").write_text("127.0.0.1 localhost\n" + "".join(
                f"{self.network[i]} host{i}\n" for i in range(1, count + 1)))
            ip("netns", "add", self.switch)
            ip("link", "add", "switch", "type", "bridge", "forward_delay", "0", inside=self.switch)
            ip("link", "set", "switch", "up", inside=self.switch)
            outside = f"tess{run}"  # our own address on the switch
            ip("link", "add", outside, "type", "veth", "peer", "name", "outside", "netns", self.switch)
            ip("link", "set", "outside", "master", "switch", "up", inside=self.switch)
            ip("address", "add", f"{self.network[254]}/24", "dev", outside)
            ip("link", "set", outside, "up")
            for number in range(1, count + 1):
                self.hosts.append(Host(self, number))
        except BaseException:
            self.close()
            raise

    def __getitem__(self, index):
        return self.hosts[index]

    def __iter__(self):
        return iter(self.hosts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def heal(self):
        for host in self.hosts:
            host.heal()

    def close(self):
        for host in self.hosts:
            host.first.kill()
            host.first.wait()
        remove(os.getpid())

    def hostfile(self, *hosts, slots=1):
        path = self.directory / ("hosts_" + "_".join(host.name for host in hosts))
        path.write_text("".join(f"{host.name} slots={slots}\n" for host in hosts))
        return path
