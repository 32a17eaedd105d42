#!/usr/bin/env python3
"""Counts the instructions that the gateway needs for fixed requests, and holds them to their budgets.

Instructions, unlike time, are nearly the same on a busy machine and on another one of its kind, so a change that
makes a request dearer can fail a check. The whole program is counted, with keys, journal and metrics, optimised,
under valgrind's callgrind, while it answers requests over real sockets; its start is not.

usage: scripts/instructions.py [--write] [--binary FILE] [--profile DIR] [workload ...]

  --write      makes what was counted the new budgets, in benches/instructions.json
  --binary     the program to count, instead of building it
  --profile    keeps callgrind's output there, to be read with callgrind_annotate

Ends with 1 where a workload needs more than its budget and 5 % of it.
"""
import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from measured import LONG, ROOT, Gateway, chat, prompted

BUDGETS = os.path.join(ROOT, "benches", "instructions.json")
TOLERANCE = 0.05
STREAMED_TOKENS = 200
# Tokens in one piece of a body: about as many as a read brings when a provider is at full speed.
TOKENS_A_PIECE = 20


def chat_reply():
    """A whole answer as OpenAI gives it."""
    message = {"role": "assistant", "content": "The tide comes in twice a day. " * 4, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 42, "completion_tokens": 31, "total_tokens": 73,
             "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1760000000, "model": "mock",
            "system_fingerprint": "fp_1", "choices": [choice], "usage": usage}


def chat_stream():
    """The events of a streamed answer as OpenAI gives it."""
    def chunk(choices, **more):
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": "mock"}
        return "data: " + json.dumps({**head, "choices": choices, **more}, separators=(",", ":")) + "\n\n"

    def choice(delta, finish=None):
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    usage = {"prompt_tokens": 42, "completion_tokens": STREAMED_TOKENS, "total_tokens": 42 + STREAMED_TOKENS}
    yield chunk(choice({"role": "assistant", "content": ""}))
    for number in range(STREAMED_TOKENS):
        yield chunk(choice({"content": f" tide {number}"}))
    yield chunk(choice({}, "stop"))
    yield chunk([], usage=usage)
    yield "data: [DONE]\n\n"


def messages_stream():
    """The events of a streamed answer as Anthropic gives it."""
    def event(kind, **members):
        body = json.dumps({"type": kind, **members}, separators=(",", ":"))
        return f"event: {kind}\ndata: {body}\n\n"
    usage = {"input_tokens": 42, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "mock", "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield event("message_start", message=message)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for number in range(STREAMED_TOKENS):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": f" tide {number}"})
    yield event("content_block_stop", index=0)
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=stop, usage={"output_tokens": STREAMED_TOKENS})
    yield event("message_stop")


def streamed(events):
    """An HTTP answer whose body comes in pieces of several events."""
    events = list(events)
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [head.encode()]
    for start in range(0, len(events), TOKENS_A_PIECE):
        piece = "".join(events[start:start + TOKENS_A_PIECE]).encode()
        pieces.append(b"%x\r\n%s\r\n" % (len(piece), piece))
    return b"".join(pieces) + b"0\r\n\r\n"


def whole(value):
    body = json.dumps(value, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Provider:
    """Answers chat completions and messages, always alike, on a thread of its own."""

    def __init__(self):
        self.asked = 0
        self.replies = (whole(chat_reply()), streamed(chat_stream()), streamed(messages_stream()))
        started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve(started)), daemon=True).start()
        started.wait()

    async def serve(self, started):
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0, limit=1 << 22)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    async def connection(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                self.asked += 1
                chat, chat_streamed, messages = self.replies
                is_stream = re.search(rb'"stream": ?true', body)
                writer.write(messages if b"/messages" in head else chat_streamed if is_stream else chat)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Caller:
    """One connection to the gateway."""

    def __init__(self, port, key):
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.key = key

    def ask(self, body):
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self.key}\r\n"
                f"content-type: application/json\r\nx-tidegate-user: user-7\r\ncontent-length: {len(body)}\r\n\r\n")
        self.socket.sendall(head.encode() + body)
        status = self.file.readline()
        headers = {}
        while (line := self.file.readline().strip()):
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        answer = self.read(headers)
        if b" 200 " not in status:
            raise SystemExit(f"the gateway answered {status.decode().strip()}: {answer[:500].decode()}")
        return headers

    def read(self, headers):
        if b"content-length" in headers:
            return self.file.read(int(headers[b"content-length"]))
        answer = b""
        while size := int(self.file.readline(), 16):
            answer += self.file.read(size)
            self.file.readline()
        self.file.readline()
        return answer


# name: how many requests are counted, the body of request n, tokens of an answer (0: counted by request), what is checked
WORKLOADS = {
    "a chat completion": (1_500, chat("mock/mock"), 0),
    "a prompt of 100 KB": (300, chat("mock/mock", LONG), 0),
    "a streamed token": (300, chat("mock/mock", stream=True), STREAMED_TOKENS),
    "a token from Anthropic's wire": (300, chat("claude/mock", stream=True), STREAMED_TOKENS),
    "everything on": (1_000, prompted(), 0),
    "an answer from the cache": (1_500, lambda number: chat("kept")(0), 0),
}


class Counted(Gateway):
    """The program under callgrind, so set that the count is the same on a busy machine."""

    # Batches of the journal are as long, and requests as seldom late, wherever this runs.
    flush, hedges = "1s", "0.1%"

    def __init__(self, binary, folder, provider):
        # In a folder of their own: a new file beside the configuration makes the gateway read that again.
        self.counts = os.path.join(folder, "counts")
        os.mkdir(self.counts)
        valgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={self.counts}/count")
        super().__init__(binary, folder, provider.port, threads=1, under=valgrind)

    def count(self, ask, requests):
        """Instructions while so many requests are answered, less those that the same time takes without any."""
        def asked():
            for number in range(requests):
                ask(number)
            # What is done after an answer belongs to it: the journal writes once a second.
            time.sleep(3)
        # A slow machine takes longer, and what goes on by the clock is no part of a request.
        idle, idle_seconds, _ = self.counted(lambda: time.sleep(4))
        total, seconds, dumps = self.counted(asked)
        return total - idle * seconds / idle_seconds, dumps

    def counted(self, work):
        """Instructions and seconds of some work, and the files in which callgrind says so."""
        self.control("-z")
        began, before = time.monotonic(), set(os.listdir(self.counts))
        work()
        self.control("-d")
        seconds = time.monotonic() - began
        dumps = [f"{self.counts}/{name}" for name in set(os.listdir(self.counts)) - before]
        return sum(int(re.search(r"^(?:totals|summary): (\d+)", open(dump).read(), re.M).group(1)) for dump in dumps), seconds, dumps

    def control(self, action):
        subprocess.run(["callgrind_control", action, str(self.process.pid)], check=True, capture_output=True)


def build():
    # Without the local embedder, which takes no part in a request, and without what makes a release
    # slow to compile: what is counted is compared with itself.
    command = ["cargo", "build", "--profile", "counted", "--locked", "--no-default-features"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "counted", "tidegate")


def measure(arguments):
    """Instructions of each workload, by request or by token."""
    measured = {}
    binary = os.path.abspath(arguments.binary) if arguments.binary else build()
    with tempfile.TemporaryDirectory(prefix="tidegate-instructions-") as folder:
        provider = Provider()
        gateway = Counted(binary, folder, provider)
        try:
            key = gateway.prepare()
            for name in arguments.workloads or WORKLOADS:
                requests, body, tokens = WORKLOADS[name]
                caller = Caller(gateway.port, key)
                # Everything is warm when the counting begins: connections, code pages, learnt estimates.
                for number in range(200):
                    caller.ask(body(1_000_000 + number))
                asked = provider.asked
                total, dumps = gateway.count(lambda number: caller.ask(body(number)), requests)
                expected = 0 if "cache" in name else requests
                # A late answer may be raced; nothing else may differ from what the workload says.
                if not expected <= provider.asked - asked <= expected * 1.1:
                    raise SystemExit(f"{name}: the provider was asked {provider.asked - asked} times for {requests} requests")
                if arguments.profile:
                    os.makedirs(arguments.profile, exist_ok=True)
                    for dump in dumps:
                        shutil.copy(dump, os.path.join(arguments.profile, name.replace(" ", "-") + ".callgrind"))
                measured[name] = round(total / requests / (tokens or 1))
                print(f"{name}: {measured[name]:,}", flush=True)
        finally:
            gateway.stop()
    return measured


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--binary")
    parser.add_argument("--profile")
    parser.add_argument("workloads", nargs="*", metavar="workload")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload named {unknown[0]!r}; there are: {', '.join(WORKLOADS)}")
    budgets = json.load(open(BUDGETS)) if os.path.exists(BUDGETS) else {}
    measured = measure(arguments)
    over = False
    print(f"\n{'workload':32}{'instructions':>14}{'budget':>12}{'change':>9}")
    for name, count in measured.items():
        budget = budgets.get(name)
        change = count / budget - 1 if budget else 0
        is_over = change > TOLERANCE or not budget
        over |= is_over
        note = "  OVER" if is_over else "  below: scripts/instructions.py --write" if change < -TOLERANCE else ""
        print(f"{name:32}{count:>14,}{budget or 0:>12,}{change:>+9.1%}{note}")
    if arguments.write:
        with open(BUDGETS, "w") as file:
            json.dump({**budgets, **measured}, file, indent=2)
            file.write("\n")
        print(f"written to {os.path.relpath(BUDGETS, ROOT)}")
        return 0
    if over:
        print("More instructions than budgeted. Where they buy something: scripts/instructions.py --write, and say what.")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
