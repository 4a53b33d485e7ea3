"""The default model on a real two-rank group behind both doors, and what it takes to talk HTTP to it.

The group serves all tests that do it no harm; tests that need flags of their own start one with
`start` and reach its HTTP door with Http(cluster).
"""
import http.client
import json
import socket
import threading
import time

import openai
import pytest

from conftest import Cluster, default_model

# The server speaks HTTP/1.1 on this machine: what takes longer than this is stuck.
PATIENCE = 120


class Answer:
    def __init__(self, status, headers, body, seconds):
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json()["error"]

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Http:
    """The HTTP door of a cluster that was started with --port 0."""

    def __init__(self, cluster):
        _, address = cluster.ready_file.read_text().split()  # gRPC's, then HTTP's
        self.cluster = cluster
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.url = f"http://{self.host}:{self.port}"

    def openai(self, api_key="none"):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=api_key, max_retries=0,
                             timeout=PATIENCE)

    def request(self, method, path, body=None, headers=(), timeout=PATIENCE):
        """One exchange on a connection of its own; body: bytes, or what json.dumps takes."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        begin = time.monotonic()
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            data = response.read()
            return Answer(response.status, response.headers, data, time.monotonic() - begin)
        finally:
            connection.close()

    def post(self, path, body, headers=(), timeout=PATIENCE):
        return self.request("POST", path, body, headers, timeout)

    def get(self, path):
        return self.request("GET", path)

    def connect(self):
        return socket.create_connection((self.host, self.port), PATIENCE)

    def raw(self, *parts):
        """Sends the bytes as they are and reads the answer, which may come before all is sent."""
        begin = time.monotonic()
        with self.connect() as connection:
            sender = threading.Thread(target=send_all, args=(connection, parts), daemon=True)
            sender.start()
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                seconds = time.monotonic() - begin
                return Answer(response.status, response.headers, response.read(), seconds)
            finally:
                # Closing alone would leave the sender in its call.
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sender.join(PATIENCE)

    def tokenize(self, text, **fields):
        answer = self.post("/tokenize", {"prompt": text, **fields})
        assert answer.status == 200, answer
        return answer.json()["tokens"]


def send_all(connection, parts):
    try:
        for part in parts:
            connection.sendall(part)
    except OSError:
        pass  # the server has said no and hung up


def events(body):
    """The JSON objects of a whole stream of server-sent events, which must end with [DONE]."""
    datas = [line[len("data: "):] for line in body.decode().split("\n") if line.startswith("data: ")]
    assert datas and datas[-1] == "[DONE]", body[-300:]
    return [json.loads(data) for data in datas[:-1]]


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("served"), default_model(), 2, 1, "--port", 0)
    try:
        yield Http(cluster.wait_ready())
    finally:
        cluster.stop()


@pytest.fixture
def client(served):
    return served.openai()
