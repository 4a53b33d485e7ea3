"""Writes dequantize_golden.inc: random blocks and what the package `gguf` makes of them.

The K-quants' sub-blocks are cut out of random 256-wide superblocks and repacked as tensor.h says.
Run by hand, once: python3 dequantize_golden.py > dequantize_golden.inc   (needs numpy and gguf)
"""
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import Q4_K, dequantize

random = np.random.default_rng(3)


def random_block(size, half_offsets):
    raw = random.integers(0, 256, size=size, dtype=np.uint8)
    for offset in half_offsets:
        raw[offset:offset + 2] = np.frombuffer(np.float16(random.normal() / 8).tobytes(), np.uint8)
    return raw


def pack_nibbles(q):
    return (q[:16] & 15) | (q[16:] & 15) << 4


def repack_q4_or_q5_k(raw, sub, five):
    scales, minimums = Q4_K.get_scale_min(raw[4:16].reshape(1, 12))
    nibbles = raw[48 if five else 16:][32 * (sub // 2):][:32] >> (4 * (sub % 2)) & 15
    head = np.concatenate([raw[:4], [scales[0, sub], minimums[0, sub]]])
    parts = [head]
    if five:
        parts.append(np.packbits(raw[16:48] >> sub & 1, bitorder="little"))
    parts.append(pack_nibbles(nibbles))
    return np.concatenate(parts)


def repack_q6_k(raw, sub):
    half, quarter = divmod(sub, 4)
    low = raw[64 * half:][32 * (quarter % 2):][:32] >> (4 * (quarter // 2)) & 15
    high = raw[128 + 32 * half:][:32] >> (2 * quarter) & 3
    packed_high = sum(high[i::4].astype(np.uint32) << (2 * i) for i in range(4))
    scales = raw[192 + 2 * sub:][:2]
    return np.concatenate([raw[208:210], scales, pack_nibbles(low), packed_high])


def write(name, raw, values):
    print(f"{{DType::{name},\n {{{', '.join(str(int(b)) for b in raw)}}},")
    print(f" {{{', '.join(f'{float(v)!r}' for v in values)}}}}},")


for name, kind, size, halves in [
    ("kQ8_0", Type.Q8_0, 34, [0]),
    ("kQ4_0", Type.Q4_0, 18, [0]),
    ("kQ4_1", Type.Q4_1, 20, [0, 2]),
    ("kQ5_0", Type.Q5_0, 22, [0]),
    ("kQ5_1", Type.Q5_1, 24, [0, 2]),
]:
    block = random_block(size, halves)
    write(name, block, dequantize(block, kind))

for name, kind, size, halves, subs in [
    ("kQ4_K32", Type.Q4_K, 144, [0, 2], [0, 3, 6]),
    ("kQ5_K32", Type.Q5_K, 176, [0, 2], [1, 4, 7]),
    ("kQ6_K32", Type.Q6_K, 210, [208], [0, 2, 5, 7]),
]:
    block = random_block(size, halves)
    values = dequantize(block, kind)
    for sub in subs:
        packed = repack_q6_k(block, sub) if kind == Type.Q6_K else repack_q4_or_q5_k(
            block, sub, kind == Type.Q5_K)
        write(name, packed, values[32 * sub:32 * sub + 32])
