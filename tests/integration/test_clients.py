"""The doors as a stock client finds them: reflection, the .proto, health, streams, errors."""
import math
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import ROOT, dummy_config, wait_for

GREEDY = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}


def test_reflection_lists_the_service_and_streams_an_answer(tiny_cluster):
    client = tiny_cluster.client
    chunks = list(client.call("Generate", token_ids={"ids": [1, 2, 3]}, sampling=GREEDY))
    assert sum(len(chunk.token_ids) for chunk in chunks) == 8
    assert len(chunks) > 1, "tokens must arrive as they are made, not all at once"
    assert chunks[-1].usage.prompt_tokens == 3
    assert chunks[-1].usage.completion_tokens == 8
    assert chunks[-1].finish_reason == 2  # LENGTH
    assert chunks[0].request_id


def test_a_client_generated_from_the_proto_streams_an_answer(tiny_cluster, tmp_path):
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}",
                    f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}",
                    "tessera/v1/inference.proto", "tessera/v1/model.proto"], check=True)
    program = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import grpc
from tessera.v1 import inference_pb2 as pb, inference_pb2_grpc as rpc
stub = rpc.InferenceStub(grpc.insecure_channel({tiny_cluster.address!r}))
request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, 2, 3]),
                             sampling=pb.SamplingOptions(max_tokens=8, temperature=0, ignore_eos=True))
print([i for chunk in stub.Generate(request) for i in chunk.token_ids])
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ids, _, _ = tiny_cluster.client.generate(token_ids={"ids": [1, 2, 3]}, sampling=GREEDY)
    assert out.stdout.strip() == str(ids)


def test_health_of_the_coordinator_and_of_every_rank(tiny_cluster):
    def check(address, service=""):
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(address))
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status

    serving = health_pb2.HealthCheckResponse.SERVING
    assert check(tiny_cluster.address) == serving
    assert check(tiny_cluster.address, "tessera.v1.Inference") == serving
    ranks = tiny_cluster.group().ranks
    assert len(ranks) == 4
    for rank in ranks:
        assert check(f"127.0.0.1:{rank.health_port}") == serving


def test_seeded_sampling_repeats_and_differs_by_seed(tiny_cluster):
    def draw(seed):
        options = {"max_tokens": 12, "temperature": 1.5, "seed": seed, "ignore_eos": True}
        return tiny_cluster.client.generate(token_ids={"ids": [9, 8, 7]}, sampling=options)[0]

    assert draw(7) == draw(7)
    assert len({tuple(draw(seed)) for seed in range(5)}) > 1


def test_logprobs_are_log_probabilities_in_order(tiny_cluster):
    options = dict(GREEDY, logprobs=3)
    chunks = list(tiny_cluster.client.call("Generate", token_ids={"ids": [4, 5]}, sampling=options))
    entries = [entry for chunk in chunks for entry in chunk.logprobs]
    assert len(entries) == 8
    for entry in entries:
        top = [alternative.logprob for alternative in entry.top]
        assert len(top) == 3 and top == sorted(top, reverse=True)
        assert entry.chosen.logprob == pytest.approx(top[0]) and top[0] < 0
        assert sum(map(math.exp, top)) <= 1 + 1e-5


def used_blocks(cluster):
    group = cluster.group()
    return group.kv_blocks_total - group.kv_blocks_free


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_stream_that_ends_early_frees_its_blocks(start, tmp_path, how):
    cluster = start(dummy_config(tmp_path), 1, 2, "--load-format", "dummy")
    options = {"max_tokens": 4000, "temperature": 0, "ignore_eos": True}
    stream = cluster.client.call("Generate", timeout=600 if how == "cancel" else 1.0,
                                 token_ids={"ids": list(range(20))}, sampling=options)
    if how == "cancel":
        next(stream)
        assert used_blocks(cluster) > 0
        stream.cancel()
    with pytest.raises(grpc.RpcError) as error:
        for _ in stream:
            pass
    expected = {"cancel": grpc.StatusCode.CANCELLED, "deadline": grpc.StatusCode.DEADLINE_EXCEEDED}
    assert error.value.code() == expected[how]
    wait_for(lambda: used_blocks(cluster) == 0, 10)


NAN, INF = float("nan"), float("inf")
BAD_REQUESTS = [
    ("temperature", dict(sampling={"temperature": NAN})),
    ("temperature", dict(sampling={"temperature": -1})),
    ("temperature", dict(sampling={"temperature": INF})),
    ("top_p", dict(sampling={"top_p": 0})),
    ("top_p", dict(sampling={"top_p": 1.5})),
    ("min_p", dict(sampling={"min_p": -0.1})),
    ("top_k", dict(sampling={"top_k": -2})),
    ("max_tokens", dict(sampling={"max_tokens": 0})),
    ("max_tokens", dict(sampling={"max_tokens": -5})),
    ("logprobs", dict(sampling={"logprobs": 1000})),
    ("stop", dict(sampling={"stop": ["x"] * 100})),
    ("prompt", dict(token_ids={"ids": []})),
    ("token_ids", dict(token_ids={"ids": [1, 131, 2]})),
    ("token_ids", dict(token_ids={"ids": [-1]})),
    ("prompt", dict(token_ids={"ids": [1] * 100000})),
]


@pytest.mark.parametrize("field,request_fields", BAD_REQUESTS, ids=lambda value: str(value)[:40])
def test_bad_requests_name_the_field_and_disturb_nobody(tiny_cluster, field, request_fields):
    client = tiny_cluster.client
    neighbour = client.call("Generate", token_ids={"ids": [1, 2, 3]},
                            sampling=dict(GREEDY, max_tokens=32))
    fields = {"token_ids": {"ids": [1, 2, 3]}, **request_fields}
    with pytest.raises(grpc.RpcError) as error:
        list(client.call("Generate", **fields))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in error.value.details()
    assert sum(len(chunk.token_ids) for chunk in neighbour) == 32


def test_an_unknown_model_is_not_found(tiny_cluster):
    with pytest.raises(grpc.RpcError) as error:
        list(tiny_cluster.client.call("Generate", model="gpt-9", token_ids={"ids": [1]}))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_text_calls_of_a_model_without_tokenizer_are_refused(tiny_cluster):
    with pytest.raises(grpc.RpcError) as error:
        tiny_cluster.client.call("Tokenize", text="hello")
    assert error.value.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED)
