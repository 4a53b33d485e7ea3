"""What the serving engine promises, on the real model: independence of the batch, shared prefixes,
scores, choices, constraints, cancellation, deadlines, overload."""
import concurrent.futures
import json
import math
import threading
import time

import grpc
import pytest

from conftest import dummy_config, wait_for
from served import Http, events

PROMPT = "Once upon a time, in a small village by the sea,"


def choices(cluster, timeout=120, **fields):
    """A Generate call → ({index: ids}, {index: text}, {index: finish reason}, last message)."""
    ids, texts, reasons, last = {}, {}, {}, None
    for last in cluster.client.call("Generate", timeout=timeout, **fields):
        ids.setdefault(last.index, []).extend(last.token_ids)
        texts[last.index] = texts.get(last.index, "") + last.text
        if last.finish_reason:
            reasons[last.index] = last.finish_reason
    return ids, texts, reasons, last


def running(cluster):
    return cluster.client.call("GetClusterStatus").requests_running


def used_blocks(cluster):
    group = cluster.group()
    return group.kv_blocks_total - group.kv_blocks_free


# --- Independence of the batch.

SEEDED = [
    {"temperature": 1.1, "seed": 3},
    {"temperature": 0.8, "seed": 4, "top_p": 0.9, "top_k": 40},
    {"temperature": 1.3, "seed": 5, "min_p": 0.05, "n": 2},
    {"temperature": 0, "repetition_penalty": 1.3},
    {"temperature": 1, "seed": 6, "presence_penalty": 1.5, "frequency_penalty": 0.5},
    {"temperature": 1, "seed": 7, "logprobs": 4},
    {"temperature": 1, "seed": 8, "logit_bias": {"260": 4, "253": -100}},
    {"temperature": 1, "seed": 9, "extra": "guided_regex"},
]


def seeded_body(options, index):
    body = {"prompt": f"{PROMPT} number {index}", "max_tokens": 24, "min_tokens": 24, **options}
    if body.pop("extra", None):
        body.pop("min_tokens")
        body["guided_regex"] = "[a-z ]{10,60}"
    return body


def test_a_seeded_request_alone_and_among_eight_others_is_the_same(served):
    def ask(index):
        answer = served.post("/v1/completions", seeded_body(SEEDED[index], index))
        assert answer.status == 200, answer
        return [(c["text"], c["logprobs"]) for c in answer.json()["choices"]]

    alone = [ask(i) for i in range(len(SEEDED))]
    with concurrent.futures.ThreadPoolExecutor(len(SEEDED) + 1) as pool:
        # A long prompt goes through in chunks beside them.
        long_prompt = pool.submit(served.post, "/v1/completions",
                                  {"prompt": "word " * 1500, "max_tokens": 4})
        together = list(pool.map(ask, range(len(SEEDED))))
        assert long_prompt.result().status == 200
    for options, one, other in zip(SEEDED, alone, together):
        assert one == other, options


# --- Shared prefixes.

def test_the_second_request_finds_its_prefix(served):
    body = {"prompt": "A prefix nobody else has: " + "seven lazy dogs " * 60, "max_tokens": 8,
            "temperature": 0}
    first, second = (served.post("/v1/completions", body).json() for _ in range(2))
    def cached(answer):
        return (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    prompt_tokens = first["usage"]["prompt_tokens"]
    assert cached(first) < 32 and cached(second) > prompt_tokens / 2
    assert cached(second) < prompt_tokens, "one token at least is computed, to have a next one"
    assert first["choices"][0]["text"] == second["choices"][0]["text"]


def test_tenants_do_not_share_prefixes(served):
    body = {"prompt": "Of tenants alone: " + "nine quiet cats " * 60, "max_tokens": 1}
    def cached(tenant):
        answer = served.post("/v1/completions", body, {"x-tenant-id": tenant}).json()
        return (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    assert cached("one") < 32
    assert cached("two") < 32, "another tenant's cache must not be seen, not even by its speed"
    assert cached("one") > 32


def test_cached_tokens_are_in_the_grpc_usage(served):
    fields = {"text": "Counted by gRPC: " + "five tall trees " * 60, "sampling": {"max_tokens": 1}}
    first = choices(served.cluster, **fields)[3].usage
    second = choices(served.cluster, **fields)[3].usage
    assert second.cached_tokens > first.cached_tokens
    assert second.cached_tokens < second.prompt_tokens == first.prompt_tokens


# --- Scores.

def test_scores_rank_and_add_up(served):
    answer = served.cluster.client.call(
        "Score", text="The capital of France is", top_logprobs=2,
        continuations=[{"text": " Paris"}, {"text": " Berlin"}, {"text": " qqqqq zzz"}])
    scores = [score.log_likelihood for score in answer.scores]
    assert scores == sorted(scores, reverse=True) and scores[0] < 0
    for score in answer.scores:
        chosen = [token.chosen.logprob for token in score.tokens]
        assert sum(chosen) == pytest.approx(score.log_likelihood, abs=1e-4)
        greedy = all(token.chosen.logprob >= token.top[0].logprob - 1e-6 for token in score.tokens)
        assert score.is_greedy == greedy
        assert all(len(token.top) == 2 for token in score.tokens)
    assert answer.usage.prompt_tokens > 0


def test_a_score_is_what_generation_reports(served):
    sampling = {"max_tokens": 6, "temperature": 0, "logprobs": 0, "ignore_eos": True}
    messages = list(served.cluster.client.call("Generate", text=PROMPT, sampling=sampling))
    ids = [i for message in messages for i in message.token_ids]
    logprobs = [entry.chosen.logprob for message in messages for entry in message.logprobs]
    [score] = served.cluster.client.call("Score", text=PROMPT,
                                         continuations=[{"token_ids": {"ids": ids}}]).scores
    assert score.is_greedy
    assert [token.chosen.token_id for token in score.tokens] == ids
    assert [token.chosen.logprob for token in score.tokens] == pytest.approx(logprobs, abs=1e-4)
    assert score.log_likelihood == pytest.approx(math.fsum(logprobs), abs=1e-3)


@pytest.mark.parametrize("field,fields", [
    ("continuations", {"text": "a", "continuations": []}),
    ("continuations", {"text": "a", "continuations": [{"text": "b"}] * 257}),
    ("continuations", {"text": "a", "continuations": [{"text": ""}]}),
    ("continuations", {"text": "a", "continuations": [{}]}),
    ("continuations", {"text": "a", "continuations": [{"token_ids": {"ids": [1 << 30]}}]}),
    ("top_logprobs", {"text": "a", "continuations": [{"text": "b"}], "top_logprobs": 21}),
    ("top_logprobs", {"text": "a", "continuations": [{"text": "b"}], "top_logprobs": -1})])
def test_bad_scores_name_the_field(served, field, fields):
    with pytest.raises(grpc.RpcError) as error:
        served.cluster.client.call("Score", **fields)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in error.value.details()


# --- Choices, penalties, biases, constraints by gRPC.

def test_choices_come_with_their_index_and_one_usage(served):
    sampling = {"n": 4, "temperature": 1.2, "seed": 21, "max_tokens": 10, "ignore_eos": True}
    ids, texts, reasons, last = choices(served.cluster, text=PROMPT, sampling=sampling)
    assert sorted(ids) == [0, 1, 2, 3] and all(len(one) == 10 for one in ids.values())
    assert len({tuple(one) for one in ids.values()}) > 1
    assert set(reasons.values()) == {2}  # LENGTH
    assert last.usage.completion_tokens == 40
    again = choices(served.cluster, text=PROMPT, sampling=sampling)
    assert (again[0], again[1]) == (ids, texts)


def test_penalties_bias_stop_ids_and_bad_words(served):
    def ids(**sampling):
        sampling = {"max_tokens": 12, "temperature": 0, "ignore_eos": True, **sampling}
        return choices(served.cluster, text="la la la la la", sampling=sampling)[0][0]

    plain = ids()
    assert ids(presence_penalty=2) != plain
    assert ids(frequency_penalty=2) != plain
    assert ids(repetition_penalty=1.8) != plain
    assert ids(logit_bias={plain[0]: -100})[0] != plain[0]
    assert ids(logit_bias={260: 100}) == [260] * 12
    stopped = ids(stop_token_ids=[plain[3]])
    assert len(stopped) <= 4 and stopped[-1] == plain[3]
    text = choices(served.cluster, text="la la la la la",
                   sampling={"max_tokens": 12, "temperature": 0, "bad_words": [" la", "la"]})[1][0]
    assert "la" not in text.split()


def test_min_tokens_holds_back_the_end(served):
    def ask(**more):
        return choices(served.cluster, text="Say A.", sampling={
            "max_tokens": 40, "temperature": 0, "stop_token_ids": list(range(0, 128)), **more})[0][0]
    assert len(ask(min_tokens=30)) >= 30


@pytest.mark.parametrize("structured,holds", [
    ({"regex": r"(yes|no), [0-9]{3}"}, lambda text: text[-3:].isdigit() and text[:2] in ("ye", "no")),
    ({"choice": {"values": ["alpha", "beta", "gamma"]}}, lambda text: text in ("alpha", "beta", "gamma")),
    ({"json_schema": '{"type":"array","items":{"type":"boolean"},"minItems":2,"maxItems":2}'},
     lambda text: text.replace(" ", "").replace("\n", "") in
     {f"[{a},{b}]" for a in ("true", "false") for b in ("true", "false")}),
], ids=["regex", "choice", "json_schema"])
@pytest.mark.parametrize("seed", [1, 2])
def test_structured_output_holds_at_high_temperature(served, structured, holds, seed):
    sampling = {"max_tokens": 60, "temperature": 2, "seed": seed, "structured": structured}
    _, texts, reasons, _ = choices(served.cluster, text="Answer: ", sampling=sampling)
    assert reasons[0] == 1 and holds(texts[0]), texts


def test_prompt_logprobs_cover_the_prompt(served):
    first = next(iter(served.cluster.client.call(
        "Generate", text=PROMPT, sampling={"max_tokens": 1, "prompt_logprobs": 2})))
    count = len(served.cluster.client.call("Tokenize", text=PROMPT).ids)
    assert len(first.prompt_logprobs) in (count, count + 1)
    assert not first.prompt_logprobs[0].top
    assert all(entry.chosen.logprob <= 0 for entry in first.prompt_logprobs[1:])


# --- Ends before the end.

LONG = {"max_tokens": 4000, "temperature": 0, "ignore_eos": True}


def test_abort_ends_a_stream_and_frees_its_blocks(served):
    client = served.cluster.client
    stream = client.call("Generate", text=PROMPT, request_id="abort-me", sampling=LONG)
    next(stream)
    client.call("Abort", request_id="abort-me")
    with pytest.raises(grpc.RpcError) as error:
        for _ in stream:
            pass
    assert error.value.code() == grpc.StatusCode.CANCELLED
    wait_for(lambda: running(served.cluster) == 0 and used_blocks(served.cluster) == 0, 10)
    with pytest.raises(grpc.RpcError) as error:
        client.call("Abort", request_id="abort-me")
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_live_request_id_is_taken(served):
    client = served.cluster.client
    stream = client.call("Generate", text=PROMPT, request_id="twice", sampling=LONG)
    next(stream)
    with pytest.raises(grpc.RpcError) as error:
        list(client.call("Generate", text=PROMPT, request_id="twice", sampling={"max_tokens": 1}))
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS
    stream.cancel()
    wait_for(lambda: running(served.cluster) == 0, 10)


def test_a_deadline_ends_a_running_stream(served):
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        list(served.cluster.client.call("Generate", text=PROMPT, sampling=LONG, timeout=1.5))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begin < 20
    wait_for(lambda: running(served.cluster) == 0 and used_blocks(served.cluster) == 0, 10)


def test_many_streams_cancelled_at_once_leave_nothing(served):
    client = served.cluster.client
    streams = [client.call("Generate", text=f"{PROMPT} {i}", sampling=LONG) for i in range(100)]
    next(streams[0])
    for stream in streams:
        stream.cancel()
    status = lambda: client.call("GetClusterStatus")
    wait_for(lambda: status().requests_running == 0 and status().requests_waiting == 0, 20,
             lambda: str(status()))
    wait_for(lambda: used_blocks(served.cluster) == 0, 10)
    assert choices(served.cluster, text=PROMPT, sampling={"max_tokens": 2})[3].usage.completion_tokens


def test_a_reader_that_reads_nothing_slows_nobody(served):
    import json
    body = json.dumps({"prompt": PROMPT, "max_tokens": 400, "ignore_eos": True, "stream": True,
                       "temperature": 0}).encode()
    head = (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n").encode()
    with served.connect() as sleeper:
        sleeper.sendall(head + body)
        texts = [served.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
                             ).json()["choices"][0]["text"] for _ in range(3)]
        assert len(set(texts)) == 1
        wait_for(lambda: running(served.cluster) == 0, 60)
        data = b"".join(iter(lambda: sleeper.recv(65536), b""))
    assert b"[DONE]" in data and data.split(b" ", 2)[1] == b"200"


# --- Overload and order, on a model slow enough to fill a queue.

@pytest.fixture
def narrow(start, tmp_path):
    """One request at a time, two may wait."""
    config = dummy_config(tmp_path, hidden_size=256, num_hidden_layers=2)
    return Http(start(config, 1, 1, "--load-format", "dummy", "--port", 0, "--max-num-seqs", 1,
                      "--max-queue", 2, "--scheduling-policy", "priority"))


def occupy(http, count):
    """Streams that run or wait until they are cancelled. The first runs before the others come: all
    at once they might find the queue full."""
    def stream(i):
        return http.cluster.client.call("Generate", token_ids={"ids": [1, 2, 3 + i]}, sampling=LONG,
                                        timeout=600)

    streams = [stream(0)]
    next(streams[0])
    streams += [stream(i) for i in range(1, count)]
    wait_for(lambda: http.cluster.client.call("GetClusterStatus").requests_waiting == count - 1, 20)
    return streams


def test_a_full_queue_answers_at_once(narrow):
    streams = occupy(narrow, 3)
    body = {"prompt": [4, 5, 6], "max_tokens": 2}
    answer = narrow.post("/v1/completions", body)
    assert answer.status == 429, answer
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.error["type"] == "rate_limit_error"
    with pytest.raises(grpc.RpcError) as error:
        list(narrow.cluster.client.call("Generate", token_ids={"ids": [4]}))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert any("RetryInfo" in str(value) or "retry" in key
               for key, value in error.value.trailing_metadata())
    for stream in streams:
        stream.cancel()
    wait_for(lambda: running(narrow.cluster) == 0, 10)
    assert narrow.post("/v1/completions", body).status == 200


def test_a_deadline_in_the_queue_is_kept_there(narrow):
    streams = occupy(narrow, 1)
    with pytest.raises(grpc.RpcError) as error:
        list(narrow.cluster.client.call("Generate", token_ids={"ids": [4]}, timeout=1,
                                        sampling={"max_tokens": 2}))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: narrow.cluster.client.call("GetClusterStatus").requests_waiting == 0, 10)
    streams[0].cancel()


def test_the_lower_priority_value_goes_first(narrow):
    streams = occupy(narrow, 1)
    order, lock = [], threading.Lock()

    def ask(priority):
        list(narrow.cluster.client.call("Generate", token_ids={"ids": [7]}, priority=priority,
                                        sampling={"max_tokens": 200, "ignore_eos": True}))
        with lock:
            order.append(priority)

    threads = []
    for waiting, priority in enumerate((9, 1), start=1):
        threads.append(threading.Thread(target=ask, args=(priority,)))
        threads[-1].start()
        # With the priority policy the running stream (0) is not preempted by these.
        wait_for(lambda: narrow.cluster.client.call("GetClusterStatus").requests_waiting == waiting, 10)
    streams[0].cancel()
    for thread in threads:
        thread.join(60)
    assert order == [1, 9]


def test_streams_of_http_and_grpc_are_the_same_tokens(served):
    sampling = {"max_tokens": 20, "temperature": 0.9, "seed": 77, "ignore_eos": True}
    _, texts, _, _ = choices(served.cluster, text=PROMPT, sampling=sampling)
    answer = served.post("/v1/completions", {"prompt": PROMPT, "stream": True, **sampling})
    assert "".join(c["text"] for chunk in events(answer.body) for c in chunk["choices"]) == texts[0]
