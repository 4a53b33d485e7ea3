"""Every bad input gets its clear error soon, and eight streams running beside it do not notice.

The table's rows are cases of both doors. While they run, eight clients repeat their requests; every
answer must be word for word the one the request gets alone.
"""
import statistics
import threading
import time

import grpc
import pytest

from conftest import best_of_three, wait_for
from served import PATIENCE, events

INT32_MIN, INT32_MAX = -2**31, 2**31 - 1
FLOAT_MAX = 3.4028234663852886e38
NAN, INF = float("nan"), float("inf")
# A neighbour's answer may hold the machine's two cores for a moment; nothing holds them this long.
MAX_SECONDS = 2

# Field → (least, most) that is allowed; what is outside is refused, naming the field.
TIGHT = 1e-12  # excludes the bound itself
INT_FIELDS = {"max_tokens": (1, 2**24), "top_k": (-1, 2**24), "min_tokens": (0, 4),
              "n": (1, 64), "logprobs": (0, 20), "prompt_logprobs": (0, 20)}
FLOAT_FIELDS = {"temperature": (0, 100), "top_p": (TIGHT, 1), "min_p": (0, 1),
                "repetition_penalty": (TIGHT, 100), "presence_penalty": (-2, 2),
                "frequency_penalty": (-2, 2)}
INTS = [0, -1, INT32_MIN, INT32_MAX, 10**9]
FLOATS = [0, -1, -FLOAT_MAX, FLOAT_MAX, 10**9]


def outside(bounds, values):
    return [value for value in values if not bounds[0] <= value <= bounds[1]]


# --- HTTP.

class HttpCase:
    def __init__(self, name, send, statuses, param=None, words=""):
        self.name, self.send, self.statuses, self.param, self.words = name, send, statuses, param, words

    def __call__(self, served):
        answer = self.send(served)
        assert answer.status in self.statuses, answer
        error = answer.error
        assert error["message"] and error["type"], answer
        if self.param:
            assert error["param"] and error["param"].split("[")[0].split(".")[0] == self.param, answer
            assert self.param in error["message"], answer
        assert self.words in error["message"], answer
        assert not any(secret in error["message"] for secret in ("/work", "/home", "/root", "/tmp",
                                                                 "127.0.0.1")), answer
        return answer.seconds


def field_case(field, value, param=None, path="/v1/completions", **more):
    prompt = {"messages": [{"role": "user", "content": "a"}]} if "chat" in path else {"prompt": "a"}
    body = {**prompt, "max_tokens": 4, field: value, **more}
    return HttpCase(f"{field}={str(value)[:30]}", lambda served: served.post(path, body), {400},
                    param or field)


def body_case(name, body, statuses=(400,), param=None, words="", path="/v1/completions"):
    return HttpCase(name, lambda served: served.post(path, body() if callable(body) else body),
                    set(statuses), param, words)


def raw_case(name, *parts, statuses):
    return HttpCase(name, lambda served: served.raw(*(p() if callable(p) else p for p in parts)),
                    set(statuses))


def json_with(text):
    return b'{"prompt": "a", "max_tokens": 4, "temperature": ' + text + b"}"


def nested_schema(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def http_cases():
    for field, bounds in INT_FIELDS.items():
        for value in outside(bounds, INTS) + [2**63, -2**63, 2**64, 1.5, "1", [1], {}, True]:
            yield field_case(field, value)
    for field, bounds in FLOAT_FIELDS.items():
        for value in outside(bounds, FLOATS) + [1e300, -1e300, "1", [1], {}, True]:
            yield field_case(field, value)
    for value in (1.5, "x", [1], 2**64, 1e300):
        yield field_case("seed", value)
    for value in (10**9, INT32_MIN, 2**40, "high"):
        yield field_case("priority", value)
    for value in (21, -1, INT32_MAX, "all"):
        yield field_case("top_logprobs", value, path="/v1/chat/completions", logprobs=True)
    # JSON knows no NaN; servers whose parser does are told so here.
    for text in (b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e400", b"-1e400", b"0x10", b"01", b"+1"):
        yield body_case(f"temperature {text.decode()}", json_with(text))
    yield field_case("n", 10**6)
    yield field_case("stop", ["x"] * 10**5)
    yield body_case("17 stops", {"prompt": "a", "stop": ["x"] * 17}, param="stop")
    yield field_case("stop", ["x" * 10**6])
    yield field_case("stop", [""])
    yield field_case("stop", [3])
    yield field_case("stop_token_ids", [1] * 10**5)
    yield field_case("stop_token_ids", [-1])
    yield field_case("stop_token_ids", [INT32_MAX])
    yield field_case("bad_words", ["x"] * 10**4)
    yield field_case("bad_words", [""])
    yield field_case("logit_bias", {str(i): 1 for i in range(10**5)})
    yield field_case("logit_bias", {"1": 1000})
    yield field_case("logit_bias", {"1": -1e300})
    yield field_case("logit_bias", {"-1": 1})
    yield field_case("logit_bias", {"99999999999999999999": 1})
    yield field_case("logit_bias", {"cat": 1})
    yield field_case("logit_bias", {"1": "much"})
    yield field_case("prompt", None)
    yield field_case("prompt", "")
    yield field_case("prompt", [])
    yield field_case("prompt", [[]])
    yield field_case("prompt", [[1], "a"])
    yield field_case("prompt", {"text": "a"})
    yield field_case("prompt", [-1])
    yield field_case("prompt", [INT32_MAX])
    yield field_case("prompt", "word " * 20000)
    yield field_case("prompt", ["a"] * 10**5)
    yield field_case("messages", None, path="/v1/chat/completions")
    yield field_case("messages", [], path="/v1/chat/completions")
    yield field_case("messages", [{}], path="/v1/chat/completions")
    yield field_case("messages", [{"role": "user"}], path="/v1/chat/completions")
    yield field_case("messages", [{"role": "king", "content": "a"}], path="/v1/chat/completions")
    yield field_case("messages", [{"role": "user", "content": 3}], path="/v1/chat/completions")
    yield field_case("messages", [{"role": "user", "content": [{"type": "image_url"}]}],
                     path="/v1/chat/completions")
    yield field_case("messages", [{"role": "user", "content": "a"}] * 10**5,
                     path="/v1/chat/completions")
    # A template of the client's own could loop without end: it is not evaluated.
    yield field_case("chat_template", "{% for i in range(10**9) %}{% for j in range(10**9) %}x"
                     "{% endfor %}{% endfor %}", path="/v1/chat/completions")
    yield field_case("chat_template_kwargs", [1], path="/v1/chat/completions")
    yield field_case("stream", "yes")
    yield field_case("stream_options", 3, stream=True)
    yield field_case("model", 3)
    yield body_case("unknown model", {"model": "gpt-9", "prompt": "a"}, {404}, "model")
    yield from structured_cases()
    yield from transport_cases()


def structured_cases():
    def regex_case(regex):
        return body_case(f"regex {regex[:20]}", {"prompt": "a", "guided_regex": regex}, words="regex")

    # Catastrophic for engines that try one way after the other, or too large when written out.
    yield regex_case("(a{1,1000}){1,1000}")
    yield regex_case("((((a{1,99}){1,99}){1,99}){1,99}){1,99}")
    yield regex_case("(" * 5000 + "a" + ")" * 5000)
    yield regex_case("a{99999999999}")
    yield regex_case("[z-a]")
    yield regex_case("(a")
    yield regex_case("*a")
    yield regex_case(r"(a+)\1")
    yield regex_case("x" * 10**6)

    def schema_case(name, schema):
        format = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
        return body_case(name, {"prompt": "a", "response_format": format}, words="schema")

    yield schema_case("schema 3", 3)
    yield schema_case("schema false", False)
    yield schema_case("schema of an unknown type", {"type": "color"})
    yield schema_case("schema with a type of 3", {"type": 3})
    yield schema_case("schema with a dangling $ref", {"$ref": "#/definitions/none"})
    yield schema_case("schema that is its own $ref", {"$ref": "#"})
    yield schema_case("schema with a remote $ref", {"$ref": "http://example.invalid/schema"})
    yield schema_case("schema with bad bounds", {"type": "array", "minItems": 5, "maxItems": 2})
    yield schema_case("schema with a huge bound", {"type": "string", "minLength": 10**9})
    yield schema_case("schema with a catastrophic pattern",
                      {"type": "string", "pattern": "(a{1,1000}){1,1000}"})
    yield schema_case("schema of 10^5 properties", {
        "type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(10**5)}})
    yield body_case("schema nested 10^3 deep", {"prompt": "a", "guided_json": nested_schema(400)})
    yield field_case("response_format", {"type": "yaml"})
    yield field_case("response_format", {"type": "json_schema"})
    yield field_case("response_format", "json")
    yield body_case("two constraints", {"prompt": "a", "guided_regex": "a", "guided_choice": ["a"]},
                    words="guided_choice")
    yield body_case("no choices", {"prompt": "a", "guided_choice": []}, words="choice")
    yield body_case("10^5 choices", {"prompt": "a", "guided_choice": ["x"] * 10**5}, words="choice")


def transport_cases():
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
    yield body_case("no body", b"")
    yield body_case("no JSON", b"hello")
    yield body_case("half a JSON", b'{"prompt": "a"')
    yield body_case("two JSONs", b'{"prompt": "a"}{}')
    yield body_case("a list", b"[]")
    yield body_case("JSON nested 10^5 deep", b'{"prompt":' + b"[" * 10**5)
    yield body_case("JSON nested and closed", b'{"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}")
    yield body_case("objects nested 10^5 deep", b'{"a":' * 10**5)
    yield body_case("broken UTF-8", b'{"prompt": "a\xff\xfe"}')
    yield body_case("overlong UTF-8", b'{"prompt": "\xc0\xaf"}')
    yield body_case("half a surrogate pair", b'{"prompt": "\\ud800"}')
    yield body_case("UTF-16", '{"prompt": "a"}'.encode("utf-16"))
    yield body_case("a null byte", b'{"prompt": "a\x00b"}')
    yield raw_case("50 MB body", head + b"Content-Length: 52428800\r\n\r\n",
                   lambda: b'{"prompt": "' + b"a" * 52428780 + b'"}', statuses={413})
    yield raw_case("50 MB in chunks", head + b"Transfer-Encoding: chunked\r\n\r\n",
                   lambda: (b"100000\r\n" + b"a" * 0x100000 + b"\r\n") * 50 + b"0\r\n\r\n",
                   statuses={413})
    yield raw_case("10^18 bytes promised", head + b"Content-Length: 1000000000000000000\r\n\r\n",
                   statuses={413})
    yield raw_case("a length of -1", head + b"Content-Length: -1\r\n\r\n", statuses={400})
    yield raw_case("a length of 2^70", head + b"Content-Length: 1180591620717411303424\r\n\r\n",
                   statuses={400, 413})
    yield raw_case("a bad chunk size", head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
                   statuses={400})
    yield raw_case("a header of 1 MB", lambda: head + b"X-Long: " + b"a" * 10**6 + b"\r\n\r\n",
                   statuses={431})
    yield raw_case("10^5 headers", lambda: head + b"X-A: b\r\n" * 10**5 + b"\r\n", statuses={431})
    yield raw_case("a target of 1 MB", lambda: b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\n\r\n",
                   statuses={400, 414, 431})
    yield raw_case("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", statuses={400})
    yield raw_case("HTTP/9", b"GET /health HTTP/9.9\r\n\r\n", statuses={400, 505})
    yield HttpCase("wrong method", lambda served: served.get("/v1/completions"), {405})
    yield HttpCase("unknown path", lambda served: served.get("/v1/nothing"), {404})
    yield HttpCase("a tenant of 1 KB", lambda served: served.post(
        "/v1/completions", {"prompt": "a"}, {"x-tenant-id": "t" * 1024}), {400})


# --- gRPC, where NaN and infinities are numbers like any other.

class GrpcCase:
    def __init__(self, name, method, fields, words):
        self.name, self.method, self.fields, self.words = name, method, fields, words

    def __call__(self, served):
        begin = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            list(served.cluster.client.call(self.method, timeout=PATIENCE, **self.fields))
        seconds = time.monotonic() - begin
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, error.value
        assert self.words in error.value.details(), error.value
        return seconds


def sampling_case(words, **sampling):
    name = ", ".join(f"{key}={str(value)[:20]}" for key, value in sampling.items())
    return GrpcCase("grpc " + name, "Generate",
                    {"text": "a", "sampling": {"max_tokens": 4, **sampling}}, words)


def grpc_cases():
    for field, bounds in INT_FIELDS.items():
        for value in outside(bounds, INTS):
            yield sampling_case(field, **{field: value})
    for field, bounds in FLOAT_FIELDS.items():
        for value in outside(bounds, FLOATS) + [NAN, INF, -INF]:
            yield sampling_case(field, **{field: value})
    for value in (NAN, INF, -INF, 101, FLOAT_MAX):
        yield sampling_case("logit_bias", logit_bias={1: value})
    yield sampling_case("logit_bias", logit_bias={-1: 1})
    yield sampling_case("logit_bias", logit_bias={i: 1 for i in range(2000)})
    yield sampling_case("stop", stop=["x"] * 10**5)
    yield sampling_case("bad_words", bad_words=["x"] * 65)
    yield sampling_case("stop_token_ids", stop_token_ids=[1] * 129)
    yield sampling_case("json_object", structured={"json_object": False})
    yield sampling_case("regex", structured={"regex": "(a{1,1000}){1,1000}"})
    yield sampling_case("choice", structured={"choice": {"values": []}})
    yield sampling_case("json_schema", structured={"json_schema": "{"})
    yield sampling_case("json_schema", structured={"json_schema": "[" * 10**5})
    for value in (10**9, INT32_MIN, INT32_MAX):
        yield GrpcCase(f"grpc priority={value}", "Generate",
                       {"text": "a", "priority": value, "sampling": {"max_tokens": 1}}, "priority")
    yield GrpcCase("grpc no prompt", "Generate", {}, "prompt")
    yield GrpcCase("grpc request_id", "Generate", {"text": "a", "request_id": "x" * 10**5}, "request_id")
    yield GrpcCase("grpc no messages", "Chat", {}, "messages")
    yield GrpcCase("grpc template kwargs", "Chat",
                   {"messages": [{"role": "user", "content": "a"}],
                    "chat_template_kwargs_json": "[" * 10**5}, "chat_template_kwargs")
    yield GrpcCase("grpc tools", "Chat", {"messages": [{"role": "user", "content": "a"}],
                                          "tools_json": ["{"]}, "tools")


CASES = [*http_cases(), *grpc_cases()]


# --- The neighbours.

class Neighbours:
    """Eight clients that repeat their requests until they are stopped."""

    def __init__(self, served):
        self.served = served
        self.bodies = [{"prompt": f"Story number {i}:", "max_tokens": 40, "ignore_eos": True,
                        "stream": True, "stream_options": {"include_usage": True},
                        **({"temperature": 0} if i % 2 else {"temperature": 1, "seed": i})}
                       for i in range(8)]
        self.alone = [self.ask(body) for body in self.bodies]
        self.stopping = threading.Event()
        self.wrong = []
        self.answers = [0] * 8
        self.threads = [threading.Thread(target=self.repeat, args=(i,)) for i in range(8)]
        for thread in self.threads:
            thread.start()
        wait_for(lambda: sum(self.answers) > 0 or self.wrong, PATIENCE)

    def ask(self, body):
        answer = self.served.post("/v1/completions", body)
        assert answer.status == 200, answer
        chunks = events(answer.body)
        assert chunks[-1]["usage"]["completion_tokens"] == 40
        return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])

    def repeat(self, index):
        while not self.stopping.is_set():
            try:
                text = self.ask(self.bodies[index])
            except Exception as error:  # a failure here is the test's, not this thread's
                self.wrong.append(f"stream {index}: {error!r}")
                return
            if text != self.alone[index]:
                self.wrong.append(f"stream {index}: {text!r}, alone {self.alone[index]!r}")
            self.answers[index] += 1

    def stop(self):
        """All eight have answered once more since the call."""
        before = list(self.answers)
        wait_for(lambda: self.wrong or all(a > b for a, b in zip(self.answers, before)), PATIENCE)
        self.stopping.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture(scope="module")
def neighbours(served):
    eight = Neighbours(served)
    yield eight
    if not eight.stopping.is_set():
        eight.stop()


@pytest.fixture(scope="module")
def uncaptured(request):
    """What is printed within goes to the terminal."""
    return request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled


@pytest.fixture(scope="module")
def seconds(uncaptured):
    times = {}
    yield times
    if times:
        worst = max(times, key=times.get)
        with uncaptured():
            print(f"\nbad input: {len(times)} cases beside eight streams, median "
                  f"{statistics.median(times.values()) * 1e3:.1f} ms, worst "
                  f"{times[worst] * 1e3:.1f} ms ({worst})", flush=True)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_gets_its_error(served, neighbours, seconds, case):
    seconds[case.name] = best_of_three(lambda: case(served), MAX_SECONDS)
    assert not neighbours.wrong


def test_connections_that_never_finish_are_cut_and_disturb_nobody(served, neighbours):
    starts = [b"", b"POST /v1/comp", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n",
              b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"prompt\""]
    connections = [served.connect() for _ in range(200)]
    for i, connection in enumerate(connections):
        connection.sendall(starts[i % len(starts)])
    # A byte now and then keeps no head open for longer than its deadline.
    slow = connections[1]
    slow.settimeout(1)
    begin, answer = time.monotonic(), None
    while answer is None and time.monotonic() - begin < 60:
        try:
            slow.sendall(b"l")
            answer = slow.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            answer = b""
    assert answer is not None, "a head that never ends must not be waited for without end"
    assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0] + b" "
    assert served.get("/health").status == 200
    for connection in connections:
        connection.close()
    assert not neighbours.wrong


def test_a_client_that_hangs_up_half_way_is_forgotten(served, neighbours):
    body = b'{"prompt": "a", "max_tokens": 4000, "ignore_eos": true, "stream": true}'
    request = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
               + body)
    for end in (10, len(request) - 5, len(request)):
        for _ in range(10):
            with served.connect() as connection:
                connection.sendall(request[:end])
    status = lambda: served.cluster.client.call("GetClusterStatus")
    wait_for(lambda: status().requests_running + status().requests_waiting <= 8, 20,
             lambda: str(status()))
    assert not neighbours.wrong


def test_the_eight_streams_noticed_nothing(served, neighbours):
    neighbours.stop()
    assert not neighbours.wrong
    assert min(neighbours.answers) > 0
    wait_for(lambda: served.cluster.client.call("GetClusterStatus").requests_running == 0, 20)
    group = served.cluster.group()
    assert group.kv_blocks_free == group.kv_blocks_total
