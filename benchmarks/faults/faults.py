#!/usr/bin/env python3
"""What a fault costs running streams: time to notice it, time until every stream goes on, and the
tokens per second before, in the two seconds after, and when all is well again.

  benchmarks/faults/faults.py                     # the default model, 8 streams, 3 rounds, medians
  benchmarks/faults/faults.py --streams 32 --rounds 5

Each fault strikes one rank (or the mpirun) of a group of two pipeline stages; once beside a second
group, once alone, so that its streams wait until it has come back. Goals: noticed within 1 s; every
stream goes on within 3 s with a second group, within the start's time + 2 s without.
"""
import argparse
import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def default_model():
    return subprocess.run([ROOT / "deploy" / "fetch-model.sh"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


class Server:
    def __init__(self, args, model, folder, groups):
        self.args, self.groups = args, groups
        self.ready = folder / "ready"
        self.log_path = folder / "log"
        with open(self.log_path, "w") as log:
            began = time.monotonic()
            self.process = subprocess.Popen(
                [args.bin_dir / "tessera", "serve", "--model", model, "-tp", "1", "-pp", "2", "-dp",
                 str(groups), "--max-model-len", "4096", "--grpc-port", "0", "--port", "0",
                 "--cluster-port", "0", "--ready-file", self.ready], stdout=log, stderr=log)
        while not (self.ready.exists() and self.ready.read_text().count("\n") >= 1):
            if self.process.poll() is not None:
                raise SystemExit(self.log_path.read_text())
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - began
        self.grpc, self.http = self.ready.read_text().split()

    def status(self):
        out = subprocess.run([self.args.bin_dir / "tessera", "status", "--server", self.grpc, "--json"],
                             text=True, stdout=subprocess.PIPE).stdout
        return json.loads(out)

    def wait_all_serve(self):
        while sum(g["state"] == "STATE_SERVING" for g in self.status()["groups"]) < self.groups:
            time.sleep(0.05)

    def mpirun(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for path in children for pid in path.read_text().split()]
        return next(p for p in pids
                    if pathlib.Path(f"/proc/{p}/comm").read_text().strip() == "mpirun")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


class Stream(threading.Thread):
    """Asks again and again; when each token came."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.number, self.over = server, number, threading.Event()
        self.times, self.failed = [], 0

    def run(self):
        host, port = self.server.http.rsplit(":", 1)
        while not self.over.is_set():
            connection = http.client.HTTPConnection(host, int(port), timeout=120)
            body = {"prompt": f"Story {self.number}:", "max_tokens": 2000, "temperature": 0,
                    "stream": True, "ignore_eos": True}
            connection.request("POST", "/v1/completions", json.dumps(body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.failed += response.status != 200
            for line in response:
                if self.over.is_set():
                    break
                if line.startswith(b"data: {"):
                    self.times.append(time.time())
                    self.failed += b'"error"' in line
            connection.close()


def rate(streams, begin, end):
    return sum(begin <= t < end for s in streams for t in s.times) / (end - begin)


def one_round(server, fault, streams_count):
    server.wait_all_serve()
    time.sleep(1)
    streams = [Stream(server, number) for number in range(streams_count)]
    for stream in streams:
        stream.start()
    time.sleep(4)
    known = {lost["group_id"] for lost in server.status()["lost_groups"]}
    pid, how = fault(server)
    struck = time.time()
    os.kill(pid, how)
    time.sleep(max(8, 3 * server.start_seconds))
    server.wait_all_serve()
    time.sleep(3)
    now = time.time()
    lost = [lost for lost in server.status()["lost_groups"] if lost["group_id"] not in known]
    for stream in streams:
        stream.over.set()
    for stream in streams:
        stream.join()
    noticed = int(lost[-1]["lost_unix_millis"]) / 1000 - struck
    result = {"noticed": noticed, "all go on": noticed + int(lost[-1]["resume_micros"]) / 1e6,
              "before": rate(streams, struck - 2, struck), "after 2 s": rate(streams, struck, struck + 2),
              "later": rate(streams, now - 2, now), "failed": sum(s.failed for s in streams)}
    return result


FAULTS = {
    "a rank is killed": lambda s: (int(s.status()["groups"][0]["ranks"][1]["pid"]), signal.SIGKILL),
    "the leader is killed": lambda s: (int(s.status()["groups"][0]["ranks"][0]["pid"]), signal.SIGKILL),
    "mpirun is killed": lambda s: (s.mpirun(), signal.SIGKILL),
    "a rank stops": lambda s: (int(s.status()["groups"][0]["ranks"][1]["pid"]), signal.SIGSTOP),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "build/release/bin")
    args = parser.parse_args()
    model = args.model or default_model()
    print(f"{'':34}{'noticed':>9}{'all go on':>11}{'goal':>7}   tokens/s: before{'after 2 s':>11}{'later':>8}{'failed':>8}")
    for groups in (2, 1):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(args, model, pathlib.Path(folder), groups)
            goal = 3 if groups == 2 else server.start_seconds + 2
            try:
                for name, fault in FAULTS.items():
                    rounds = [one_round(server, fault, args.streams) for _ in range(args.rounds)]
                    middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
                    where = "beside a group" if groups == 2 else "alone"
                    print(f"{name + ', ' + where:34}{middle['noticed']:8.2f}s{middle['all go on']:10.2f}s"
                          f"{goal:6.1f}s{middle['before']:19.0f}{middle['after 2 s']:11.0f}"
                          f"{middle['later']:8.0f}{sum(r['failed'] for r in rounds):8}", flush=True)
            finally:
                server.stop()


main()
