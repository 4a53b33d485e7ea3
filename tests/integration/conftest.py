"""Starts the real programs and talks to them as strangers do.

A Cluster is one `tessera serve` with its mpirun job. Ports are chosen by the system, and every test
ends by proving that no process and no shared-memory segment is left.
"""
import json
import os
import pathlib
import signal
import subprocess
import time

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TESSERA_BIN_DIR", ROOT / "build" / "release" / "bin"))
TINY = ROOT / "tests" / "golden" / "tiny_models" / "llama"
START_TIMEOUT = 120


def default_model():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    cached = cache / "tessera" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path = os.environ.get("TESSERA_TEST_MODEL", str(cached))
    if not os.path.exists(path):
        pytest.skip("SKIPPED LOUDLY: the default model is not in the cache (deploy/fetch-model.sh)")
    return path


class InferenceByReflection:
    """tessera.v1.Inference, knowing only what server reflection tells."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(database)
        self.service = self.pool.FindServiceByName("tessera.v1.Inference")

    def type(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName("tessera.v1." + name))

    def call(self, method, timeout=60, metadata=(), **fields):
        descriptor = self.service.FindMethodByName(method)
        request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
        response = message_factory.GetMessageClass(descriptor.output_type)
        path = f"/tessera.v1.Inference/{method}"
        make = self.channel.unary_stream if descriptor.server_streaming else self.channel.unary_unary
        stub = make(path, request_serializer=type(request).SerializeToString,
                    response_deserializer=response.FromString)
        return stub(request, timeout=timeout, metadata=metadata)

    def generate(self, timeout=60, **fields):
        """All of a Generate call: (ids, text, last message)."""
        ids, text, last = [], "", None
        for last in self.call("Generate", timeout=timeout, **fields):
            ids += last.token_ids
            text += last.text
        return ids, text, last


class Cluster:
    def __init__(self, directory, model, tp=1, pp=1, *flags, inside=()):
        """inside: a command that runs the one behind it in its own place."""
        self.ready_file = directory / "ready"
        self.log_path = directory / "serve.log"
        command = [*inside, BIN / "tessera", "serve", "--model", model, "--tensor-parallel-size", tp,
                   "--pipeline-parallel-size", pp, "--grpc-port", 0,
                   "--ready-file", self.ready_file, *flags]
        if "--cluster-port" not in flags:
            command += ["--cluster-port", 0]
        if "--port" not in flags:
            command.append("--no-http")
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.address = None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self):
        wait_for(lambda: self.ready_file.exists() and self.ready_file.read_text().strip()
                 or self.process.poll() is not None, START_TIMEOUT, self.log)
        assert self.process.poll() is None, self.log()
        self.address = self.ready_file.read_text().split()[0]  # gRPC's; then HTTP's
        self.client = InferenceByReflection(self.address)
        return self

    def group(self):
        return self.client.call("GetClusterStatus").groups[0]

    def pids(self):
        """The coordinator's whole family, children of children included."""
        return family(self.process.pid)

    def stop(self, how=signal.SIGTERM, timeout=20):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout)


def family(root_pid):
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, frontier = [], [root_pid]
    while frontier:
        pid = frontier.pop()
        found.append(pid)
        frontier += children.get(pid, [])
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def segments():
    return {entry.name for entry in pathlib.Path("/dev/shm").iterdir()
            if entry.name.startswith(("vader_segment", "osc_sm", "tessera", "pmix", "psm", "ompi"))}


def dummy_config(directory, **changes):
    """A config.json of a model slow enough to be interrupted; its weights are made up at load."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512,
              "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
              "intermediate_size": 1536, "vocab_size": 1000, "max_position_embeddings": 4096,
              "rms_norm_eps": 1e-5, "tie_word_embeddings": True, **changes}
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return path


def wait_for(condition, timeout, explain=lambda: ""):
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s\n{explain()}"
        time.sleep(0.02)


def best_of_three(attempt, seconds):
    """One of three attempts must take no longer; `attempt` returns what it took.

    A promise in seconds holds on a machine that has time for us. One that is busy with something else
    may miss it once, and never misses it three times for that reason alone."""
    took = []
    while len(took) < 3:
        took.append(attempt())
        if took[-1] <= seconds:
            return took[-1]
    raise AssertionError(f"promised within {seconds} s, three attempts took {took}")


def run(*command, timeout=120, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def start(tmp_path):
    """start(model, tp, pp, *flags) → a serving Cluster; all of them are stopped afterwards."""
    before = segments()
    clusters = []

    def make(*arguments, ready=True, inside=()):
        directory = tmp_path / f"cluster{len(clusters)}"
        directory.mkdir()
        clusters.append(Cluster(directory, *arguments, inside=inside))
        return clusters[-1].wait_ready() if ready else clusters[-1]

    yield make
    pids = [pid for cluster in clusters for pid in cluster.pids()]
    for cluster in clusters:
        cluster.stop()
    wait_for(lambda: not any(map(alive, pids)), 20, lambda: f"left: {[p for p in pids if alive(p)]}")
    wait_for(lambda: segments() <= before, 20, lambda: str(segments() - before))


@pytest.fixture(scope="module")
def tiny_cluster(tmp_path_factory):
    """One 2x2 group of the tiny Llama for the tests that do no harm."""
    cluster = Cluster(tmp_path_factory.mktemp("tiny"), TINY, 2, 2).wait_ready()
    yield cluster
    cluster.stop()


from served import client, served  # noqa: E402,F401  (fixtures; served.py uses what is above)
