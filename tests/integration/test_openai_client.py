"""The official openai client against a real two-rank group of the default model."""
import asyncio
import json
import math

import jsonschema
import openai
import pytest

from conftest import TINY, wait_for
from served import PATIENCE, Http

QUESTION = [{"role": "user", "content": "Name three colours of the rainbow."}]
PROMPT = "The quick brown fox"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["good", "bad"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
    },
    "required": ["name", "age", "mood", "tags"],
    "additionalProperties": False,
}


def chat(client, **options):
    options = {"model": "default", "messages": QUESTION, "max_tokens": 24, "temperature": 0, **options}
    return client.chat.completions.create(**options)


def complete(client, **options):
    options = {"model": "default", "prompt": PROMPT, "max_tokens": 24, "temperature": 0, **options}
    return client.completions.create(**options)


def gather(stream, of_chat):
    """A stream → ({index: text}, {index: finish reason}, usage)."""
    texts, reasons, usage = {}, {}, None
    for chunk in stream:
        for choice in chunk.choices:
            piece = choice.delta.content if of_chat else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (piece or "")
            if choice.finish_reason:
                assert choice.index not in reasons
                reasons[choice.index] = choice.finish_reason
        if chunk.usage:
            assert not chunk.choices, "usage comes in a chunk of its own, at the end"
            usage = chunk.usage
    return texts, reasons, usage


def test_the_model_is_listed_and_found_by_its_name(client):
    models = client.models.list().data
    assert len(models) == 1
    assert client.models.retrieve(models[0].id).id == models[0].id
    assert complete(client, model=models[0].id).choices[0].text


def test_chat_answers_in_words_and_counts_tokens(client):
    answer = chat(client)
    assert answer.object == "chat.completion"
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and len(choice.message.content.split()) > 3
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert 0 < usage.completion_tokens <= 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_streams_say_what_whole_answers_say(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    whole = chat(client)
    texts, reasons, usage = gather(chat(client, **options), of_chat=True)
    assert texts == {0: whole.choices[0].message.content}
    assert reasons == {0: whole.choices[0].finish_reason}
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens

    whole = complete(client)
    texts, reasons, usage = gather(complete(client, **options), of_chat=False)
    assert texts == {0: whole.choices[0].text}
    assert reasons == {0: whole.choices[0].finish_reason}
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_a_stream_without_include_usage_has_none_and_comes_in_pieces(client):
    chunks = list(complete(client, stream=True, extra_body={"ignore_eos": True}))
    assert all(chunk.usage is None for chunk in chunks)
    assert len(chunks) > 8, "tokens must arrive as they are made"
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_choices_differ_and_the_seed_repeats_them(client):
    options = {"n": 3, "temperature": 1.2, "seed": 11, "max_tokens": 16}
    first = complete(client, **options)
    texts = {choice.index: choice.text for choice in first.choices}
    assert sorted(texts) == [0, 1, 2] and len(set(texts.values())) > 1
    assert first.usage.completion_tokens <= 48
    assert {c.index: c.text for c in complete(client, **options).choices} == texts
    assert gather(complete(client, stream=True, **options), of_chat=False)[0] == texts
    other = complete(client, **dict(options, seed=12))
    assert {c.index: c.text for c in other.choices} != texts


def test_several_prompts_make_one_answer(client):
    prompts = ["One, two, three,", "Monday, Tuesday,"]
    together = complete(client, prompt=prompts)
    alone = [complete(client, prompt=prompt).choices[0].text for prompt in prompts]
    assert [choice.text for choice in sorted(together.choices, key=lambda c: c.index)] == alone


def test_a_prompt_of_token_ids_is_a_prompt(served, client):
    ids = served.tokenize(PROMPT)
    assert complete(client, prompt=ids).choices[0].text == complete(client).choices[0].text


def test_completions_logprobs(client):
    choice = complete(client, logprobs=2, max_tokens=8).choices[0]
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert "".join(logprobs.tokens).startswith(choice.text)
    for value, top in zip(logprobs.token_logprobs, logprobs.top_logprobs):
        assert value <= 0 and value == pytest.approx(max(top.values()), abs=1e-5), "greedy"
        assert sum(math.exp(other) for other in top.values()) <= 1 + 1e-5


def test_chat_logprobs(client):
    choice = chat(client, logprobs=True, top_logprobs=3, max_tokens=8).choices[0]
    content = choice.logprobs.content
    assert "".join(entry.token for entry in content).startswith(choice.message.content)
    for entry in content:
        top = [alternative.logprob for alternative in entry.top_logprobs]
        assert len(top) == 3 and top == sorted(top, reverse=True)
        assert entry.logprob == pytest.approx(top[0], abs=1e-5)
    streamed = chat(client, logprobs=True, top_logprobs=3, max_tokens=8, stream=True)
    pieces = [entry.logprob for chunk in streamed for c in chunk.choices if c.logprobs
              for entry in c.logprobs.content]
    assert pieces == [entry.logprob for entry in content]


def test_a_stop_string_ends_the_text_before_it(client):
    text = complete(client).choices[0].text
    stop = text[10:14]
    choice = complete(client, stop=[stop, "never said"]).choices[0]
    assert choice.text == text[:text.index(stop)]
    assert choice.finish_reason == "stop"
    texts, reasons, _ = gather(complete(client, stop=stop, stream=True), of_chat=False)
    assert texts == {0: choice.text} and reasons == {0: "stop"}


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_json_schema_gives_json_that_validates(client, temperature):
    answer = chat(client, messages=[{"role": "user", "content": "Describe a person as JSON."}],
                  temperature=temperature, seed=5, max_tokens=200,
                  response_format={"type": "json_schema",
                                   "json_schema": {"name": "person", "schema": PERSON}})
    assert answer.choices[0].finish_reason == "stop", answer.choices[0]
    jsonschema.validate(json.loads(answer.choices[0].message.content), PERSON)


def test_a_json_schema_streams_to_the_same_json(client):
    options = {"messages": [{"role": "user", "content": "Describe a person as JSON."}],
               "max_tokens": 200,
               "response_format": {"type": "json_schema",
                                   "json_schema": {"name": "person", "schema": PERSON}}}
    texts, reasons, _ = gather(chat(client, stream=True, **options), of_chat=True)
    assert reasons == {0: "stop"}
    jsonschema.validate(json.loads(texts[0]), PERSON)
    assert texts[0] == chat(client, **options).choices[0].message.content


def test_a_json_object_is_an_object(client):
    # The model may go on for long inside a string; what ended must parse.
    answer = chat(client, messages=[{"role": "user", "content": "Give me {\"a\": 1} as JSON."}],
                  response_format={"type": "json_object"}, max_tokens=300)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


def test_a_regex_and_a_choice_through_extra_body(client):
    text = complete(client, prompt="A date: ", extra_body={"guided_regex": r"\d{4}-\d{2}-\d{2}"})
    assert [len(part) for part in text.choices[0].text.split("-")] == [4, 2, 2]
    choices = ["red", "green", "blue and more"]
    text = complete(client, prompt="Colour: ", extra_body={"structured_outputs": {"choice": choices}})
    assert text.choices[0].text in choices and text.choices[0].finish_reason == "stop"


def test_a_bias_forces_and_forbids_a_token(served, client):
    [token] = served.tokenize(" cat", add_special_tokens=False)
    assert complete(client, logit_bias={token: 100}, max_tokens=5).choices[0].text == " cat" * 5
    greedy = served.tokenize(complete(client, max_tokens=1).choices[0].text,
                             add_special_tokens=False)
    forbidden = complete(client, logit_bias={greedy[0]: -100}, max_tokens=1)
    assert served.tokenize(forbidden.choices[0].text, add_special_tokens=False) != greedy


def test_penalties_change_the_text(client):
    plain = complete(client, prompt="la la la la la la la").choices[0].text
    for penalty in ({"presence_penalty": 2}, {"frequency_penalty": 2},
                    {"extra_body": {"repetition_penalty": 1.8}}):
        assert complete(client, prompt="la la la la la la la", **penalty).choices[0].text != plain


def test_unknown_fields_of_other_clients_are_taken(client):
    answer = chat(client, user="me", store=False, metadata={"a": "b"}, service_tier="auto",
                  extra_body={"some_future_field": {"x": 1}})
    assert answer.choices[0].message.content == chat(client).choices[0].message.content


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        chat(client, model="gpt-9")
    assert error.value.param == "model" and error.value.code == "model_not_found"
    assert "gpt-9" in error.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


@pytest.mark.parametrize("field,value", [
    ("temperature", 1000), ("top_p", 0), ("n", 1000000), ("presence_penalty", 3),
    ("max_tokens", 0), ("stop", [""]), ("logit_bias", {"99999999": 1}), ("seed", "one"),
    ("messages", "hello"), ("top_logprobs", 21), ("stream", 3)])
def test_a_bad_field_is_named(client, field, value):
    options = {"logprobs": True} if field == "top_logprobs" else {}
    with pytest.raises(openai.BadRequestError) as error:
        chat(client, extra_body={field: value, **options})
    assert error.value.type == "invalid_request_error"
    assert error.value.param.split("[")[0].split(".")[0] == field
    assert field in error.value.message


def test_tools_are_refused_where_the_template_knows_none(client):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with pytest.raises(openai.APIStatusError) as error:
        chat(client, tools=tools)
    assert error.value.status_code in (400, 501) and error.value.param.startswith("tools")


def test_without_the_key_nothing_is_answered(start):
    http = Http(start(TINY, 1, 1, "--port", 0, "--api-key", "sk-right"))
    ids = {"model": "default", "prompt": [1, 2, 3], "max_tokens": 2}
    for key in ("sk-wrong", "sk-righ", "sk-right2"):
        with pytest.raises(openai.AuthenticationError):
            http.openai(key).completions.create(**ids)
    assert http.post("/v1/completions", ids).status == 401
    assert http.openai("sk-right").completions.create(**ids).usage.completion_tokens == 2
    assert http.get("/health").status == 200, "health is for the load balancer, who has no key"


def test_closing_a_stream_frees_its_blocks(served, client):
    def used():
        group = served.cluster.group()
        return group.kv_blocks_total - group.kv_blocks_free

    stream = complete(client, max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    assert served.cluster.client.call("GetClusterStatus").requests_running == 1
    stream.close()
    wait_for(lambda: served.cluster.client.call("GetClusterStatus").requests_running == 0, 10)
    wait_for(lambda: used() == 0, 10, lambda: f"{used()} blocks in use")


def test_sixteen_streams_of_the_async_client(served, client):
    expected = complete(client, max_tokens=12).choices[0].text

    async def one(async_client):
        text = ""
        stream = await async_client.completions.create(
            model="default", prompt=PROMPT, max_tokens=12, temperature=0, stream=True)
        async for chunk in stream:
            text += chunk.choices[0].text
        return text

    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0,
                                      timeout=PATIENCE) as async_client:
            return await asyncio.gather(*(one(async_client) for _ in range(16)))

    assert asyncio.run(all_at_once()) == [expected] * 16
