"""Anthropic's SDK for Python, unmodified, against a gateway."""

import anthropic
from pydantic import BaseModel

from cases import (
    DIALECTS, GATEWAY, KEY, KEYED, WEATHER, case, check_weather, leave, raises, run, say,
)

client = anthropic.Anthropic(base_url=GATEWAY, api_key="unused", max_retries=0)
keyed = anthropic.Anthropic(base_url=KEYED, api_key=KEY, max_retries=0)
messages = client.messages

TOOLS = [
    {"name": "get_weather", "description": "Weather of a city", "input_schema": WEATHER},
    {"name": "get_tides", "description": "Tides of a city", "input_schema": WEATHER},
]

THINKING = {"type": "enabled", "budget_tokens": 1024}


def ask(model, *said, **options):
    return {"model": model, "max_tokens": 2048, "messages": list(said), **options}


@case
def a_message_is_whole():
    for model in DIALECTS:
        answer = messages.create(**ask(model, say("Hello", "tokens=12")))
        [block] = answer.content
        assert answer.type == "message" and answer.role == "assistant", answer
        assert block.type == "text" and len(block.text) > 20, answer
        assert answer.stop_reason == "end_turn" and answer.stop_sequence is None, answer
        assert answer.usage.output_tokens == 12 and answer.usage.input_tokens > 0, answer


@case
def a_message_streams():
    for model in DIALECTS:
        events = list(messages.create(**ask(model, say("Hello", "tokens=12")), stream=True))
        kinds = [event.type for event in events if event.type != "ping"]
        assert kinds[:2] == ["message_start", "content_block_start"], kinds
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
        assert set(kinds[2:-3]) == {"content_block_delta"} and len(kinds) == 5 + 12, kinds
        end = [event for event in events if event.type == "message_delta"][0]
        assert end.delta.stop_reason == "end_turn" and end.usage.output_tokens == 12, end


@case
def the_streaming_helper_accumulates():
    for model in DIALECTS:
        with messages.stream(**ask(model, say("Hello", "tokens=12"))) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert final.content[0].text == text and len(text) > 20, final
        assert final.stop_reason == "end_turn" and final.usage.output_tokens == 12, final


@case
def instructions_and_former_turns_are_taken():
    for model in DIALECTS:
        turns = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
            say("And now?", "tokens=5"),
        ]
        system = [{"type": "text", "text": "You are brief."}]
        answer = messages.create(**ask(
            model, *turns, system=system, stop_sequences=["never said"], extra_body={"temperature": 0.5},
        ))
        assert answer.stop_reason == "end_turn" and answer.usage.input_tokens > 5, answer


@case
def a_token_limit_ends_with_max_tokens():
    for model in DIALECTS:
        answer = messages.create(**{**ask(model, say("Hi", "tokens=50")), "max_tokens": 7})
        assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 7, answer


@case
def a_tool_is_called_and_its_result_answered():
    for model in DIALECTS:
        turns = [say("How is the weather in Oslo?")]
        choice = {"type": "tool", "name": "get_weather"}
        answer = messages.create(**ask(model, *turns, tools=TOOLS, tool_choice=choice))
        call = answer.content[-1]
        assert answer.stop_reason == "tool_use", answer
        assert call.type == "tool_use" and call.name == "get_weather" and call.id, call
        check_weather(call.input)
        turns.append({"role": "assistant", "content": answer.content})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "11 degrees and rain"}
        turns.append({"role": "user", "content": [result]})
        answer = messages.create(**ask(model, *turns, tools=TOOLS))
        assert answer.stop_reason == "end_turn", answer
        assert "11 degrees and rain" in answer.content[-1].text, answer


@case
def tools_are_called_in_parallel_and_streamed_calls_add_up():
    for model in DIALECTS:
        turn = say("Both", "call=get_weather", "call=get_tides")
        whole = messages.create(**ask(model, turn, tools=TOOLS))
        with messages.stream(**ask(model, turn, tools=TOOLS)) as stream:
            streamed = stream.get_final_message()
        for answer in (whole, streamed):
            calls = [block for block in answer.content if block.type == "tool_use"]
            assert [call.name for call in calls] == ["get_weather", "get_tides"], answer
            assert calls[0].id != calls[1].id and answer.stop_reason == "tool_use", answer
            for call in calls:
                check_weather(call.input)
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": f"of {call.id}"}
                for call in calls
            ]
            turns = [
                turn,
                {"role": "assistant", "content": answer.content},
                {"role": "user", "content": results},
            ]
            final = messages.create(**ask(model, *turns, tools=TOOLS))
            assert final.content[-1].text.count("of ") >= 2, final


class Harbour(BaseModel):
    name: str
    berths: list[int]
    open: bool


@case
def an_answer_follows_a_schema():
    for model in DIALECTS:
        answer = messages.parse(**ask(model, say("Kiel")), output_format=Harbour)
        assert isinstance(answer.parsed_output, Harbour), answer


@case
def thinking_goes_round_signed_in_a_tool_loop():
    # The simulator refuses a turn whose thinking comes back unsigned or changed.
    for model in DIALECTS[1:]:
        for stream in (False, True):
            turns = [say("Weather", "call=get_weather")]
            options = {"tools": TOOLS, "thinking": THINKING}
            if stream:
                with messages.stream(**ask(model, *turns, **options)) as streamed:
                    answer = streamed.get_final_message()
            else:
                answer = messages.create(**ask(model, *turns, **options))
            thought, call = answer.content[0], answer.content[-1]
            assert thought.type == "thinking" and thought.thinking, answer
            assert call.type == "tool_use", answer
            turns.append({"role": "assistant", "content": answer.content})
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
            turns.append({"role": "user", "content": [result]})
            answer = messages.create(**ask(model, *turns, **options))
            assert "rain" in answer.content[-1].text, answer


@case
def a_thinking_model_of_openai_shows_its_thinking():
    answer = messages.create(**ask("sim/tide-reasoner", say("Hi", "tokens=4")))
    assert [block.type for block in answer.content] == ["thinking", "text"], answer
    with messages.stream(**ask("sim/tide-reasoner", say("Hi", "tokens=4"))) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert "thinking" in kinds and final.content[0].thinking, final


@case
def images_are_carried():
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E"
        "rkJggg=="
    )
    source = {"type": "base64", "media_type": "image/png", "data": pixel}
    for model in DIALECTS:
        text = say("What is this?", "tokens=5")["content"]
        parts = [{"type": "image", "source": source}, {"type": "text", "text": text}]
        answer = messages.create(**ask(model, {"role": "user", "content": parts}))
        assert answer.content[0].text, answer


@case
def tokens_are_counted():
    turn = {"role": "user", "content": "How many tokens are these?"}
    for model in DIALECTS:
        count = messages.count_tokens(model=model, messages=[turn])
        longer = messages.count_tokens(model=model, messages=[turn], system="Be brief. " * 20)
        assert 0 < count.input_tokens < longer.input_tokens, (model, count, longer)


@case
def models_are_listed_and_retrieved():
    ids = [model.id for model in client.models.list()]
    assert set(DIALECTS) <= set(ids), ids
    assert client.models.retrieve("sim/tide-large").id == "sim/tide-large"


@case
def headers_say_who_served():
    raw = messages.with_raw_response.create(**ask("sim-gemini/tide-small", say("Hi", "tokens=3")))
    assert raw.headers["x-tidegate-served-by"] == "sim-gemini/tide-small", raw.headers
    assert raw.headers["request-id"] == raw.parse()._request_id, raw.headers


# === Errors ===


def body_of(error):
    assert error.body["type"] == "error" and error.body["error"]["message"], error.body
    return error.body["error"]


@case
def a_wrong_type_is_a_bad_request_with_its_path():
    for model in DIALECTS:
        bad = ask(model, {"role": "user", "content": 7})
        error = raises(anthropic.BadRequestError, lambda: messages.create(**bad))
        told = body_of(error)
        assert told["type"] == "invalid_request_error" and "messages" in told["message"], told


@case
def an_unknown_model_is_not_found_with_near_names():
    bad = ask("sim/tide-smal", say("Hi"))
    told = body_of(raises(anthropic.NotFoundError, lambda: messages.create(**bad)))
    assert told["type"] == "not_found_error" and "sim/tide-small" in told["message"], told


@case
def a_missing_or_wrong_key_is_an_authentication_error():
    hello = ask("tide-small", say("Hi", "tokens=3"))
    assert keyed.messages.create(**hello).content
    other = keyed.with_options(api_key="tg-wrong").messages
    told = body_of(raises(anthropic.AuthenticationError, lambda: other.create(**hello)))
    assert told["type"] == "authentication_error", told


@case
def a_body_over_the_limit_is_refused_with_413():
    large = ask("tide-small", say("x" * 100_000))
    try:
        keyed.messages.create(**large)
    except anthropic.APIStatusError as error:
        assert error.status_code == 413, error
        assert body_of(error)["type"] == "request_too_large", error.body
    else:
        raise AssertionError("it was taken")


@case
def a_providers_fault_is_a_server_error():
    kinds = (anthropic.InternalServerError, *(
        kind for kind in (
            getattr(anthropic, name, None)
            for name in ("OverloadedError", "ServiceUnavailableError", "DeadlineExceededError")
        ) if kind
    ))
    for model in DIALECTS:
        for fault in ("status=500", "status=503", "html_502", "connect_refused"):
            try:
                messages.create(**ask(model, say("Hi", fault)))
            except anthropic.APIStatusError as error:
                assert isinstance(error, kinds) and error.status_code >= 500, (model, fault, error)
                assert body_of(error)["type"] in ("api_error", "overloaded_error"), error.body
            else:
                raise AssertionError((model, fault))


@case
def a_stream_that_breaks_raises():
    for model in DIALECTS:
        for fault in ("cut_after=4", "cut_in_frame=4", "reset_after=4", "error_event=4",
                      "no_terminal"):
            seen = []
            try:
                for event in messages.create(
                    **ask(model, say("Hi", "tokens=9", fault)), stream=True
                ):
                    seen.append(event)
            except anthropic.APIError as error:
                assert body_of(error), (model, fault)
            else:
                raise AssertionError(f"{model} with {fault} ended in silence: {seen}")
            assert sum(e.type == "content_block_delta" for e in seen) >= 4, (model, fault, seen)
            assert all(e.type != "message_stop" for e in seen), (model, fault, seen)


@case
def a_caller_that_leaves_ends_the_providers_work():
    def begin(model):
        turn = {"role": "user", "content": "[[sim:ttft=0ms,gap=20ms,tokens=900]]"}
        stream = messages.create(**ask(model, turn), stream=True)
        for _ in range(4):
            next(stream)
        return stream.response.headers["request-id"], stream.close

    leave(begin)


# Last: from here on the gateway leaves these providers alone, as they ask.
@case
def a_rate_limit_says_when_to_come_back():
    for model in DIALECTS:
        limited = ask(model, say("Hi", "status=429", "retry_after=7s"))
        error = raises(anthropic.RateLimitError, lambda: messages.create(**limited))
        assert body_of(error)["type"] == "rate_limit_error", error.body
        assert 6 <= float(error.response.headers["retry-after"]) <= 7, error.response.headers
        raises(anthropic.RateLimitError, lambda: list(messages.create(**limited, stream=True)))


run()
