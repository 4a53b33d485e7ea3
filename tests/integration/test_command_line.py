"""The programs at a prompt: quickstart, plan, and every way to get it wrong."""
import os
import re
import socket
import struct

import pytest

from conftest import BIN, ROOT, TINY, default_model, family, run, segments

TESSERA = BIN / "tessera"


@pytest.mark.parametrize("command", ["", "serve", "generate", "chat", "batch",
                                     "perplexity", "status", "plan", "tokenize"])
def test_help(command):
    result = run(TESSERA, *filter(None, [command]), "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout or "usage" in result.stdout


@pytest.mark.parametrize("command", [["frobnicate"], ["serve", "--no-such-flag"], ["plan", "--tp"]])
def test_unknown_flags_and_commands(command):
    result = run(TESSERA, *command)
    assert result.returncode == 2
    assert result.stderr.strip()


def test_plan_shows_who_would_own_what():
    result = run(TESSERA, "plan", "--model", TINY, "-tp", "4", "-pp", "2")
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"^\s*\d+\s", result.stdout, re.MULTILINE)) >= 8
    for word in ("layers", "KV", "FFN", "MB"):
        assert word.lower() in result.stdout.lower()


BAD_LAYOUTS = [
    (["-tp", "10"], "tensor-parallel-size", "9"),
    (["-tp", "0"], "tensor-parallel-size", "1"),
    (["-pp", "4"], "pipeline-parallel-size", "3"),
    (["-pp", "2", "--layer-split", "2,2"], "layer-split", "3"),
    (["-tp", "2", "--tensor-split", "1,2,3"], "tensor-split", "2"),
    (["-tp", "2", "--tensor-split", "1,nan"], "tensor-split", ""),
    (["--max-model-len", "1000000"], "max-model-len", ""),
]


@pytest.mark.parametrize("program", ["plan", "serve"])
@pytest.mark.parametrize("flags,field,bound", BAD_LAYOUTS, ids=lambda value: "_".join(value) if isinstance(value, list) else None)
def test_bad_layouts_name_the_flag_and_the_range(program, flags, field, bound):
    ports = ["--no-http", "--grpc-port", 0, "--cluster-port", 0] if program == "serve" else []
    result = run(TESSERA, program, "--model", TINY, *flags, *ports)
    assert result.returncode in (1, 2)
    assert field in result.stderr and bound in result.stderr


def test_a_group_with_too_few_ranks_is_turned_away(tmp_path):
    import subprocess, time
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen([TESSERA, "serve", "--model", TINY, "-tp", "2", "-pp", "2",
                                   "--launch", "external", "--no-http", "--grpc-port", "0",
                                   "--cluster-port", "0"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        address = None
        while not address and time.monotonic() < deadline:
            found = re.search(r"--coordinator[ =](\S+)", (tmp_path / "log").read_text())
            address = found and found.group(1)
            time.sleep(0.05)
        assert address, (tmp_path / "log").read_text()
        root = ["--allow-run-as-root"] if os.getuid() == 0 else []
        result = run("mpirun", *root, "--oversubscribe", "--bind-to", "none", "-n", "3",
                     BIN / "tessera-worker", "--coordinator", address, "--model", TINY)
        assert result.returncode != 0
        assert "4" in result.stderr and "3" in result.stderr
        assert server.poll() is None  # the coordinator waits for a better one
    finally:
        server.terminate()
        server.wait(10)


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--grpc-port": 0, "--cluster-port": 0, "--port": 0}
        for flag in ports:
            flags = [part for pair in (ports | {flag: port}).items() for part in pair]
            result = run(TESSERA, "serve", "--model", TINY, *flags)
            assert result.returncode == 1
            assert str(port) in result.stderr and flag in result.stderr


def gguf_with(version=3, tensors=0):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, 0)


BAD_FILES = {
    "missing": None,
    "empty": b"",
    "not a model": b"hello world, this is not a model at all",
    "header only": b"GGUF" + struct.pack("<I", 3),
    "version 9": gguf_with(version=9),
    "exabyte of tensors": gguf_with(tensors=1 << 60),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_model_files_are_one_clear_line(tmp_path, case):
    path = tmp_path / "model.gguf"
    if BAD_FILES[case] is not None:
        path.write_bytes(BAD_FILES[case])
    before = segments()
    for command in (["plan"], ["serve", "-tp", 2, "--no-http", "--grpc-port", 0,
                               "--cluster-port", 0]):
        result = run(TESSERA, *command, "--model", path)
        assert result.returncode == 1
        lines = [line for line in result.stderr.splitlines() if "model.gguf" in line]
        assert len(lines) == 1, result.stderr
    assert segments() <= before


def test_a_truncated_default_model_names_the_tensor(tmp_path):
    path = tmp_path / "cut.gguf"
    with open(default_model(), "rb") as whole:
        path.write_bytes(whole.read(40_000_000))
    result = run(TESSERA, "plan", "--model", path)
    assert result.returncode == 1
    assert "cut.gguf" in result.stderr and ".weight" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_quickstart_answers_and_leaves_nothing():
    before = segments()
    default_model()
    result = run(ROOT / "deploy" / "quickstart.sh", "--prompt", "What is the capital of France?",
                 "--max-tokens", "16", timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Paris" in result.stdout
    everything = (result.stdout + result.stderr).lower()
    for word in ("ttft", "tokens/s", "layers", "vocab"):
        assert word in everything
    assert segments() <= before


def test_quickstart_keep_leaves_a_cluster_for_other_clients():
    import signal
    from conftest import InferenceByReflection, alive, wait_for
    default_model()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = run(ROOT / "deploy" / "quickstart.sh", "--keep", "--grpc-port", port, "--port", 0,
                 "--max-tokens", "4", timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    server = int(re.search(r"kill (\d+)", result.stdout).group(1))
    pids = family(server)
    try:
        client = InferenceByReflection(f"127.0.0.1:{port}")
        ids, text, last = client.generate(text="The capital of France is",
                                          sampling={"max_tokens": 4, "temperature": 0})
        assert "Paris" in text and last.usage.completion_tokens == 4
    finally:
        os.kill(server, signal.SIGTERM)
        wait_for(lambda: not any(map(alive, pids)), 10)


@pytest.mark.parametrize("option", ["--frobnicate", "--prompt"])
def test_quickstart_refuses_what_it_does_not_know(option):
    result = run(ROOT / "deploy" / "quickstart.sh", option)
    assert result.returncode == 2 and option in result.stderr
