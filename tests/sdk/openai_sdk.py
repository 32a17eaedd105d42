"""OpenAI's SDK for Python, unmodified, against a gateway."""

import json
import urllib.request
import uuid

import openai
from pydantic import BaseModel

from cases import (
    DIALECTS, GATEWAY, KEY, KEYED, SIM, WEATHER, case, check_weather, leave, raises, run, say,
)

client = openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key="unused", max_retries=0)
keyed = openai.OpenAI(base_url=f"{KEYED}/v1", api_key=KEY, max_retries=0)
chat = client.chat.completions

TOOLS = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": WEATHER}}
    for name, about in [("get_weather", "Weather of a city"), ("get_tides", "Tides of a city")]
]


@case
def a_completion_is_whole():
    for model in DIALECTS:
        answer = chat.create(model=model, messages=[say("Hello", "tokens=12")])
        [choice] = answer.choices
        assert answer.object == "chat.completion" and choice.finish_reason == "stop", answer
        assert choice.message.role == "assistant" and len(choice.message.content) > 20, answer
        usage = answer.usage
        assert usage.completion_tokens == 12, usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


@case
def a_completion_streams():
    for model in DIALECTS:
        chunks = list(chat.create(model=model, messages=[say("Hello", "tokens=12")], stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert len(text) > 20, chunks
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop", chunks
        assert len({c.id for c in chunks}) == 1, "one id"
        assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) == 12, chunks


@case
def a_stream_says_what_was_used_only_when_asked():
    for model in DIALECTS:
        ask = {"model": model, "messages": [say("Hello", "tokens=9")], "stream": True}
        for wish in ({}, {"stream_options": {"include_usage": False}}):
            chunks = list(chat.create(**ask, **wish))
            assert all(c.usage is None for c in chunks) and all(c.choices for c in chunks), chunks
        chunks = list(chat.create(**ask, stream_options={"include_usage": True}))
        assert [bool(c.usage) for c in chunks] == [False] * (len(chunks) - 1) + [True], chunks
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 9, chunks[-1]


@case
def instructions_and_former_turns_are_taken():
    for model in DIALECTS:
        answer = chat.create(
            model=model,
            messages=[
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": "Hello."},
                say("And now?", "tokens=5"),
            ],
            temperature=0.5, top_p=0.9, max_completion_tokens=100, stop=["never said"],
        )
        assert answer.choices[0].finish_reason == "stop", answer
        assert answer.usage.prompt_tokens > 5, answer


@case
def a_token_limit_ends_with_length():
    for model in DIALECTS:
        answer = chat.create(model=model, messages=[say("Hi", "tokens=50")], max_tokens=7)
        assert answer.choices[0].finish_reason == "length", answer
        assert answer.usage.completion_tokens == 7, answer


@case
def a_tool_is_called_and_its_result_answered():
    for model in DIALECTS:
        messages = [say("How is the weather in Oslo?")]
        forced = {"type": "function", "function": {"name": "get_weather"}}
        answer = chat.create(model=model, messages=messages, tools=TOOLS, tool_choice=forced)
        [choice] = answer.choices
        [call] = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls", answer
        assert call.type == "function" and call.function.name == "get_weather" and call.id, call
        check_weather(json.loads(call.function.arguments))

        messages.append(choice.message)
        result = {"role": "tool", "tool_call_id": call.id, "content": "11 degrees and rain"}
        messages.append(result)
        answer = chat.create(model=model, messages=messages, tools=TOOLS)
        assert answer.choices[0].finish_reason == "stop", answer
        assert "11 degrees and rain" in answer.choices[0].message.content, answer


@case
def tools_are_called_in_parallel():
    for model in DIALECTS:
        messages = [say("Both", "call=get_weather", "call=get_tides")]
        answer = chat.create(model=model, messages=messages, tools=TOOLS)
        calls = answer.choices[0].message.tool_calls
        assert [c.function.name for c in calls] == ["get_weather", "get_tides"], calls
        assert answer.choices[0].finish_reason == "tool_calls", answer
        assert len({c.id for c in calls}) == 2, calls
        messages.append(answer.choices[0].message)
        for call in calls:
            check_weather(json.loads(call.function.arguments))
            result = {"role": "tool", "tool_call_id": call.id, "content": f"of {call.id}"}
            messages.append(result)
        answer = chat.create(model=model, messages=messages, tools=TOOLS)
        assert answer.choices[0].message.content.count("of ") >= 2, answer



@case
def tools_are_called_one_at_a_time_where_that_can_be_said():
    ask = {"messages": [say("Both", "call=get_weather", "call=get_tides")], "tools": TOOLS}
    for model in DIALECTS[:2]:
        answer = chat.create(model=model, parallel_tool_calls=False, **ask)
        assert len(answer.choices[0].message.tool_calls) == 1, answer
    error = raises(
        openai.BadRequestError,
        lambda: chat.create(model=DIALECTS[2], parallel_tool_calls=False, **ask),
    )
    assert error.param == "parallel_tool_calls", error.body


@case
def streamed_tool_calls_add_up():
    for model in DIALECTS:
        messages = [say("Both", "call=get_weather", "call=get_tides")]
        calls, finish = {}, None
        for chunk in chat.create(model=model, messages=messages, tools=TOOLS, stream=True):
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                for delta in choice.delta.tool_calls or []:
                    call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
                    call["id"] += delta.id or ""
                    call["name"] += delta.function.name or ""
                    call["arguments"] += delta.function.arguments or ""
        assert finish == "tool_calls", finish
        assert sorted(calls) == [0, 1] and calls[0]["id"] != calls[1]["id"], calls
        assert [calls[i]["name"] for i in (0, 1)] == ["get_weather", "get_tides"], calls
        for call in calls.values():
            check_weather(json.loads(call["arguments"]))


@case
def the_streaming_helper_accumulates():
    for model in DIALECTS:
        messages = [say("Both", "call=get_weather")]
        with chat.stream(model=model, messages=messages, tools=TOOLS) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert "tool_calls.function.arguments.delta" in kinds, kinds
        [call] = final.choices[0].message.tool_calls
        check_weather(json.loads(call.function.arguments))


class Harbour(BaseModel):
    name: str
    depth_m: float
    berths: list[int]
    open: bool


@case
def an_answer_follows_a_schema():
    for model in DIALECTS:
        answer = chat.parse(model=model, messages=[say("Kiel")], response_format=Harbour)
        assert isinstance(answer.choices[0].message.parsed, Harbour), answer
        with chat.stream(model=model, messages=[say("Kiel")], response_format=Harbour) as stream:
            stream.until_done()
            assert isinstance(stream.get_final_completion().choices[0].message.parsed, Harbour)


@case
def an_answer_is_json():
    for model in ["sim/tide-large", "sim-gemini/tide-large"]:
        answer = chat.create(
            model=model, messages=[say("JSON")], response_format={"type": "json_object"}
        )
        assert isinstance(json.loads(answer.choices[0].message.content), dict), answer


@case
def alternatives_are_told_apart():
    for model in ["sim/tide-large", "sim-gemini/tide-large"]:
        ask = {"model": model, "messages": [say("Hi", "tokens=6")], "n": 2}
        answer = chat.create(**ask)
        assert [c.index for c in answer.choices] == [0, 1], answer
        assert all(c.message.content and c.finish_reason == "stop" for c in answer.choices), answer
        texts, ends = {0: "", 1: ""}, set()
        for chunk in chat.create(**ask, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    ends.add(choice.index)
        assert all(texts.values()) and ends == {0, 1}, (texts, ends)


@case
def log_probabilities_stand_beside_tokens():
    for model in ["sim/tide-large", "sim-gemini/tide-large"]:
        ask = {"model": model, "messages": [say("Hi", "tokens=6")]}
        answer = chat.create(**ask, logprobs=True, top_logprobs=3)
        tokens = answer.choices[0].logprobs.content
        assert "".join(t.token for t in tokens) == answer.choices[0].message.content, answer
        assert all(t.logprob <= 0 and len(t.top_logprobs) == 3 for t in tokens), tokens
        streamed = chat.create(**ask, logprobs=True, stream=True)
        count = sum(
            len(c.logprobs.content) for k in streamed for c in k.choices if c.logprobs
        )
        assert count == 6, count


@case
def thinking_is_shown_and_counted():
    answer = chat.create(model="sim/tide-reasoner", messages=[say("Hi", "tokens=4")])
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0, answer
    for model in ["sim-anthropic/tide-large", "sim-gemini/tide-large"]:
        answer = chat.create(
            model=model, messages=[say("Hi", "tokens=4")], reasoning_effort="low"
        )
        assert answer.usage.completion_tokens_details.reasoning_tokens > 0, answer
        assert answer.choices[0].message.reasoning_content, answer


@case
def thinking_models_take_their_state_back_in_a_tool_loop():
    # The simulator refuses a turn whose thinking comes back unsigned or changed.
    for model in DIALECTS[1:]:
        messages = [say("Weather", "call=get_weather")]
        ask = {"model": model, "tools": TOOLS, "reasoning_effort": "low"}
        answer = chat.create(messages=messages, **ask)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        call = message.tool_calls[0]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
        assert "rain" in chat.create(messages=messages, **ask).choices[0].message.content


@case
def images_are_carried():
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
        "DwAChwGA60e6kgAAAABJRU5ErkJggg=="
    )
    for model in DIALECTS:
        parts = [
            {"type": "text", "text": say("What is this?", "tokens=5")["content"]},
            {"type": "image_url", "image_url": {"url": pixel}},
        ]
        answer = chat.create(model=model, messages=[{"role": "user", "content": parts}])
        assert answer.choices[0].message.content, answer


@case
def embeddings_come_in_both_encodings():
    texts = ["low tide", "high tide"]
    # Without an encoding the SDK asks for base64 and decodes it.
    packed = client.embeddings.create(model="sim/tide-embed", input=texts)
    plain = client.embeddings.create(
        model="sim/tide-embed", input=texts, encoding_format="float"
    )
    assert [e.index for e in packed.data] == [0, 1], packed
    for one, other in zip(packed.data, plain.data):
        assert len(one.embedding) == len(other.embedding) > 100
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding))
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0, packed.usage


@case
def legacy_completions_work():
    for model in ["sim/tide-instruct", *DIALECTS]:
        prompt = say("Once upon", "tokens=6")["content"]
        answer = client.completions.create(model=model, prompt=prompt, max_tokens=20)
        assert answer.object == "text_completion" and answer.choices[0].text, answer
        assert answer.choices[0].finish_reason == "stop", answer
        chunks = list(client.completions.create(model=model, prompt=prompt, stream=True))
        assert "".join(c.choices[0].text for c in chunks if c.choices), chunks
        assert [c for c in chunks if c.choices][-1].choices[0].finish_reason == "stop", chunks


@case
def models_are_listed_and_retrieved():
    ids = [model.id for model in client.models.list()]
    assert set(DIALECTS) <= set(ids), ids
    assert client.models.retrieve("sim/tide-large").id == "sim/tide-large"
    raises(openai.NotFoundError, lambda: client.models.retrieve("sim/tide-enormous"))


@case
def headers_say_who_served():
    raw = chat.with_raw_response.create(model="sim/tide-small", messages=[say("Hi", "tokens=3")])
    assert raw.headers["x-tidegate-served-by"] == "sim/tide-small", raw.headers
    assert raw.headers["x-request-id"] == raw.parse()._request_id, raw.headers
    assert float(raw.headers["x-tidegate-cost-usd"]) > 0, raw.headers


# === Errors ===


@case
def a_wrong_type_is_a_bad_request_with_its_path():
    bad = [{"role": "user", "content": 7}]
    for model in DIALECTS:
        error = raises(openai.BadRequestError, lambda: chat.create(model=model, messages=bad))
        assert error.type == "invalid_request_error", error.body
        assert error.param and error.param.startswith("messages"), error.body
    error = raises(
        openai.BadRequestError,
        lambda: chat.create(model=DIALECTS[1], messages=[say("Hi")], temperature="hot"),
    )
    assert error.param == "temperature", error.body


@case
def an_unknown_model_is_not_found_with_near_names():
    error = raises(
        openai.NotFoundError, lambda: chat.create(model="sim/tide-smal", messages=[say("Hi")])
    )
    assert error.code == "model_not_found" and "sim/tide-small" in error.message, error.body


@case
def a_missing_or_wrong_key_is_an_authentication_error():
    answer = keyed.chat.completions.create(model="tide-small", messages=[say("Hi", "tokens=3")])
    assert answer.choices[0].message.content, answer
    for key in ["tg-wrong", "sk-nothing-of-ours"]:
        other = keyed.with_options(api_key=key).chat.completions
        error = raises(
            openai.AuthenticationError,
            lambda: other.create(model="tide-small", messages=[say("Hi")]),
        )
        assert error.status_code == 401 and key not in str(error), error


@case
def a_body_over_the_limit_is_refused_with_413():
    error = raises(
        openai.APIStatusError,
        lambda: keyed.chat.completions.create(model="tide-small", messages=[say("x" * 100_000)]),
    )
    assert error.status_code == 413, error


@case
def a_providers_fault_is_an_internal_server_error():
    for model in DIALECTS:
        for status in (500, 503):
            messages = [say("Hi", f"status={status}")]
            error = raises(
                openai.InternalServerError, lambda: chat.create(model=model, messages=messages)
            )
            assert error.status_code >= 500 and error.message, error
        for fault in ("html_502", "connect_refused"):
            messages = [say("Hi", fault)]
            raises(openai.InternalServerError, lambda: chat.create(model=model, messages=messages))


@case
def the_sdk_tries_again_and_succeeds():
    patient = client.with_options(max_retries=2).chat.completions
    messages = [say("Try again: Python", "first=1", "status=503", "retry_after=0s")]
    answer = patient.create(model="far/tide-small", messages=messages)
    assert answer.choices[0].message.content, answer


def counted(act):
    """What `act` gives, and how many requests the simulated provider got for it."""
    counts = lambda: json.load(urllib.request.urlopen(f"{SIM}/sim/stats"))["requests"]
    before = counts()
    return act(), counts() - before


@case
def a_retry_with_an_idempotency_key_is_not_paid_for_twice():
    # Each try is given up long before the answer is there. The gateway goes on with the first, and
    # the others join it.
    hasty = client.with_options(timeout=0.5, max_retries=8).chat.completions
    for stream in (False, True):
        def ask(key=f"stainless-python-retry-{uuid.uuid4()}"):
            answer = hasty.create(
                model="far/tide-small",
                messages=[say("Hello", "ttft=1500ms", "tokens=12")],
                stream=stream,
                extra_headers={"Idempotency-Key": key},
            )
            if stream:
                return "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
            return answer.choices[0].message.content

        text, requests = counted(ask)
        assert len(text) > 20 and requests == 1, (text, requests)
        again, requests = counted(ask)
        assert again == text and requests == 0, (again, requests)


@case
def a_clients_own_key_is_sent_with_every_try():
    # How the SDK sends a key by itself, where it is told the header's name.
    own = client.with_options(timeout=0.5, max_retries=8)
    own._idempotency_header = "Idempotency-Key"
    ask = lambda: own.chat.completions.create(
        model="far/tide-small", messages=[say("Hi", "ttft=1200ms", "tokens=9")]
    )
    answer, requests = counted(ask)
    assert answer.usage.completion_tokens == 9 and requests == 1, (answer, requests)
    # Another call has another key.
    other, requests = counted(ask)
    assert requests == 1 and other._request_id != answer._request_id, (other, requests)


@case
def the_same_key_for_something_else_is_an_error():
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    chat.create(model="sim/tide-small", messages=[say("One")], extra_headers=headers)
    error = raises(
        openai.UnprocessableEntityError,
        lambda: chat.create(model="sim/tide-small", messages=[say("Two")], extra_headers=headers),
    )
    assert error.code == "idempotency_key_reused", error.body


@case
def a_stream_that_breaks_raises():
    for model in DIALECTS:
        for fault in ("cut_after=4", "cut_in_frame=4", "reset_after=4", "error_event=4",
                      "no_terminal"):
            stream = chat.create(
                model=model, messages=[say("Hi", "tokens=9", fault)], stream=True
            )
            seen = []
            read = lambda: [seen.append(chunk) for chunk in stream]
            error = raises(openai.APIError, read)
            assert error.message, (model, fault)
            assert len(seen) >= 4, (model, fault, seen)


@case
def a_caller_that_leaves_ends_the_providers_work():
    def begin(model):
        messages = [{"role": "user", "content": "[[sim:ttft=0ms,gap=20ms,tokens=900]]"}]
        stream = chat.create(model=model, messages=messages, stream=True)
        for _ in range(3):
            next(stream)
        return stream.response.headers["x-request-id"], stream.close

    leave(begin)


# Last: from here on the gateway leaves these providers alone, as they ask.
@case
def a_rate_limit_says_when_to_come_back():
    for model in DIALECTS:
        messages = [say("Hi", "status=429", "retry_after=7s")]
        error = raises(
            openai.RateLimitError, lambda: chat.create(model=model, messages=messages)
        )
        assert 6 <= float(error.response.headers["retry-after"]) <= 7, error.response.headers
        streamed = lambda: list(chat.create(model=model, messages=messages, stream=True))
        raises(openai.RateLimitError, streamed)


run()
