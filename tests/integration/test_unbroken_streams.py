"""Ranks die under running streams: every client gets what it would have got without."""
import os
import random
import shutil
import signal
import threading
import time

import pytest

from conftest import TINY, best_of_three, default_model, wait_for


def kinds():
    """One request of every kind, as Generate takes it."""
    base = {"max_tokens": 90, "ignore_eos": True}
    schema = ('{"type":"object","properties":{"name":{"type":"string","maxLength":40},'
              '"list":{"type":"array","items":{"type":"integer"},"minItems":8,"maxItems":12}},'
              '"required":["name","list"],"additionalProperties":false}')
    return {
        "greedy": {**base, "temperature": 0},
        "seeded": {**base, "temperature": 1.1, "seed": 11, "top_k": 40, "top_p": 0.95},
        "grammar": {"max_tokens": 90, "temperature": 0.9, "seed": 3,
                    "structured": {"json_schema": schema}},
        "n = 3": {**base, "temperature": 1.0, "seed": 5, "n": 3},
        "penalties": {**base, "temperature": 0.7, "seed": 6, "repetition_penalty": 1.3,
                      "presence_penalty": 0.4, "frequency_penalty": 0.3, "min_tokens": 50},
        "logprobs": {**base, "temperature": 0, "logprobs": 3},
        "prompt logprobs": {**base, "temperature": 0, "prompt_logprobs": 2},
        "stop strings": {"max_tokens": 200, "temperature": 0.8, "seed": 9, "stop": ["zebra", "\n\n\n"]},
    }


def messages_of(stream):
    """What a client is told, in order; how it is cut into messages is not promised."""
    told = {}
    for message in stream:
        of = told.setdefault(message.index, {"ids": [], "text": "", "logprobs": [], "end": 0})
        of["ids"] += message.token_ids
        of["text"] += message.text
        of["logprobs"] += [entry.SerializeToString() for entry in message.logprobs]
        of.setdefault("prompt", []).extend(
            entry.SerializeToString() for entry in message.prompt_logprobs)
        of["end"] = message.finish_reason or of["end"]
    return told


def ask(cluster, name, sampling, prompt):
    return messages_of(cluster.client.call("Generate", timeout=120, text=prompt, sampling=sampling,
                                           request_id=name))


class Clients:
    """Every kind of request at once, each on a thread of its own."""

    def __init__(self, cluster, round_number=0):
        self.told, self.threads = {}, []
        for name, sampling in kinds().items():
            prompt = f"A story about {name}, told by a patient machine:"
            thread = threading.Thread(target=self.run, args=(cluster, name, sampling, prompt,
                                                             round_number))
            thread.start()
            self.threads.append(thread)

    def run(self, cluster, name, sampling, prompt, round_number):
        try:
            self.told[name] = ask(cluster, f"{name} {round_number}", sampling, prompt)
        except Exception as error:  # shown by the comparison
            self.told[name] = repr(error)

    def wait(self):
        for thread in self.threads:
            thread.join(180)
        assert not any(thread.is_alive() for thread in self.threads), "a stream hangs"
        return self.told


def status(cluster):
    return cluster.client.call("GetClusterStatus")


def serving(cluster, count):
    return lambda: sum(group.state == 3 for group in status(cluster).groups) >= count


def ranks(cluster):
    return [rank.pid for group in status(cluster).groups for rank in group.ranks]


@pytest.mark.parametrize("groups, tp, pp", [(2, 1, 1), (1, 2, 1), (1, 1, 2)],
                         ids=["two groups", "one group, tp 2", "one group, pp 2"])
def test_a_dead_rank_costs_nobody_a_token(start, groups, tp, pp):
    cluster = start(default_model(), tp, pp, "--data-parallel-size", groups, "--max-model-len", 1024)
    undisturbed = Clients(cluster).wait()
    assert all(isinstance(told, dict) for told in undisturbed.values()), undisturbed
    seed = 20261201
    print(f"seed {seed}")
    dice = random.Random(seed)
    for round_number in (1, 2):
        wait_for(serving(cluster, groups), 60, cluster.log)
        clients = Clients(cluster, round_number)
        wait_for(lambda: status(cluster).requests_running > 0, 60, cluster.log)
        threading.Event().wait(dice.uniform(0.05, 0.6))
        os.kill(dice.choice(ranks(cluster)), signal.SIGKILL)
        told = clients.wait()
        for name in undisturbed:
            assert told[name] == undisturbed[name], f"{name}\n{cluster.log()}"
    assert len(status(cluster).lost_groups) == 2, cluster.log()
    assert status(cluster).requests_moved > 0
    assert cluster.process.poll() is None


def test_a_lost_group_comes_back_and_says_so(start):
    cluster = start(default_model(), 1, 1, "--max-model-len", 512)
    os.kill(ranks(cluster)[0], signal.SIGKILL)
    wait_for(lambda: len(status(cluster).lost_groups) == 1, 20, cluster.log)
    wait_for(serving(cluster, 1), 30, cluster.log)
    assert status(cluster).groups[0].group_id == "group0.2"
    assert "lost worker group group0.1" in cluster.log()
    assert "Killed" in cluster.log()
    assert "starting worker group 0 again" in cluster.log()


@pytest.mark.parametrize("victim", [0, 1], ids=["leader", "follower"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "streaming"])
def test_a_rank_that_stops_is_noticed_within_the_timeout(start, victim, busy):
    cluster = start(default_model(), 1, 2, "--max-model-len", 2048)
    sampling = {"max_tokens": 1500, "temperature": 0, "ignore_eos": True}

    def attempt(number):
        name = f"group0.{number}"
        wait_for(lambda: serving(cluster, 1)() and status(cluster).groups[0].group_id == name, 60,
                 cluster.log)
        time.sleep(1.5)  # every rank has been heard of, and the group is as idle as it gets
        stream = iter(cluster.client.call("Generate", text="One, two,", sampling=sampling)) if busy else None
        if stream:
            next(stream)
        begin = time.time()
        os.kill(ranks(cluster)[victim], signal.SIGSTOP)
        wait_for(lambda: any(lost.group_id == name for lost in status(cluster).lost_groups), 20,
                 cluster.log)
        lost = next(lost for lost in status(cluster).lost_groups if lost.group_id == name)
        took = lost.lost_unix_millis / 1000 - begin
        print(f"noticed after {took:.2f} s: {lost.error}")
        assert f"rank {victim} on" in lost.error or "is not back" in lost.error
        if stream:
            assert sum(len(message.token_ids) for message in stream) == 1499
        return took

    numbers = iter((1, 2, 3))
    best_of_three(lambda: attempt(next(numbers)), 1.25)  # a sign of life may have been just before


def test_a_group_that_cannot_come_back_is_given_up(start, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    cluster = start(model, 1, 1, "--max-relaunches", 1)
    shutil.rmtree(model)
    os.kill(ranks(cluster)[0], signal.SIGKILL)
    wait_for(lambda: cluster.process.poll() is not None, 30, cluster.log)
    assert cluster.process.returncode == 1
    assert cluster.log().count("starting worker group 0 again") == 2, cluster.log()
    assert "the worker group did not start: " in cluster.log()
