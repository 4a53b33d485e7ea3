"""A conversation by curl, as a shell script would have it, and the small endpoints."""
import json
import shutil

import pytest

from conftest import TINY, run
from served import Http, events


def curl(*arguments, timeout=120):
    if shutil.which("curl") is None:
        pytest.skip("SKIPPED LOUDLY: there is no curl")
    result = run("curl", "--silent", "--show-error", "--max-time", timeout, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def status_of(*arguments):
    return int(curl("--output", "/dev/null", "--write-out", "%{http_code}", *arguments))


def post(url, body, *arguments):
    return curl(url, "-H", "Content-Type: application/json", "-d", json.dumps(body), *arguments)


def test_a_conversation(served):
    url = served.url + "/v1/chat/completions"
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    options = {"temperature": 0, "max_tokens": 24}
    first = json.loads(post(url, {"messages": messages, **options}))
    answer = first["choices"][0]["message"]
    assert "Paris" in answer["content"], answer

    messages += [answer, {"role": "user", "content": "And what language do they speak there?"}]
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **options}
    chunks = events(post(url, body, "--no-buffer").encode())
    text = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
    by_grpc = served.cluster.client.call(
        "Chat", messages=[{k: m[k] for k in ("role", "content")} for m in messages], sampling=options)
    assert text == "".join(message.text for message in by_grpc) != ""
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)


def test_model_may_be_left_out_or_default(served):
    body = {"prompt": "1 2 3", "max_tokens": 4, "temperature": 0}
    texts = {json.loads(post(served.url + "/v1/completions", {**body, **model}))["choices"][0]["text"]
             for model in ({}, {"model": None}, {"model": "default"})}
    assert len(texts) == 1
    assert status_of(served.url + "/v1/completions", "-d", json.dumps({**body, "model": "gpt-9"})) == 404


def test_streams_have_their_content_type_and_are_not_buffered(served):
    head = curl("--include", "--no-buffer", served.url + "/v1/completions", "-d",
                json.dumps({"prompt": "a", "max_tokens": 2, "stream": True})).split("\r\n\r\n")[0]
    assert "200" in head.splitlines()[0]
    assert "text/event-stream" in head.lower()
    assert "content-length" not in head.lower()


def test_one_connection_serves_many_requests(served):
    body = json.dumps({"prompt": "a", "max_tokens": 1})
    urls = [served.url + "/v1/completions"] * 4
    out = curl(*urls, "-d", body, "--write-out", "\n%{num_connects}\n")
    assert [int(line) for line in out.splitlines() if line.isdigit()] == [1, 0, 0, 0]


def test_tokenize_and_detokenize_are_each_others_inverse(served):
    text = "Grüße, 世界! <|im_end|> 🙂\n\tend"
    tokens = json.loads(post(served.url + "/tokenize", {"prompt": text}))
    assert tokens["count"] == len(tokens["tokens"]) > 5
    assert tokens["max_model_len"] > 0
    back = json.loads(post(served.url + "/detokenize", {"tokens": tokens["tokens"]}))
    assert back["prompt"] == text
    chat = json.loads(post(served.url + "/tokenize",
                           {"messages": [{"role": "user", "content": text}]}))
    assert chat["count"] > tokens["count"], "the template's tokens are among them"


def test_health_version_and_metrics(served):
    assert status_of(served.url + "/health") == 200
    assert json.loads(curl(served.url + "/version"))["version"]
    post(served.url + "/v1/completions", {"prompt": "a", "max_tokens": 3, "ignore_eos": True})
    metrics = curl(served.url + "/metrics")
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                 "time_to_first_token_seconds_bucket", "inter_token_latency_seconds_bucket",
                 "e2e_request_latency_seconds_bucket", "prompt_tokens_total",
                 "generation_tokens_total", "num_preemptions_total", "prefix_cache_hits_total"):
        assert f"\ntessera_{name}" in metrics, name
    values = {line.split("{")[0].split(" ")[0]: float(line.rsplit(" ", 1)[1])
              for line in metrics.splitlines() if line and not line.startswith("#")}
    assert values["tessera_generation_tokens_total"] >= 3


def test_unknown_paths_and_methods(served):
    assert status_of(served.url + "/v1/embeddings", "-d", "{}") == 404
    assert status_of(served.url + "/nothing") == 404
    assert status_of(served.url + "/v1/completions") == 405
    assert status_of(served.url + "/v1/models", "-X", "DELETE") == 405
    assert status_of(served.url + "/health", "--head") == 200


def test_the_bearer_key(start):
    url = Http(start(TINY, 1, 1, "--port", 0, "--api-key", "sk-1")).url
    assert status_of(url + "/v1/models") == 401
    assert status_of(url + "/v1/models", "-H", "Authorization: Bearer sk-2") == 401
    assert status_of(url + "/v1/models", "-H", "Authorization: Bearer sk-1") == 200
