"""The gateway as it is measured: its configuration, its start, and the bodies it is asked with.

scripts/instructions.py counts instructions with it, scripts/bench.py time and memory.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ADMIN_KEY = "measured-admin-key"
# Limits that are looked at and never reached.
LIMITS = ("requests_per_minute=100000000", "tokens_per_minute=100000000000", "usd_per_day=1000000")

# Keys, journal and metrics are always on. `everything` also ranks, arms hedging and looks into a cache.
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
worker_threads = {threads}
[auth]
mode = "keys"
[store]
url = "sqlite:{folder}/tidegate.db"
snapshot = ""
[journal]
flush_interval = "{flush}"
[telemetry]
log = "warn"

[providers.mock]
dialect = "openai-chat"
base_url = "http://127.0.0.1:{mock}/v1"
auth = "none"
credentials = [{{ none = true }}]
models = [{{ id = "mock", context_tokens = 1_000_000, usd_per_million = {{ input = "1", output = "4" }} }}]
[providers.second]
dialect = "openai-chat"
base_url = "http://localhost:{mock}/v1"
auth = "none"
credentials = [{{ none = true }}]
models = [{{ id = "mock", context_tokens = 1_000_000, usd_per_million = {{ input = "1", output = "4" }} }}]
[providers.claude]
dialect = "anthropic"
base_url = "http://127.0.0.1:{mock}/v1"
auth = "none"
credentials = [{{ none = true }}]
models = [{{ id = "mock", context_tokens = 1_000_000, usd_per_million = {{ input = "1", output = "4" }} }}]
[providers.google]
dialect = "gemini"
base_url = "http://127.0.0.1:{mock}/v1"
auth = "none"
credentials = [{{ none = true }}]
models = [{{ id = "mock", context_tokens = 1_000_000, usd_per_million = {{ input = "1", output = "4" }} }}]

[routes.everything]
targets = [{{ model = "mock/mock" }}, {{ model = "second/mock" }}]
hedge = {{ enabled = true, max_extra_requests = "{hedges}" }}
cache = {{ exact = true, max_temperature = 2.0 }}
[routes.kept]
targets = [{{ model = "mock/mock" }}]
cache = {{ exact = true, max_temperature = 2.0 }}
"""

LONG = "the tide comes in and goes out " * 3_300


def chat(model, text="When does the tide come in?", **more):
    """Makes the body of request number n. No two are alike."""
    def body(number):
        messages = [{"role": "system", "content": "You are a pilot."}, {"role": "user", "content": f"{number}: {text}"}]
        return json.dumps({"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256, **more}).encode()
    return body


def prompted(text=None, **more):
    """Makes the body of request number n to the route that has everything on, with a prompt of the registry.

    A text goes on where the prompt ends.
    """
    def body(number):
        variables = {"company": "Acme", "message": f"Where is my order {number}?", "facts": ["It left on Monday."]}
        prompt = {"id": "support-reply", "variables": variables}
        messages = {"messages": [{"role": "user", "content": text}]} if text else {}
        return json.dumps({"model": "everything", "prompt": prompt, **messages, "max_tokens": 256, **more}).encode()
    return body


def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Gateway:
    """The program, started on a free port with a store of its own in `folder`; `mock` is the provider's port."""

    # The program's own defaults: how often the journal is written, and how many requests may be raced.
    flush, hedges = "250ms", "5%"

    def __init__(self, binary, folder, mock, threads=0, under=(), spawn=subprocess.Popen):
        self.port = free_port()
        shutil.copytree(os.path.join(ROOT, "prompts"), f"{folder}/prompts", ignore=shutil.ignore_patterns("cases"))
        config = f"{folder}/tidegate.toml"
        with open(config, "w") as file:
            given = {"port": self.port, "folder": folder, "mock": mock, "threads": threads}
            file.write(CONFIG.format(flush=self.flush, hedges=self.hedges, **given))
        self.folder, self.binary = folder, binary
        self.environment = {**os.environ, "TIDEGATE_ADMIN_KEY": ADMIN_KEY, "TIDEGATE_URL": f"http://127.0.0.1:{self.port}"}
        output = open(f"{folder}/output", "w")
        command = [*under, binary, "serve", "--config", config]
        self.process = spawn(command, stdout=output, stderr=output, env=self.environment)
        deadline = time.monotonic() + 180
        while " on http://" not in open(output.name).read():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit("the gateway did not start:\n" + open(output.name).read())
            time.sleep(0.1)

    def command(self, *arguments):
        """Runs a command of the program's own against it, again for a minute where its store is not ready yet."""
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run([self.binary, *arguments, "--json"], env=self.environment, capture_output=True, text=True)
            if "cannot wait for a connection" not in done.stdout + done.stderr or time.monotonic() > deadline:
                break
            time.sleep(1)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def prepare(self, is_limited=True):
        """Makes a key, which is returned, and begins a rollout that is in its canary."""
        flags = [part for limit in LIMITS for part in ("--limit", limit)] if is_limited else []
        key = self.command("keys", "create", "measured", *flags)["key"]
        self.command("rollout", "start", "--prompt", "support-reply", "--from", "1.0.0", "--to", "1.1.0", "--percent", "5")
        return key

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
