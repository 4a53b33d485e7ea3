#!/usr/bin/env python3
"""chat.json: what jinja2 makes of conversations with the templates in chat_templates/.

The templates are those that the models named by the files carry (qwen3 and llama-3.1 without their
tool calls). The environment is the one of transformers' apply_chat_template. "prompt" is null where
the template raises.

  python tests/golden/tokenizers/make_chat_golden.py
"""

import glob
import json
import os

import jinja2
import jinja2.sandbox

HERE = os.path.dirname(os.path.abspath(__file__))

SPECIALS = {"llama-3": ("<|begin_of_text|>", "<|eot_id|>"), "gemma": ("<bos>", "<eos>")}

S, U, A = "system", "user", "assistant"
CONVERSATIONS = [
    [(U, "Hello")],
    [(S, "Be brief."), (U, "What is 2+2?")],
    [(U, "Hi"), (A, "Hello! How can I help?"), (U, "Tell me a joke.")],
    [(S, "You are a pirate.\nSpeak like one."), (U, "Hi"), (A, "Arr!"), (U, "Who?"), (A, "Me."), (U, "Bye")],
    [(U, "  padded \n"), (A, "\u00a0\u3000answer\x1c\n\n"), (U, "\t\u2003again\u0085 ")],
    [(S, "  padded system\n"), (U, "\n x \n")],
    [(S, ""), (U, "")],
    [(U, "naïve 你好 👩🏿‍💻 {{ braces }} {% tags %} 'quotes' \"double\" \\n <|im_end|> [INST] </s>")],
    [(U, "Hi"), (A, "Hello")],
    [(S, "s"), (U, "Hi"), (A, " Hello ")],
    [(U, "one"), (U, "two")],
    [(A, "I begin"), (U, "two")],
    [(U, "Hi"), (S, "late system"), (U, "x")],
    [(S, "a"), (S, "b"), (U, "x")],
    [(U, "2+2?"), (A, "<think>\nfour\n\nsurely\n</think>\n\n4"), (U, "and 3+3?")],
    [(U, "2+2?"), (A, "<think>\nfour\n</think>\n\n4")],
    [(U, "2+2?"), (A, "<think>a</think><think>\nb</think>\n\n4"), (A, "five"), (A, "no </think> thought")],
    [(U, "x"), (A, "<think></think>\n\n4"), (U, "<tool_response>\n1\n</tool_response>"), (A, "</think>")],
]


def main():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)
    environment.globals["raise_exception"] = raise_exception
    out = []
    for path in sorted(glob.glob(os.path.join(HERE, "chat_templates", "*.jinja"))):
        name = os.path.basename(path)[:-len(".jinja")]
        bos, eos = next((v for k, v in SPECIALS.items() if name.startswith(k)), ("<s>", "</s>"))
        with open(path, encoding="utf-8") as source:
            template = environment.from_string(source.read())
        for i, conversation in enumerate(CONVERSATIONS):
            messages = [{"role": role, "content": content} for role, content in conversation]
            try:
                prompt = template.render(messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=True)
                prompt = prompt[len(bos):] if prompt.startswith(bos) else prompt
            except jinja2.exceptions.TemplateError:
                prompt = None
            out.append({"template": name, "conversation": i, "prompt": prompt})
    with open(os.path.join(HERE, "chat.json"), "w", encoding="utf-8") as file:
        json.dump({"conversations": CONVERSATIONS, "cases": out}, file, ensure_ascii=False, indent=0)
        file.write("\n")
    print(len(out), "cases,", sum(c["prompt"] is None for c in out), "refused")


if __name__ == "__main__":
    main()
