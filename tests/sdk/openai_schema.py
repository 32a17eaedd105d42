"""Replies against the schemas of OpenAI's own document, whose path SPEC holds."""

import json
import os
import urllib.error
import urllib.request

import jsonschema
import referencing
import referencing.jsonschema
import yaml

from cases import DIALECTS, GATEWAY, PATIENCE, WEATHER, case, run, say

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]


def with_null(schema):
    """The schema with OpenAPI 3.0's `nullable` in words that JSON Schema knows."""
    if isinstance(schema, list):
        return [with_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: with_null(value) for key, value in schema.items()}
    if schema.pop("nullable", False) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def load():
    with open(os.environ["SPEC"]) as file:
        document = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    schemas = {"components": {"schemas": with_null(document["components"]["schemas"])}}
    resource = referencing.Resource(schemas, referencing.jsonschema.DRAFT202012)
    return referencing.Registry().with_resource("urn:openai", resource)


REGISTRY = load()


def validator(name):
    schema = {"$ref": f"urn:openai#/components/schemas/{name}"}
    return jsonschema.Draft202012Validator(schema, registry=REGISTRY)


def check(name, value):
    """Fails with the deepest problems unless the value is as the schema wants it."""
    errors = list(validator(name).iter_errors(value))
    told = "\n".join(f"{error.json_path}: {error.message}" for error in errors)
    assert not errors, f"{name}: {told}\n{json.dumps(value)[:2000]}"
    return value


def ask(path, body=None):
    """The status and the body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(GATEWAY + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def whole(path, body=None):
    status, text = ask(path, body)
    assert status == 200, text
    return json.loads(text)


def chunks(path, body):
    """The chunks of a stream that ends as it should."""
    status, text = ask(path, {**body, "stream": True})
    assert status == 200 and text.endswith("data: [DONE]\n\n"), text
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") for frame in frames), text
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]


def wishes(model):
    """Requests that show every part of an answer."""
    yield "text", {"messages": [say("Hello", "tokens=7")]}
    yield "length", {"messages": [say("Hello", "tokens=70")], "max_tokens": 5}
    yield "call", {"messages": [say("Weather", "call=get_weather")], "tools": TOOLS}
    yield "thinking", {"messages": [say("Hello", "tokens=7")], "reasoning_effort": "low"}
    if "anthropic" not in model:
        yield "logprobs", {
            "messages": [say("Hello", "tokens=7")], "logprobs": True, "top_logprobs": 2, "n": 2,
        }


@case
def completions_are_as_documented():
    for model in DIALECTS:
        for _, wish in wishes(model):
            value = whole("/v1/chat/completions", {"model": model, **wish})
            check("CreateChatCompletionResponse", value)


@case
def streamed_completions_are_as_documented():
    for model in DIALECTS:
        for name, wish in wishes(model):
            wish = {**wish, "stream_options": {"include_usage": True}}
            told = chunks("/v1/chat/completions", {"model": model, **wish})
            assert len(told) > 1 and told[-1]["usage"], (model, name, told)
            for chunk in told:
                check("CreateChatCompletionStreamResponse", chunk)


@case
def legacy_completions_are_as_documented():
    for model in ["sim/tide-instruct", "sim/tide-large"]:
        wish = {"model": model, "prompt": say("Once", "tokens=7")["content"]}
        check("CreateCompletionResponse", whole("/v1/completions", wish))
        told = chunks("/v1/completions", wish)
        assert [c["choices"][0]["finish_reason"] for c in told] == [None] * (len(told) - 1) + ["stop"]
        for chunk in told:
            # The document forgets that a reason comes at the end only; the provider does not.
            chunk["choices"][0]["finish_reason"] = "stop"
            check("CreateCompletionResponse", chunk)


@case
def embeddings_are_as_documented():
    wish = {"model": "sim/tide-embed", "input": ["low tide", "high tide"]}
    check("CreateEmbeddingResponse", whole("/v1/embeddings", wish))


@case
def models_are_as_documented():
    models = check("ListModelsResponse", whole("/v1/models"))
    assert models["data"], models
    check("Model", whole("/v1/models/sim/tide-large"))


@case
def errors_are_as_documented():
    hello = [say("Hello")]
    for path, wish in [
        ("/v1/chat/completions", {"model": "sim/nothing", "messages": hello}),
        ("/v1/chat/completions", {"model": "sim/tide-large", "messages": 7}),
        ("/v1/chat/completions", {"model": "sim/tide-large", "messages": [say("", "status=429")]}),
        ("/v1/chat/completions", {"model": "sim-gemini/tide-large",
                                  "messages": [say("", "status=500")]}),
        ("/v1/embeddings", {"model": "sim/tide-embed"}),
        ("/v1/nothing", {}),
    ]:
        status, text = ask(path, wish)
        assert status >= 400, (path, wish, text)
        check("ErrorResponse", json.loads(text))


@case
def what_is_wrong_is_found():
    value = whole("/v1/chat/completions", {"model": DIALECTS[0], "messages": [say("Hello")]})
    for spoil in [
        lambda value: value.pop("choices"),
        lambda value: value.update(object="completion"),
        lambda value: value["choices"][0].update(finish_reason="eos"),
        lambda value: value["usage"].update(total_tokens="7"),
    ]:
        spoiled = json.loads(json.dumps(value))
        spoil(spoiled)
        assert list(validator("CreateChatCompletionResponse").iter_errors(spoiled)), spoiled


run()
