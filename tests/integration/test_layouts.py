"""One model, many layouts, one answer; alone or in company."""
import threading

import pytest

from conftest import TINY, default_model, wait_for

PROMPTS = [[(7 * i + 3 * j) % 131 for j in range(1 + 5 * i)] for i in range(8)]
GREEDY = {"max_tokens": 64, "temperature": 0, "ignore_eos": True}


def answers(cluster, together):
    results = [None] * len(PROMPTS)

    def ask(index):
        results[index] = cluster.client.generate(token_ids={"ids": PROMPTS[index]}, sampling=GREEDY)[0]

    if together:
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(PROMPTS))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for i in range(len(PROMPTS)):
            ask(i)
    return results


def test_layouts_and_batches_agree_over_grpc(start):
    expected = None
    for tp, pp in [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (2, 2), (3, 2)]:
        cluster = start(TINY, tp, pp)
        for together in (False, True):
            found = answers(cluster, together)
            assert all(len(ids) == 64 for ids in found)
            expected = expected or found
            assert found == expected, f"TP {tp} x PP {pp}, {'together' if together else 'alone'}"
        cluster.stop()
    assert len({tuple(ids) for ids in expected}) == len(PROMPTS)


def test_weighted_splits_agree(start):
    plain = start(TINY, 1, 1)
    expected = answers(plain, True)
    plain.stop()
    split = start(TINY, 2, 2, "--tensor-split", "3,1", "--layer-split", "2,1")
    assert answers(split, True) == expected
    ranks = split.group().ranks
    assert [rank.shard.layers.end - rank.shard.layers.begin for rank in ranks] == [2, 2, 1, 1]
    of_heads = [rank.shard.kinds[0].q_heads for rank in ranks]
    heads = [of_rank.end - of_rank.begin for of_rank in of_heads]
    assert heads[0] == heads[2] and heads[0] > heads[1]


@pytest.mark.parametrize("tp,pp", [(2, 2), (4, 1)])
def test_the_default_model_answers_and_fits_its_memory(start, tp, pp):
    cluster = start(default_model(), tp, pp)
    text = ""
    for chunk in cluster.client.call(
            "Chat", messages=[{"role": "user", "content": "What is the capital of France?"}],
            sampling={"max_tokens": 24, "temperature": 0}):
        text += chunk.text
    assert "Paris" in text
    # With the reports that come while it serves: what is touched by then is not loading's.
    wait_for(lambda: all(rank.step_times.steps for rank in cluster.group().ranks), 10)
    for rank in cluster.group().ranks:
        shard = rank.shard.weight_bytes
        grown = rank.peak_rss_bytes - rank.rss_before_load_bytes
        assert grown <= shard + 64e6, f"rank {rank.shard.world_rank}: {grown / 1e6} MB over {shard / 1e6}"
