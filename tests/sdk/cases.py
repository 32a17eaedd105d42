"""Cases of the SDK tests: functions that raise when something is not as it should be.

GATEWAY     a gateway with all simulated dialects, and with providers on a simulator behind sockets
SIM         that simulator
KEYED       a gateway that wants a key and takes 64 KB at most
KEY         its key
ADMIN_KEY   the admin key of both
"""

import json
import os
import sys
import time
import traceback
import urllib.request

GATEWAY = os.environ["GATEWAY"]
SIM = os.environ["SIM"]
KEYED = os.environ["KEYED"]
KEY = os.environ["KEY"]
ADMIN_KEY = os.environ["ADMIN_KEY"]

# Seconds for what is done in milliseconds on an idle machine.
PATIENCE = 20.0

cases = []


def case(function):
    """Marks a case."""
    cases.append(function)
    return function


def run():
    """Runs all cases, says how each went, and ends the program."""
    failed = 0
    for function in cases:
        started = time.monotonic()
        try:
            function()
            outcome = "ok"
        except Exception:
            failed += 1
            outcome = "FAILED\n" + traceback.format_exc()
        took = int((time.monotonic() - started) * 1000)
        print(f"{function.__name__} ... {took} ms ... {outcome}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases passed")
    sys.exit(1 if failed else 0)


def raises(kind, act):
    """The exception of exactly this class that `act` raises."""
    try:
        result = act()
    except Exception as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} expected, but it answered {result!r}")


def say(text, *wishes):
    """A user's message that a simulated model answers at once."""
    settings = ",".join(["ttft=0ms", "gap=0ms", *wishes])
    return {"role": "user", "content": f"{text} [[sim:{settings}]]"}


def get(base, path):
    """A JSON document; of the admin API with its key."""
    request = urllib.request.Request(base + path)
    if path.startswith("/admin/"):
        request.add_header("authorization", f"Bearer {ADMIN_KEY}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
        return json.load(reply)


def wait_for(what, look):
    """The first true answer of `look`, and after how many seconds it came."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        found = look()
        if found:
            return found, time.monotonic() - started
        time.sleep(0.005)
    raise AssertionError(f"{what} did not happen within {PATIENCE} s")


# Providers on the simulator behind sockets, each with a model of its own to count.
FAR = ["far/tide-small", "far-anthropic/tide-large", "far-gemini/tide-reasoner"]


def leave(begin):
    """Begins a stream of each provider with `begin`, which reads a little and returns the request's
    id and what closes the stream. Checks that the provider hears of it and the journal says so."""
    took = [_leave(model, begin) for model in FAR]
    print("providers heard of it after", ", ".join(f"{t * 1000:.0f} ms" for t in took))
    # A tenth of a second is the promise; the rest is for a machine that runs other tests, too.
    assert min(took) < 0.1 and max(took) < 1.0, took


def _leave(model, begin):
    name = model.split("/")[1]
    counts = lambda: get(SIM, "/sim/stats")["models"].get(name, {"in_flight": 0, "cancelled": 0})
    before = counts()
    request_id, close = begin(model)
    assert counts()["in_flight"] == before["in_flight"] + 1, "the provider is still talking"
    close()
    _, took = wait_for("the cancellation", lambda: counts()["cancelled"] > before["cancelled"])
    entry, _ = wait_for("the journal's entry", lambda: journal_entry(request_id))
    assert entry["outcome"] == "client_gone", entry
    assert entry["tokens"]["output"] > 0, entry
    return took


def journal_entry(request_id):
    """What the journal says of a request, once it says it."""
    found = [e for e in get(GATEWAY, "/admin/v1/requests")["data"] if e["id"] == request_id]
    return found[0] if found else None


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}


def check_weather(arguments):
    """Whether a call of the weather tool has the arguments that its schema wants."""
    import jsonschema

    jsonschema.validate(arguments, WEATHER)
    return arguments


# The model of each simulated dialect that the gateway serves.
DIALECTS = ["sim/tide-large", "sim-anthropic/tide-large", "sim-gemini/tide-large"]
