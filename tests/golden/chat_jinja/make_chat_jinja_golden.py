#!/usr/bin/env python3
"""prompts.json and snippets.json: what transformers makes of chat templates and of Jinja.

The templates are written after those of the families that name them (smollm3 and hermes-tools
shortened), so that they use the same parts of the language. prompts.json: "text" is null where the
template raises. Tool calls go in as each template takes them: DeepSeek's wants the arguments as
text and no content. snippets.json: small sources over the variables at its top, null where jinja2
raises.

  python tests/golden/chat_jinja/make_chat_jinja_golden.py     # needs transformers
"""

import copy
import datetime
import glob
import json
import os

import jinja2.exceptions
from transformers.utils import chat_template_utils

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = datetime.datetime(2025, 3, 9, 12, 0, 0)

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Current weather \"there\" <now> & then",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": " Größe der Stadt\n"},
        "unit": {"type": "string", "enum": ["c", "f"], "description": "u"},
        "days": {"type": "array", "items": {"type": "integer"}, "description": "d"},
        "near": {"type": ["number", "string"], "minimum": -1.5, "maximum": 1e22, "description": "n"}},
        "required": ["city"], "additionalProperties": False}}}
CLOCK = {"type": "function", "function": {
    "name": "clock", "description": "It's time", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, call_id="abcde1234"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def message(role, content="", **more):
    return {"role": role, "content": content, **more}


S, U, A = (lambda text, role=role: message(role, text) for role in ("system", "user", "assistant"))
CALLED = message("assistant", tool_calls=[call("get_weather", {"city": "Zürich", "days": [1, 2]})])
ANSWERED = message("tool", '{"temp": 21.5}', name="get_weather", tool_call_id="abcde1234")
TOOLS = [WEATHER, CLOCK]
TAKES_TOOLS = {"hermes-tools", "llama-3.2-tools", "mistral-tools", "qwen3-tools", "smollm3"}

CONVERSATIONS = [
    {"messages": [U("Hello")]},
    {"messages": [S("Be brief."), U("What is 2+2?")]},
    {"messages": [U("Hi"), A("Hello! How can I help?"), U("Tell me a joke.")]},
    {"messages": [S("You are a pirate.\n"), U("Hi"), A("Arr!"), U("Who?"), A("Me."), U("Bye")]},
    {"messages": [U("  padded \n"), A("\u00a0\u3000answer\x1c\n\n"), U("\t\u2003again\u0085 ")]},
    {"messages": [S(""), U("")]},
    {"messages": [U("naïve 你好 👩🏿‍💻 {{ braces }} {% tags %} \"double\" \\n <|im_end|> [INST] </s>")]},
    {"messages": [U("Hi"), A("Hello")], "add_generation_prompt": False},
    {"messages": [U("one"), U("two")]},
    {"messages": [A("I begin"), U("two")]},
    {"messages": [S("a /no_think "), U("x"), S("late")]},
    {"messages": [U("2+2?"), A("<think>\nfour\n\nsurely\n</think>\n\n4"), U("and 3+3?")]},
    {"messages": [U("2+2?"), A("<think>\nfour\n</think>\n\n4")]},
    {"messages": [S("s"), U("Weather?")], "tools": TOOLS},
    {"messages": [U("Weather?")], "tools": [CLOCK]},
    {"messages": [U("Weather?"), CALLED, ANSWERED], "tools": [WEATHER]},
    {"messages": [S("s"), U("Weather?"), CALLED, ANSWERED, A("It is warm."), U("Thanks")], "tools": TOOLS},
    {"messages": [U("Both?"), message("assistant", tool_calls=[
        call("get_weather", {"city": "a\"b\\c\u2028"}), call("clock", {}, "fghij5678")]),
        ANSWERED, message("tool", "12:00", tool_call_id="fghij5678")], "tools": TOOLS},
    {"messages": [U("Hi")], "kwargs": {"enable_thinking": False}},
    {"messages": [U("Hi"), A("<think>\nhm\n</think>\n\nyes"), U("Hi")],
     "kwargs": {"enable_thinking": True, "date_string": "1 Jan 2030", "tools_in_user_message": False},
     "tools": [CLOCK]},
    {"messages": [S("/system_override as I say"), U("x")]},
]

VARIABLES = {
    "s": "Hello, World", "t": "  a b  c\n", "u": "naïve Straße ΑΒΓ 你好", "n": 7, "m": -3, "f": 2.5,
    "items": [3, 1, 2], "words": ["b", "A", "c", "a"], "empty": [],
    "d": {"b": 2, "a": [1, {"x": None}], "c": "it's", "items": "key"},
    "people": [{"name": "Zoe", "age": 3}, {"name": "adam", "age": 1, "tags": ["x"]}, {"name": "Bob", "age": 2}],
    "quotes": "a'b", "both": "a'b\"c\n\u00a0\u200b\x7f", "big": 18446744073709551615, "none_value": None,
}

SNIPPETS = r"""
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -2 ** 2 }}
{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.5e300 }} {{ f * 2 }} {{ 1 / 3 }} {{ -0.0 }} {{ 100.0 }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 'a' == 1 }}
{{ 'ell' in s }} {{ 'x' not in s }} {{ 2 in items }} {{ 'a' in d }} {{ 3 not in items }} {{ not 2 in items }}
{{ s ~ 1 ~ none ~ true ~ 2.0 ~ [1, 'x'] }}
{{ 'a' 'b' "c" }} {{ 'it\'s' }} {{ "tab\there" }} {{ '\x41\u00e9\101\\' }} {{ 'a\qb' }}
{{ s[0] }} {{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[::2] }} {{ s[:-3] }} {{ u[5:] }} {{ u[::-1] }} {{ s[99:] }} {{ s[-99:3] }}
{{ items[0] }} {{ items[1:] }} {{ items[::-1] }} {{ items[-1] }} {{ items[9] is defined }} {{ items[::-2] }} {{ items[5:1:-1] }}
{{ d.b }} {{ d['b'] }} {{ d.nope is defined }} {{ d.a[1].x is none }} {{ d['items'] }} {{ d.get('nope', 4) }} {{ d.get('nope') }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {{ d.keys()|list }} {{ d.values()|list }}
{{ d }} {{ (1,) }} {{ (1, 'b') }} {{ [] }} {{ {} }} {{ () }} {{ {'a': 1, 2: none} }} {{ [quotes, both] }}
{{ d|tojson }} {{ u|tojson }} {{ both|tojson }} {{ d|tojson(indent=2) }} {{ []|tojson(indent=2) }} {{ {1: 2, none: true}|tojson }}
{{ d|tojson(separators=(',', ':')) }} {{ u|tojson(ensure_ascii=true) }} {{ '😀'|tojson(true) }} {{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ big|tojson }} {{ 1.0|tojson }}
{{ '<a href="x">&\'</a>'|tojson }} {{ '<a href="x">&\'</a>'|e }}
{{ t|trim }}| {{ t|trim|length }} {{ '--x--'|trim('-') }} {{ u|upper }} {{ u|lower }} {{ 'hELLO wORLD-foo (bar'|title }} {{ 'hELLO wORLD'|capitalize }}
{{ s|replace('l', 'L') }} {{ s|replace('l', 'L', 1) }} {{ s|length }} {{ u|length }} {{ s|first }} {{ s|last }} {{ items|first }} {{ empty|first is defined }}
{{ items|sort }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ items|sort(reverse=true) }} {{ people|sort(attribute='name')|map(attribute='name')|list }}
{{ items|join }} {{ items|join(', ') }} {{ people|join('|', attribute='age') }} {{ items|sum }} {{ people|sum(attribute='age') }} {{ items|min }} {{ items|max }}
{{ words|unique|list }} {{ [1, 2, 1]|unique|list }} {{ items|reverse|list }} {{ s|reverse }} {{ items|list }} {{ 'abc'|list }} {{ d|list }}
{{ d|dictsort }} {{ {'x': 2, 'Y': 1}|dictsort }} {{ {'x': 2, 'y': 1}|dictsort(by='value') }} {{ d|items|list }}
{{ people|selectattr('tags', 'defined')|list|length }} {{ people|rejectattr('age', 'gt', 1)|map(attribute='name')|join }} {{ items|select('odd')|list }} {{ items|reject('equalto', 1)|list }} {{ [0, 1]|select|list }}
{{ words|map('upper')|list }} {{ people|map(attribute='tags', default=0)|list }} {{ [' a ']|map('trim')|first }} {{ ['ab']|map('replace', 'a', 'x')|first }}
{{ nope|default('x') }} {{ none|default('x') }} {{ ''|default('x', true) }} {{ nope|d }} {{ 'a'|default('b') }}
{{ '3'|int }} {{ 'x'|int }} {{ '3.7'|int }} {{ 3.9|int }} {{ 'x'|int(5) }} {{ '2.5'|float }} {{ 'x'|float }} {{ 3|float }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.9|round(method='floor') }} {{ m|abs }} {{ -2.5|abs }}
{{ 'a\nb\n\nc'|indent }}| {{ 'a\nb'|indent(2, true) }} {{ 'a\n\nb'|indent(2, blank=true) }} {{ 'a\nb'|indent('> ') }}
{{ t.strip() }}| {{ t.lstrip() }}| {{ t.rstrip() }}| {{ 'xxaxx'.strip('x') }} {{ 'xyaxy'.lstrip('yx') }} {{ 'xxaxx'.rstrip('x') }}
{{ t.split() }} {{ t.split(' ') }} {{ s.split(', ') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.split(none, 1) }} {{ 'a</think>b</think>c'.split('</think>')[-1] }}
{{ s.startswith('He') }} {{ s.endswith(('x', 'd')) }} {{ s.find('o') }} {{ u.find('你') }} {{ s.rfind('o') }} {{ s.find('z') }} {{ s.count('l') }} {{ s.index('W') }}
{{ s.upper() }} {{ s.lower() }} {{ 'hELLO wORLD'.title() }} {{ "it's 3rd ok".title() }} {{ 'éA'.capitalize() }} {{ s.replace('l', '') }} {{ s.replace('l', 'LL', 2) }} {{ 'ab'.replace('', '-') }}
{{ 'a-b'.partition('-') }} {{ 'ab'.partition('-') }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ '-'.join(words) }} {{ 'a\nb\r\nc'.splitlines() }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ ''.isalpha() }} {{ ' '.isspace() }} {{ 'AB1'.isupper() }}
{{ nope is defined }} {{ nope is undefined }} {{ none is none }} {{ s is string }} {{ 1 is number }} {{ 1.5 is float }} {{ true is integer }} {{ 1 is integer }} {{ true is number }} {{ true is boolean }} {{ d is mapping }} {{ items is iterable }} {{ s is iterable }} {{ 1 is iterable }} {{ items is sequence }} {{ d is sequence }}
{{ 3 is odd }} {{ 3 is even }} {{ 6 is divisibleby 3 }} {{ 1 is in items }} {{ 3 is eq 3 }} {{ 3 is ne 3 }} {{ 3 is gt 2 }} {{ 'a' is sameas 'b' }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ s is not string }} {{ not s is string }} {{ 'ab' is lower }}
{{ 'y' if items else 'n' }} {{ 'y' if empty }}| {{ 'a' if 0 else 'b' if 1 else 'c' }} {{ (1 if true else 2) + 1 }}
{{ 0 or 'x' }} {{ 1 and 'x' }} {{ '' or none }} {{ not '' }} {{ not not items }} {{ items and d and 3 }}
{{ range(3)|list }} {{ range(1, 4)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }}
{{ [1] + [2, 3] }} {{ (1,) + (2,) }} {{ 'ab' * 3 }} {{ [0] * 2 }} {{ 2 * 'x' }}
{% for x in items %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.cycle('a', 'b') }} {% endfor %}
{% for x in items %}{{ loop.previtem|default('-') }}<{{ x }}>{{ loop.nextitem|default('-') }} {% endfor %}
{% for x in items if x > 1 %}{{ x }}{{ loop.length }}{% else %}none{% endfor %} {% for x in empty %}x{% else %}none{% endfor %}
{% for x in items %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}
{% for x in items %}{% for y in words %}{{ loop.index0 }}{{ loop.depth }}{% endfor %}{{ loop.index0 }}{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }} {% endfor %} {% for c in 'añb' %}{{ c }}.{% endfor %} {% for k in d %}{{ k }}{% endfor %}
{% set x = 1 %}{% for i in items %}{{ x }}{% set x = x + 1 %}{% endfor %}{{ x }}
{% set ns = namespace(x=1, y='a') %}{% for i in items %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z is defined }}{{ ns['x'] }}
{% if true %}{% set x = 5 %}{% endif %}{{ x }} {% set a, b = 1, 2 %}{{ a }}{{ b }} {% set a, b = [b, a] %}{{ a }}{{ b }}
{% set x %} block {{ n }} {% endset %}[{{ x }}] {% set y | trim | upper %} block {{ n }} {% endset %}[{{ y }}]
{% macro m(a, b='z', c=none) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(a='q', c=3) }}{{ m() }}
{% macro fact(k) %}{% if k > 1 %}{{ k * fact(k - 1)|int }}{% else %}1{% endif %}{% endmacro %}{{ fact(5) }}
{% macro late() %}{{ later }}{% endmacro %}{% set later = 'seen' %}{{ late() }}
{% with a = 1, b = 2 %}{{ a + b }}{% set n = 0 %}{% endwith %}{{ a is defined }}{{ n }}
{% generation %}{% set n = 0 %}g{% endgeneration %}{{ n }} {% raw %}{{ not }}{% endraw %} {# comment #}x
{% if n > 10 %}a{% elif n > 5 %}b{% elif n > 4 %}c{% else %}d{% endif %}
{{ dict(a=1, b='x') }} {{ namespace(a=1).a }} {{ 'a' ~ nope }}| {{ nope }}| {{ nope == none }} {{ nope == other }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }}
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%A, %B %d') }}
{{ big }} {{ 9223372036854775807 }} {{ (1, 2)[0] }} {{ d.items is defined }} {{ {'a': {'b': [10, 20]}}.a.b.1 }}
{{ (s | upper).lower() | title }} {{ -items[0] }} {{ +n }} {{ -n|abs }} {{ 'a' ~ (1 + 2) }} {{ 'x' if n is defined and n is not none else 'y' }}
{{ s is string and n is number }} {{ n in [1, 7] and s }}
{{ 1 + 'a' }}
{{ nope.x }}
{{ nope + 1 }}
{{ none.x.y }}
{{ [1] + (2,) }}
{{ 'a' < 1 }}
{{ 1 in 5 }}
{{ none|length }}
{% for x in 5 %}{% endfor %}
{{ items.append(4) }}
{{ raise_exception('own words') }}
{{ 1 / 0 }}
{{ range(1000000)|list }}
{{ nope() }}
{% set items.x = 1 %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{{ 'abc'.index('z') }}
{{ namespace(_a=1) }}
""".strip("\n").split("\n")

# White space: each is one template of several lines.
BLOCKS = [
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif %}\n\n c",
    "  {{ n }}  \n  {{- n -}}  \n x \n",
    "{% for i in items %}\n  {{ i }}\n{% endfor %}\nend\n\n",
    "x {% if true %} y {% endif %} z\n",
    "a {#- c -#} b\n  {# c #}\nd {# c\nd #}  \n e",
    "  {%+ if true %}\n a\n  {%+ endif +%}\n b",
    "{%- set x = 1 %}\n\n{{ x }}\r\n{% set y = 2 -%}\r\n  {{ y }}\r",
    "{{ '\n' }}|{{ 'a\r\nb' }}|\u00a0{%- if true %}\u00a0\n{% endif -%}\u3000x",
    "{% raw -%}  {{ x }}\n {%- endraw %}\n y{% raw %}\n z {% endraw -%} \n w",
    "{{ {'a': {'b': 1}} }}{{ {'a': {'b': 1}}['a']['b'] }}{{ [[1]][0][0] }}%}}}",
    "a{{ 1 }}{ {%if true%}{%endif%}{{1}}{{-1}} {{- -1}}",
    "\n\n{% if true %}\n\n{% endif %}\n\n",
    "a\n\t {% if true %} \n b{% endif %}\t\n {#x#} \n c",
]


def compiled(source):
    template = chat_template_utils._cached_compile_jinja_template(source)
    template.globals["strftime_now"] = NOW.strftime
    return template


def rendered(source, **variables):
    try:
        return compiled(source).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, ZeroDivisionError, OverflowError, ValueError):
        return None


def as_template_takes(messages, name):
    messages = copy.deepcopy(messages)
    for item in messages:
        if "tool_calls" in item and name == "deepseek-r1":
            item["content"] = None
            for one in item["tool_calls"]:
                one["function"]["arguments"] = json.dumps(one["function"]["arguments"], ensure_ascii=False)
    return messages


def prompts():
    cases = []
    for path in sorted(glob.glob(os.path.join(HERE, "templates", "*.jinja"))):
        name = os.path.basename(path)[:-len(".jinja")]
        with open(path, encoding="utf-8", newline="") as file:
            source = file.read()
        for i, chat in enumerate(CONVERSATIONS):
            if chat.get("tools") and not TAKES_TOOLS & {name}:
                continue
            if any(m["role"] == "tool" for m in chat["messages"]) and "'tool'" not in source.replace('"', "'"):
                continue
            text = rendered(source, messages=as_template_takes(chat["messages"], name),
                            tools=chat.get("tools"), documents=None, bos_token="<s>", eos_token="</s>",
                            add_generation_prompt=chat.get("add_generation_prompt", True), **chat.get("kwargs", {}))
            cases.append({"template": name, "conversation": i, "text": text})
    return {"conversations": CONVERSATIONS, "cases": cases}


def write(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=0)
        file.write("\n")


def main():
    all_prompts = prompts()
    write("prompts.json", all_prompts)
    snippets = [{"source": source, "text": rendered(source, **VARIABLES)} for source in SNIPPETS + BLOCKS]
    write("snippets.json", {"variables": VARIABLES, "snippets": snippets})
    print(len(all_prompts["cases"]), "prompts,", sum(c["text"] is None for c in all_prompts["cases"]), "refused;",
          len(snippets), "snippets,", sum(s["text"] is None for s in snippets), "refused")


if __name__ == "__main__":
    main()
