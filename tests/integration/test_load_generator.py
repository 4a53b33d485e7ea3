"""tessera_serving_benchmark against a server that does as the test says, good and bad."""
import http.server
import json
import socket
import threading
import time

import pytest

from conftest import BIN, run

PROGRAM = BIN / "tessera_serving_benchmark"


def chunk(text, **more):
    return {"choices": [{"index": 0, "text": text, "delta": {"content": text}}], **more}


USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3,
                                  "prompt_tokens_details": {"cached_tokens": 4}}}
GOOD = [chunk("a"), chunk("b"), chunk("c"), USAGE]


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers of one server; the test sets `answer` and reads `requests`."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.send_json(200, {"data": [{"id": "scripted"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script = self.server.script
        if self.path == "/tokenize":
            return self.send_json(200, {"count": 2 * len(body["prompt"].split())})
        with script.lock:
            script.requests.append((self.path, dict(self.headers), body, self.client_address))
            index = len(script.requests) - 1
        script.answer(self, index, body)

    def send_json(self, status, value, headers=()):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events, done=True, gap=0.0, cut=False):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in [*map(json.dumps, events), *(["[DONE]"] if done else [])]:
            data = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(gap)
        if cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(b"0\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients hang up in the middle here, on purpose


class Script:
    def __init__(self, answer):
        self.answer, self.requests, self.lock = answer, [], threading.Lock()


@pytest.fixture
def measure(tmp_path):
    """measure(answer, *flags) → (report, requests, process); the first request is the probe."""
    if not PROGRAM.exists():
        pytest.skip(f"SKIPPED LOUDLY: {PROGRAM} is not built")
    servers = []

    def run_against(answer, *flags, fails=False):
        server = Server(("127.0.0.1", 0), Scripted)
        server.script = Script(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report = tmp_path / f"report{len(servers)}.json"
        result = run(PROGRAM, "--url", f"http://127.0.0.1:{server.server_port}", "--json", report,
                     *flags)
        assert (result.returncode != 0) == fails, result.stdout + result.stderr
        value = json.loads(report.read_text()) if report.exists() else None
        return value, server.script.requests, result

    yield run_against
    for server in servers:
        server.shutdown()
        server.server_close()


def good(handler, index, body):
    handler.stream(GOOD)


def test_a_closed_loop_counts_what_it_got(measure):
    report, requests, result = measure(good, "--concurrency", 3, "--num-requests", 10,
                                       "--prompt-tokens", "fixed:20", "--output-tokens", "fixed:3",
                                       "--goodput", "ttft:60000", "--tenant", "t", "--header", "X-A:b")
    [workload] = report["workloads"]
    assert workload["completed"] == 10 and workload["failures"] == {}
    assert workload["total_input_tokens"] == 90 and workload["total_output_tokens"] == 30
    assert workload["total_cached_tokens"] == 40
    assert workload["ttft_ms"]["count"] == 10 and workload["itl_ms"]["count"] == 20
    assert workload["request_goodput"] == pytest.approx(workload["request_throughput"])
    assert report["tokens_per_word"] == 2 and report["model"] == "scripted"
    measured = requests[1:]
    assert len(measured) == 10
    for path, headers, body, _ in measured:
        assert path == "/v1/completions" and headers["x-tenant-id"] == "t" and headers["X-A"] == "b"
        assert len(body["prompt"].split()) == 10, "two tokens to a word"
        assert body["max_tokens"] == 3 and body["stream"] is True
    assert len({body["prompt"] for _, _, body, _ in measured}) == 10
    assert len({client for *_, client in requests}) <= 3, "connections are kept"
    assert "10 answered, 0 failed" in result.stdout


def test_the_same_seed_sends_the_same_texts(measure):
    flags = ["--num-requests", 5, "--concurrency", 2, "--prompt-tokens", "uniform:5-30", "--seed", 4]
    first, again = ({body["prompt"] for _, _, body, _ in measure(good, *flags)[1]} for _ in range(2))
    assert first == again
    other = {body["prompt"] for _, _, body, _ in measure(good, *flags[:-1], 5)[1]}
    assert first & other == {"Hello"}, "the probe alone"


def test_turns_send_the_conversation_so_far(measure):
    _, requests, _ = measure(good, "--endpoint", "chat", "--turns", 3, "--num-requests", 1,
                             "--shared-prefix-tokens", 8, "--prompt-tokens", "fixed:4")
    turns = [body["messages"] for path, _, body, _ in requests[1:]]
    assert [len(messages) for messages in turns] == [2, 4, 6]
    assert [m["role"] for m in turns[2]] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[2][:4] == turns[1] and turns[1][2]["content"] == "abc"
    assert len(turns[0][0]["content"].split()) == 4


def test_failures_are_counted_by_kind(measure):
    def answer(handler, index, body):
        kinds = [
            lambda: handler.stream(GOOD),  # the probe
            lambda: handler.send_json(429, {"error": {"message": "full"}}, [("Retry-After", "1")]),
            lambda: handler.send_json(429, {"error": {"message": "full"}}),
            lambda: handler.send_json(503, {"error": {"message": "draining"}}),
            lambda: handler.stream([chunk("a"), {"error": {"message": "group lost"}}]),
            lambda: handler.stream([chunk("a"), "no object"]),
            lambda: handler.stream(GOOD, done=False),
            lambda: handler.stream([chunk("a")], done=False, cut=True),
            lambda: handler.stream(GOOD),
        ]
        kinds[index]()

    report, _, result = measure(answer, "--concurrency", 1, "--num-requests", 8)
    [workload] = report["workloads"]
    assert workload["failures"] == {"HTTP 429": 2, "HTTP 503": 1, "stream error": 1,
                                    "broken stream": 2, "connection": 1}
    assert workload["completed"] == 1 and workload["ttft_ms"]["count"] == 1
    assert "the first failure: HTTP 429 full" in result.stdout


def test_a_server_that_never_answers_is_a_timeout(measure):
    def answer(handler, index, body):
        if index == 0:
            handler.stream(GOOD)
        else:
            over.wait(60)
    over = threading.Event()
    report, _, _ = measure(answer, "--num-requests", 3, "--request-timeout", 2, fails=True)
    over.set()
    assert report["workloads"][0]["failures"] == {"timeout": 3}


def test_fields_that_a_server_refuses_are_left_out(measure):
    def answer(handler, index, body):
        if "min_tokens" in body:
            handler.send_json(400, {"error": {"message": "min_tokens is unknown"}})
        else:
            handler.stream(GOOD)
    report, requests, result = measure(answer, "--num-requests", 2, "--ignore-eos")
    assert report["refused_fields"] == ["min_tokens"]
    assert all(body["ignore_eos"] for _, _, body, _ in requests)
    assert sum("min_tokens" in body for _, _, body, _ in requests) == 1
    assert "refused min_tokens" in result.stdout


def test_a_connection_closed_between_requests_is_no_failure(measure):
    def answer(handler, index, body):
        handler.stream(GOOD)
        handler.close_connection = True  # without saying so
    report, _, _ = measure(answer, "--num-requests", 6, "--concurrency", 1)
    assert report["workloads"][0]["completed"] == 6


def test_a_scenario_runs_side_by_side(measure, tmp_path):
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"workloads": [
        {"name": "flood", "tenant": "f", "num_requests": 20},
        {"name": "quiet", "tenant": "q", "num_requests": 2, "concurrency": 1}]}))
    svg = tmp_path / "plot.svg"
    report, requests, _ = measure(good, "--scenario", scenario, "--svg", svg, "--warmup", 1)
    assert [(w["name"], w["completed"]) for w in report["workloads"]] == [
        ("flood", 20), ("quiet", 2), ("all", 22)]
    # Two probes and two warm-ups besides.
    assert sum(headers["x-tenant-id"] == "f" for _, headers, _, _ in requests) == 22
    assert "flood" in svg.read_text() and "</svg>" in svg.read_text()


def test_a_duration_ends_arrivals(measure):
    report, _, _ = measure(good, "--num-requests", 0, "--request-rate", 50, "--duration", 0.5)
    assert 5 <= report["workloads"][0]["completed"] <= 100


def test_two_reports_are_compared(measure, tmp_path):
    for _ in range(2):
        measure(good, "--num-requests", 2)
    out = run(PROGRAM, "--compare", tmp_path / "report1.json", tmp_path / "report2.json").stdout
    assert "TTFT p50 ms" in out and "B/A" in out


@pytest.mark.parametrize("flags,words", [
    (["--url", "https://h"], "https://h"), (["--url", "http://127.0.0.1:1"], "cannot reach"),
    (["--request-rate", "1", "--concurrency", "1"], "one kind of arrival"),
    (["--prompt-tokens", "many"], "'many'"), (["--scenario", "/nonexistent"], "/nonexistent"),
    (["--goodput", "itl:3"], "itl:3"), (["--extra-body", "[]"], "--extra-body")])
def test_mistakes_are_explained(flags, words):
    if not PROGRAM.exists():
        pytest.skip(f"SKIPPED LOUDLY: {PROGRAM} is not built")
    result = run(PROGRAM, *flags)
    assert result.returncode == 1 and words in result.stderr
