"""Measures llama.cpp through llama-cpp-python's low-level calls: what llama-bench and
llama-batched-bench measure, for machines that have neither.

  python llama_python.py MODEL THREADS REPETITIONS      prints one JSON object on one line

  pp512    one call with a prompt of 512 tokens
  tg128    128 calls with one token each
  tg64x16  64 calls with one token of each of 16 sequences
"""
import ctypes
import json
import statistics
import sys
import time

import llama_cpp as llama

BATCH = 512


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def silent(*_):
    pass


class Context:
    def __init__(self, path, threads, sequences):
        llama.llama_log_set(silent, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(path.encode(),
                                                      llama.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        params = llama.llama_context_default_params()
        params.n_ctx = 256 * sequences if sequences > 1 else 1024
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        self.context = llama.llama_init_from_model(self.model, params)
        self.batch = llama.llama_batch_init(BATCH, 0, 1)

    def clear(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def decode(self, tokens):
        """tokens: (id, position, sequence); logits for the last of each sequence."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        last = {sequence: i for i, (_, _, sequence) in enumerate(tokens)}
        for i, (token, position, sequence) in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = last[sequence] == i
        if llama.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        llama.llama_synchronize(self.context)


def prompt(context, count):
    context.decode([(i % 1000 + 1, i, 0) for i in range(count)])


def generate(context, count, sequences):
    for position in range(count):
        context.decode([(position % 1000 + 1, position, s) for s in range(sequences)])


def measure(context, work, tokens, repetitions):
    seconds = []
    for k in range(repetitions + 1):
        context.clear()
        began = time.perf_counter()
        work()
        if k > 0:  # the first one touches the memory
            seconds.append(time.perf_counter() - began)
    return tokens / statistics.median(seconds)


def main():
    path, threads, repetitions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    one, many = Context(path, threads, 1), Context(path, threads, 16)
    print(json.dumps({
        "pp512": measure(one, lambda: prompt(one, 512), 512, repetitions),
        "tg128": measure(one, lambda: generate(one, 128, 1), 128, repetitions),
        "tg64x16": measure(many, lambda: generate(many, 64, 16), 64 * 16, repetitions),
    }))


if __name__ == "__main__":
    main()
