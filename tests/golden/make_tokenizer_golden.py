#!/usr/bin/env python3
"""Golden values for coordinator/text: what independent implementations make of the same text.

Writes into tests/golden/tokenizers/:
  strings.json        the texts; {"hex": ...} for invalid UTF-8, {"repeat": [text, count]} for runs
  <name>.textproto    a small tokenizer's TokenizerDescription, trained here
  <name>.ids          its ids, a line per text: with control tokens recognized, and after a tab
                      without, where that differs; more than 300 ids as "#count fnv1a64"
  default_model.ids   the same for SmolLM2-135M-Instruct, whose description the model file has

(make_chat_golden.py there makes the chat templates' values.)

References: Hugging Face `tokenizers` (byte-level BPE), `sentencepiece` and llama.cpp through
`llama-cpp-python` (SentencePiece BPE, and a second opinion on the default model).

  python tests/golden/make_tokenizer_golden.py [--model SmolLM2-135M-Instruct.Q4_1.gguf]

The small tokenizers are trained on the texts below, Python's own library and iso-codes' translations
where those are installed, so another machine may make other, equally good ones; the ids belong to
the .textproto beside them.
"""

import argparse
import gettext
import glob
import io
import json
import os
import random
import re
import sys
import tempfile
import unicodedata

import gguf
import llama_cpp
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<think>", "<thinking>", "</think>", "\t\t", "naïve!"]

PHRASES = r"""
The quick brown fox jumps over the lazy dog.
I'm sure they're here; we've seen it, you'd know, she'll come, it's John's. DON'T SHOUT'S I'LL WE'VE
'Twas brillig, and the slithy toves did gyre and gimble in the wabe
Voix ambiguë d'un cœur qui au zéphyr préfère les jattes de kiwis, où naïveté règne
Falsches Üben von Xylophonmusik quält jeden größeren Zwerg. Straße, STRASSE, ẞ
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿dónde está el niño?
À noite, vovô Kowalsky vê o ímã cair no pé do pinguim queixoso
Pchnąć w tę łódź jeża lub ośm skrzyń fig
Příliš žluťoučký kůň úpěl ďábelské ódy
Árvíztűrő tükörfúrógép, Jó foxim és don Quijote húszwattos lámpánál ülve
Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul, ılık, IĞDIR
Törkylempijävongahdus, Kæmi ný öxi hér, Høj bly gom vandt fræk sexquiz på wc
Bạn có thể ăn thủy tinh mà không hại gì? Tiếng Việt có nhiều dấu: ặ ễ ộ ữ
Съешь же ещё этих мягких французских булок, да выпей чаю
Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо
Ах чудна българска земьо, полюшвай цъфтящи жита. Љубазни фењерџија чађавог лица
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· Ὦ ξεῖν', ἀγγέλλειν Λακεδαιμονίοις ὅτι τῇδε κείμεθα
Բել դղյակի ձախ ժամն օֆ ազգությանը ցպահանջ չճշտած վնաս էր եւ փառք
სადაც არ სჯობს, გაცლა სჯობს კარგისა მამაცისაგან
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עֲלֵיכֶם
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر. مُحَمَّد ٱلرَّحْمَٰنِ ١٢٣٤
نوجوان و پیر می‌توانند کتاب‌ها را بخوانند ۰۱۲۳۴۵
یہ ایک جملہ ہے جو اردو میں لکھا گیا ہے
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। क्षत्रिय ज्ञान १२३४५
আমি কাঁচ খেতে পারি, তাতে আমার কোনো ক্ষতি হয় না। ৬৭৮
ਮੈਂ ਗਲਾਸ ਖਾ ਸਕਦਾ ਹਾਂ, હું કાચ ખાઇ શકું છુ, ମୁଁ କାଚ ଖାଇପାରେ
நான் கண்ணாடி சாப்பிடுவேன், அதனால் எனக்கு ஒரு கேடும் வராது.
నేను గాజు తినగలను, ನಾನು ಗಾಜನ್ನು ತಿನ್ನಬಲ್ಲೆ, എനിക്ക് ഗ്ലാസ് തിന്നാം
මට වීදුරු කන්න පුළුවන්. එයින් මට කිසි හානියක් සිදු නොවේ
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓
ຂ້ອຍກິນແກ້ວໄດ້ໂດຍທີ່ມັນບໍ່ໄດ້ເຮັດໃຫ້ຂ້ອຍເຈັບ
က္ယ္ဝန္တော္၊က္ယ္ဝန္မ မ္ယက္စားနုိင္သည္။ မြန်မာစာ
ខ្ញុំអាចញុំកញ្ចក់បាន ដោយគ្មានបញ្ហា
ཤེལ་སྒོ་ཟ་ནས་ང་ན་གི་མ་རེད།
ᠪᠢ ᠰᠢᠯᠢ ᠢᠳᠡᠶᠦ ᠴᠢᠳᠠᠨᠠ᠂ ᠨᠠᠳᠤᠷ ᠬᠠᠤᠷᠠᠳᠠᠢ᠎ᠠ ᠪᠢᠰᠢ
ሰማይ አይታረስ ንጉሥ አይከሰስ። ብላ ካለኝ እንደአባቴ በቆመጠኝ።
ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ᛫ᚠᛁᚱᚪ᛫ᚷᛖᚻᚹᛦᛚᚳᚢᛗ
ᎠᏍᏕᎵᏍᎩ ᏣᎳᎩ, ᐃᓄᒃᑎᑐᑦ ᑎᑎᕋᐅᓯᖅ
天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。我能吞下玻璃而不傷身體。
我能吞下玻璃而不伤身体。《论语》：“学而时习之，不亦说乎？”——孔子
いろはにほへと ちりぬるを わかよたれそ つねならむ。私はガラスを食べられます。ﾊﾝｶｸ
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 나는 유리를 먹을 수 있어요
𝒜𝓁𝓁 𝕞𝕒𝕥𝕙 𝖋𝖗𝖆𝖐𝖙𝖚𝖗 𝟙𝟚𝟛 ℵ₀ ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ≠ γ, ∮E·da = Q, n → ∞
𓂀𓃠 𐎠𐎭𐎶 𐌰𐌱𐌲 𒀭𒂗 𞤀𞤣𞤤𞤢𞤥 𠜎𠜱𠝹𡃁 𪚥
😀😃😄 👍🏽👩🏿‍💻👨‍👩‍👧‍👦 🏳️‍🌈🏴‍☠️🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪🇯🇵🇧🇷🇺 ❤️‍🔥 ☺︎☺️ 1️⃣#️⃣ 🫠🥹 🧑🏻‍🤝‍🧑🏿
١٢٣ ๔๕๖ ७८९ Ⅷ ½ ¾ ² ³ ① ㊿ 〇一二三 ௧௨௩ 𝟘𝟡 1,234.56 3.14159e-10 0xDEADBEEF 1_000_000 007 2024-11-20T15:37:00Z
def f(x: int) -> str:\n    return f"{x!r:>10}"  # comment\n\n\nclass A(B):\n\tpass\n
for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; }  // sum\r\n#include <vector>\r\n
SELECT * FROM "users" WHERE id IN (1, 2, 3) AND name LIKE '%o''brien%';
<div class="a b">&nbsp;&amp;<br/></div><!-- x --> {"k": [1, 2.5, null, true], "s": "\\u00e9\\n"}
http://example.com:8080/a/b?c=d&e=%20f#g user.name+tag@sub.example.co.uk ../path/to/file.tar.gz C:\\Users\\x
#!/bin/sh\nset -euo pipefail\nls -la | grep -v '^d' && echo "$HOME" > /dev/null 2>&1\n
| a | b |\n|---|---|\n| 1 | 2 |\n\n- [ ] todo\n  1. one\n     * two\n```c++\nint x;\n```\n
$E=mc^2$ \\frac{a}{b} \\sum_{i=0}^{\\infty} x_i \\begin{align*} \\end{align*}
Ａｂｃ１２３ ｆｕｌｌｗｉｄｔｈ ﬁ ﬂ ﬀ ŉ Ǆ ŀ Å Ω K ſ 'ſ 'S Iſ'ſ
e\u0301 é a\u0323\u0307 a\u0307\u0323 ạ̇ q\u0307\u0323 \u1E9B\u0323 각 \u1100\u1161\u11A8 \uAC00\u11A8 \u0958 \u2126 \u212B \uF900 \U0001D15E
Z\u0351\u036Ba\u0343\u032Al\u0362g\u034Fo\u0334 \u0327\u0301c\u0301\u0327 \u0F73 \u0F71\u0F72 \u05E9\u05C1\u05BC
a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u180eh\u200bi\ufeffj\u2060k\u00adl\u1680m\u202fn\u205fo
\u0000 \u0001\u0002 a\u0007b\u0008c\u001bd\u001c \u001d\u001e\u001f\u007f\u0080\u009f \ufffd\ufffe\uffff
▁ a▁b ▁▁ ▁the ▁ the Ġthe Ċ <0x0A> <0xFF> <s> </s> <unk>
Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore
Wait... what?! No—never; “quoted” ‘single’ «guillemets» „low“ (parens) [brackets] {braces} <angle> *bold* _it_ ~x~ `c`
$100 €50 £20 ¥300 ₹40 ₿1 50% 10‰ #hashtag @mention +1 (555) 010-9999 ©2024 ®™ §5 ¶ • † ‡ …
""".strip().split("\n")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
PHRASES = [re.sub(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt\\]))",
                  lambda m: ESCAPES[m[3]] if m[3] else chr(int(m[1] or m[2], 16)), p) for p in PHRASES]


def invalid_strings(rng):
    """Bytes that are not UTF-8, every kind of not."""
    fixed = ["80", "bf", "c0", "c080", "c1bf", "c2", "e0", "e080", "e09f80", "e0a0", "eda080", "edbfbf", "edb080",
             "f0", "f08080", "f08f8080", "f090", "f09080", "f48fbf", "f4908080", "f5808080", "f888808080",
             "fc8480808080", "fe", "ff", "feff", "fffe", "e282", "e28241", "f09f98", "f09f9841", "f09f98f09f9880",
             "61e28262", "61f1808062", "c3c3a9", "e2e282ac", "c328", "a0a1", "e28ca1e228a1", "f0288cbc", "f09028bc",
             "f0288c28", "41f0909041", "20ff20", "68656c6c6fff", "ff68656c6c6f", "e4bd", "e4bda0e5a5"]
    out = [bytes.fromhex(h) for h in fixed]
    for _ in range(120):
        out.append(rng.randbytes(rng.randint(1, 12)))
    for _ in range(80):  # real text, cut or changed inside a character
        raw = bytearray(rng.choice(PHRASES).encode()[:rng.randint(5, 40)])
        raw[rng.randrange(len(raw))] = rng.randrange(128, 256)
        out.append(bytes(raw))
    return out


def assigned(codepoint):
    """Assigned in Unicode 14 (Python 3.11), so that engines with other Unicode versions agree."""
    return unicodedata.category(chr(codepoint)) not in ("Cn", "Cs")


def make_strings():
    rng = random.Random(20241120)
    pool = [c for c in range(0x110000) if assigned(c) and unicodedata.category(chr(c)) != "Co"]
    by_block = {}
    for c in pool:
        by_block.setdefault(c >> 7, []).append(c)
    blocks = list(by_block.values())
    words = [w for p in PHRASES for w in p.split(" ") if w]
    spaces = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "\u0085",
              "\u180e", "\v", "\f", "\u2028", "\x1c", "\u200b"]
    contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'VE", "'LL", "'ſ", "’s", "''s"]
    marks = [chr(c) for c in pool if unicodedata.combining(chr(c))]
    emoji = "😀 😃 👍🏽 👩🏿‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🏴‍☠️ 🇩🇪 🇯🇵 🇺 ❤️‍🔥 ☺️ 1️⃣ 🫠 🧑🏻‍🤝‍🧑🏿 ✌🏿 🏴󠁧󠁢󠁥󠁮󠁧󠁿".split()
    special = CONTROL + USER_DEFINED + ["<|im_", "<|im_end|", "|>", "<", "<|", "<s>", "</s>", "<unk>", "<0x41>", "<think", "<|im_start|><|im_end|>"]

    out = list(PHRASES) + [""] + words[:]
    out += [p[: rng.randint(1, len(p))] for p in PHRASES] + [p[rng.randint(0, len(p) - 1):] for p in PHRASES]
    out += [unicodedata.normalize("NFD", p) for p in PHRASES] + [p.upper() for p in PHRASES if p.isascii()]
    for s in spaces:  # runs of white space, alone and around words
        for n in (1, 2, 3, 7):
            out += [s * n, "a" + s * n + "b", s * n + "x", "x" + s * n]
    out += [rng.choice(words) + c + rng.choice(["", " ", "x", "s"]) for c in contractions for _ in range(3)]
    out += ["".join(rng.choice("0123456789٣५Ⅷ½𝟙 .,-x") for _ in range(rng.randint(1, 14))) for _ in range(100)]
    out += ["".join(rng.choice(emoji) + rng.choice(["", "", " ", "a"]) for _ in range(rng.randint(1, 5))) for _ in range(80)]
    out += ["".join(rng.choice("abeqAz각ạ\u1100\u1161") + "".join(rng.choice(marks) for _ in range(rng.randint(0, 4)))
                    for _ in range(rng.randint(1, 4))) for _ in range(150)]
    out += ["".join(rng.choice(special + words + [" ", "\n"]) for _ in range(rng.randint(1, 6))) for _ in range(160)]
    out += ["".join(rng.choice(words) + rng.choice(spaces + [" "] * 20) for _ in range(rng.randint(2, 7))) for _ in range(200)]
    out += ["".join(chr(rng.choice(pool)) for _ in range(rng.randint(1, 8))) for _ in range(150)]
    for _ in range(250):  # random within one block of Unicode
        block = rng.choice(blocks)
        out.append("".join(chr(rng.choice(block)) + (" " if rng.random() < 0.1 else "") for _ in range(rng.randint(1, 10))))
    out += ["".join(chr(rng.randint(0, 127)) for _ in range(rng.randint(1, 30))) for _ in range(100)]
    with open(io.__file__, encoding="utf-8") as source:
        lines = source.read().split("\n")
    out += ["\n".join(lines[i: i + 3]) for i in range(0, min(len(lines), 100), 3)]
    # `tokenizers` normalizes by an older Unicode that does not order the newest combining marks;
    # where it differs from Python's, it is no reference.
    nfc = normalizers.NFC()
    out = [t for t in out if nfc.normalize_str(t) == unicodedata.normalize("NFC", t)]
    seen, texts = set(), []
    for text in out + invalid_strings(rng):
        if text not in seen:
            seen.add(text)
            texts.append(text)
    runs = [["a", 26000], [" ", 26000], ["ab", 2000], ["\n", 3000], ["é", 3000], ["0", 4000], ["=-", 2000], ["你", 3000],
            ["👍🏽", 800], [" the", 1000], [" \n", 1500], ["e\u0301", 1500], ["\u0323\u0307", 700], ["<|im_end|>", 500],
            ["x\t", 1500], ["…", 2000]]
    return texts, runs


def as_text(item):
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else item


def fnv1a64(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def ids_text(ids):
    return f"#{len(ids)} {fnv1a64(ids):016x}" if len(ids) > 300 else " ".join(map(str, ids))


def write_ids(name, texts, with_special, plain):
    with open(os.path.join(OUT, name + ".ids"), "w", encoding="ascii") as out:
        for text in texts:
            a, b = with_special(text), plain(text)
            out.write(ids_text(a) + ("" if a == b else "\t" + ids_text(b)) + "\n")


# --- the description, as a text proto ---------------------------------------------------------

def quoted(data):
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in data) + '"'


def write_description(name, fields):
    """`fields`: (name, value) with value a bool, int, str (an enum), bytes, or a list of those."""
    def show(v):
        if isinstance(v, bool):
            return str(v).lower()
        return quoted(v) if isinstance(v, bytes) else f"{v:g}" if isinstance(v, float) else str(v)
    with open(os.path.join(OUT, name + ".textproto"), "w", encoding="ascii") as out:
        for key, value in fields:
            out.write(f"{key}: [{','.join(map(show, value))}]\n" if isinstance(value, list) else f"{key}: {show(value)}\n")


# --- byte-level BPE ---------------------------------------------------------------------------

def corpus():
    lines = PHRASES * 40
    for module in (json, random, gettext):
        with open(module.__file__, encoding="utf-8") as source:
            lines += source.read().split("\n")
    for path in sorted(glob.glob("/usr/share/locale/*/LC_MESSAGES/iso_3166-1.mo"))[:80]:
        try:
            with open(path, "rb") as source:
                lines += [m for m in gettext.GNUTranslations(source)._catalog.values() if isinstance(m, str)][1:60]
        except (OSError, UnicodeDecodeError):
            pass
    return lines


def split_by(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def smollm_pre_tokenizer():
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


BYTE_LEVEL = {
    "smollm": dict(pre=smollm_pre_tokenizer(), patterns=[r"\p{N}", GPT2], every_byte=False),
    "gpt2": dict(pre=pre_tokenizers.ByteLevel(add_prefix_space=False), patterns=[GPT2], user_defined=USER_DEFINED),
    "llama-bpe": dict(pre=split_by(LLAMA3), patterns=[LLAMA3], ignore_merges=True),
    "qwen2": dict(pre=split_by(QWEN2), patterns=[QWEN2], nfc=True, user_defined=USER_DEFINED[:3]),
}


def byte_level_pair(vocab, merges, spec, control):
    """(with control tokens recognized, without)"""
    pair = []
    for with_control in (True, False):
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=spec.get("ignore_merges", False)))
        tokenizer.pre_tokenizer = spec["pre"]
        if spec.get("nfc"):
            tokenizer.normalizer = normalizers.NFC()
        if with_control:
            tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
        tokenizer.add_tokens([AddedToken(t, normalized=False) for t in spec.get("user_defined", [])])
        pair.append(lambda text, t=tokenizer: t.encode(text, add_special_tokens=False).ids)
    return pair


def make_byte_level(name, spec, texts):
    trainer_tokenizer = Tokenizer(models.BPE())
    trainer_tokenizer.pre_tokenizer = spec["pre"]
    if spec.get("nfc"):
        trainer_tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if spec.get("every_byte", True) else []
    trainer_tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=1500, special_tokens=CONTROL, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(trainer_tokenizer.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(m) for m in model["merges"]]
    if spec.get("ignore_merges"):  # words that only the whole-word rule can reach
        merges = [m for i, m in enumerate(merges) if i % 7 != 3]
    for token in spec.get("user_defined", []):
        vocab[token] = len(vocab)

    with_special, plain = byte_level_pair(vocab, merges, spec, CONTROL)
    write_ids(name, texts, with_special, plain)
    tokens = sorted(vocab, key=vocab.get)
    types = ["TOKEN_TYPE_" + ("CONTROL" if t in CONTROL else "USER_DEFINED" if t in spec.get("user_defined", []) else "NORMAL") for t in tokens]
    write_description(name, [
        ("kind", "TOKENIZER_KIND_BYTE_LEVEL_BPE"), ("tokens", [t.encode() for t in tokens]), ("types", types),
        ("merges", [" ".join(m).encode() for m in merges]),
        ("pre_tokenizer_patterns", [p.encode() for p in spec["patterns"]]), ("pre_tokenizer_name", name.encode()),
        ("normalize_nfc", spec.get("nfc", False)), ("ignore_merges", spec.get("ignore_merges", False)),
        ("eos_id", vocab[CONTROL[0]]), ("stop_ids", [vocab[CONTROL[2]]])])


# --- the default model ------------------------------------------------------------------------

def llama_cpp_tokenizer(path):
    model = llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False)
    return lambda text, special: model.tokenize(text.encode(), add_bos=False, special=special)


def make_default_model(path, texts):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    control = [t for t, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL]
    spec = dict(pre=smollm_pre_tokenizer())
    with_special, plain = byte_level_pair({t: i for i, t in enumerate(tokens)}, merges, spec, control)
    write_ids("default_model", texts, with_special, plain)
    second = llama_cpp_tokenizer(path)
    differ = [t for t in texts if second(t, True) != with_special(t)]
    print(f"default_model: llama.cpp differs on {len(differ)} of {len(texts)}: {[t[:30] for t in differ[:12]]}")


# --- SentencePiece ----------------------------------------------------------------------------

def sentencepiece_gguf(processor, path, add_space_prefix):
    """A vocabulary that llama.cpp can load, for its reading of control tokens."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    tokens, scores, types = [], [], []
    for i in range(processor.vocab_size()):
        tokens.append(processor.id_to_piece(i).encode())
        scores.append(processor.get_score(i))
        types.append(sentencepiece_type(processor, i)[0])
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(add_space_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def sentencepiece_type(processor, i):
    if processor.is_unknown(i):
        return gguf.TokenType.UNKNOWN, "UNKNOWN"
    if processor.is_control(i):
        return gguf.TokenType.CONTROL, "CONTROL"
    if processor.is_byte(i):
        return gguf.TokenType.BYTE, "BYTE"
    return gguf.TokenType.NORMAL, "NORMAL"


def make_sentencepiece(name, texts, byte_fallback, add_dummy_prefix):
    # Other scripts stay unseen: their characters become bytes, or unknown.
    lines = [line for line in corpus() if line and all(ord(c) < 0x500 or c in "“”—的人我" for c in line)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=1500 if byte_fallback else 1300,
        byte_fallback=byte_fallback, add_dummy_prefix=add_dummy_prefix, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        character_coverage=0.9999, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    special = lambda text: processor.encode(text)
    if byte_fallback:  # llama.cpp needs the byte tokens
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "vocabulary.gguf")
            sentencepiece_gguf(processor, path, add_dummy_prefix)
            llama = llama_cpp_tokenizer(path)
            differ = [t for t in texts if llama(t, False) != processor.encode(t)]
            print(f"{name}: llama.cpp differs on {len(differ)} of {len(texts)}: {[t[:30] for t in differ[:12]]}")
            expected = {t: llama(t, True) for t in texts}
        special = expected.get
    write_ids(name, texts, special, processor.encode)
    ids = range(processor.vocab_size())
    write_description(name, [
        ("kind", "TOKENIZER_KIND_SENTENCEPIECE_BPE"), ("tokens", [processor.id_to_piece(i).encode() for i in ids]),
        ("types", ["TOKEN_TYPE_" + sentencepiece_type(processor, i)[1] for i in ids]), ("scores", [processor.get_score(i) for i in ids]),
        ("add_space_prefix", add_dummy_prefix), ("add_bos", True), ("bos_id", processor.bos_id()),
        ("eos_id", processor.eos_id()), ("unk_id", processor.unk_id())])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=os.path.expanduser("~/.cache/tessera/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    options = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    texts, runs = make_strings()
    items = [{"hex": t.hex()} if isinstance(t, bytes) else t for t in texts] + [{"repeat": r} for r in runs]
    with open(os.path.join(OUT, "strings.json"), "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(i, ensure_ascii=False) for i in items) + "\n]\n")
    texts = [as_text(t) for t in texts] + [t * n for t, n in runs]
    print(len(texts), "strings")
    for name, spec in BYTE_LEVEL.items():
        make_byte_level(name, spec, texts)
    make_sentencepiece("spm-llama", texts, byte_fallback=True, add_dummy_prefix=True)
    make_sentencepiece("spm-unknown", texts, byte_fallback=False, add_dummy_prefix=False)
    if os.path.exists(options.model):
        make_default_model(options.model, texts)
    else:
        print("no default model at", options.model, file=sys.stderr)


if __name__ == "__main__":
    main()
