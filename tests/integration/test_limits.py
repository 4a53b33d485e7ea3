"""What a machine lacks: memory, cores, vector units."""
import os

import pytest

from conftest import BIN, TINY, dummy_config, run

TESSERA = BIN / "tessera"
ASK = {"token_ids": {"ids": [5, 6, 7]},
       "sampling": {"max_tokens": 20, "temperature": 0, "ignore_eos": True}}


def serve_within(address_space, *flags):
    """A server that must not come up, whose processes may each map so many bytes."""
    return run("prlimit", f"--as={address_space}", TESSERA, "serve", "--grpc-port", 0, "--no-http",
               "--cluster-port", 0, *flags, timeout=60)


def test_weights_beyond_the_memory_limit_are_refused_with_numbers(tmp_path):
    # 6 layers of 1.2 GB each in float32.
    config = dummy_config(tmp_path, hidden_size=8192, intermediate_size=8192)
    result = serve_within(5_000_000_000, "--model", config, "--load-format", "dummy",
                          "--kv-cache-memory", 100_000_000)
    assert result.returncode == 1, result
    assert "not loaded: the limit on address space (RLIMIT_AS) leaves" in result.stderr
    assert "MB of weights" in result.stderr
    assert "more ranks or hosts would each hold less" in result.stderr


def test_a_kv_cache_beyond_the_memory_limit_is_refused_with_advice(tmp_path):
    config = dummy_config(tmp_path, max_position_embeddings=200_000)
    result = serve_within(5_000_000_000, "--model", config, "--load-format", "dummy",
                          "--kv-cache-memory", 6_000_000_000, "--max-num-seqs", 200)
    assert result.returncode == 1, result
    assert "MB of KV cache; --kv-cache-memory makes the KV cache smaller" in result.stderr


def test_one_thread_more_than_cores_works_and_is_said_once(start):
    cores = len(os.sched_getaffinity(0))
    cluster = start(TINY, 1, 1, "--threads-per-rank", cores + 1)
    ids, _, _ = cluster.client.generate(**ASK)
    assert len(ids) == 20
    assert cluster.log().count(f"note: {cores + 1} compute threads on {cores} cores") == 1


@pytest.mark.parametrize("threads", [0, -1, 1025, "many"])
def test_threads_per_rank_has_bounds(threads):
    result = run(TESSERA, "serve", "--model", TINY, "--threads-per-rank", threads)
    assert result.returncode == 2
    assert "--threads-per-rank" in result.stderr


def test_a_cpu_without_vector_units_serves(start):
    cluster = start(TINY, 2, 1, "--instruction-set", "scalar")
    ids, _, _ = cluster.client.generate(**ASK)
    assert len(ids) == 20
    assert all("scalar" in rank.device for rank in cluster.group().ranks)


def test_workers_are_told_to_be_deterministic(start):
    cluster = start(TINY, 2, 1, "--deterministic")
    ids, _, _ = cluster.client.generate(**ASK)
    assert len(ids) == 20
    for rank in cluster.group().ranks:
        with open(f"/proc/{rank.pid}/cmdline", encoding="utf-8") as line:
            assert "--deterministic" in line.read().split("\0")


def test_an_unknown_instruction_set_is_named():
    result = run(TESSERA, "serve", "--model", TINY, "--grpc-port", 0, "--no-http",
                 "--cluster-port", 0, "--instruction-set", "mmx")
    assert result.returncode == 1
    assert "'mmx'" in result.stderr
