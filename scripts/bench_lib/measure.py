"""One measurement: a lane of a case, from the start of its gateway to its end."""
import http.client
import json
import os
import tempfile
import threading
import time

from bench_lib.peers import HOME, LeftOut, start
from bench_lib.processes import PeakMemory, cpu_seconds, resident_bytes, spawn, stop, wait_for

HARNESS = os.path.join(HOME, "harness", "release", "harness")
# A request may take as long, and so may the last one of a load.
REQUEST_SECONDS = 60
# Within this a gateway answers, from its start.
START_SECONDS = 90


class Mock:
    """The provider, as one case wants it."""

    def __init__(self, case):
        self.process = spawn([HARNESS, "mock", *case.mock_arguments()], stdout=-1, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("mock on "):
            raise SystemExit("the mock did not start")
        self.port = int(line.rsplit(":", 1)[1])

    def asked(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/asked")
        return int(connection.getresponse().read())

    def stop(self):
        stop(self.process)
        self.process.stdout.close()


def answers(running, body):
    """Whether a gateway answers a request."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        headers = {"content-type": "application/json"}
        if running.key:
            headers["authorization"] = f"Bearer {running.key}"
        headers |= {name: value.strip() for name, value in (header.split(":", 1) for header in running.headers)}
        connection.request("POST", running.path, body, headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status == 200
    except (OSError, http.client.HTTPException):
        return False


def load_command(case, running, body_file, times):
    command = [HARNESS, "load", f"127.0.0.1:{running.port}", "--path", running.path, "--body", body_file]
    command += [*case.load_arguments(), "--secs", str(times.secs), "--warmup", str(times.warmup(case))]
    command += ["--timeout", str(REQUEST_SECONDS)]
    if running.key:
        command += ["--key", running.key]
    for header in running.headers:
        command += ["--header", header]
    return command


def load(case, running, body_file, times):
    """Runs the load: what it says, and the processor's seconds while it counted."""
    process = spawn(load_command(case, running, body_file, times), stdout=-1, text=True)
    longest = times.warmup(case) + times.secs + REQUEST_SECONDS + 30
    # Whatever happens, it ends.
    guard = threading.Timer(longest, stop, (process, 1))
    guard.start()
    used, result = [], None
    for line in process.stdout:
        if line.startswith("{"):
            result = json.loads(line)
        elif running.process:
            used.append(cpu_seconds(running.process.pid))
    process.wait()
    process.stdout.close()
    guard.cancel()
    stop(process)
    if result is None:
        raise LeftOut("the load did not end in time")
    return result, used[1] - used[0] if len(used) == 2 else None


def measure(case, lane, mock, times):
    """A row of the results."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        # nginx's workers are somebody else where it is started by root.
        os.chmod(folder, 0o755)
        running = start(lane.peer, folder, mock.port, lane.is_everything)
        try:
            body = lane.body(running.model, case.text, case.is_stream)
            body_file = os.path.join(folder, "body.json")
            with open(body_file, "wb") as file:
                file.write(body)
            if not wait_for(lambda: answers(running, body.replace(b"<number>", b"0")), START_SECONDS, running.process):
                raise LeftOut("it did not answer", last_lines(folder))
            return row(case, lane, mock, running, body_file, times)
        finally:
            if running.process:
                stop(running.process)


def last_lines(folder):
    try:
        with open(os.path.join(folder, "output")) as file:
            return " ".join(file.read().split())[-120:]
    except OSError:
        return "no output"


def is_at_rest(pid):
    """Whether all processes of a gateway have started: some answer while others still load their programs."""
    before = cpu_seconds(pid)
    time.sleep(0.5)
    return cpu_seconds(pid) - before < 0.05


def row(case, lane, mock, running, body_file, times):
    asked, pid = mock.asked(), running.process.pid if running.process else None
    time.sleep(times.idle)
    memory = {}
    if pid:
        wait_for(lambda: is_at_rest(pid), START_SECONDS)
        idle = resident_bytes(pid)
        with PeakMemory(pid) as peak:
            result, cpu = load(case, running, body_file, times)
        memory = {"idle": idle, "peak": peak.bytes}
        if case.settles:
            time.sleep(times.settle)
            memory["after"] = resident_bytes(pid)
    else:
        result, cpu = load(case, running, body_file, times)
    count = result["requests"] if case.unit == "request" else result["tokens"]
    return {
        "case": case.name,
        "lane": lane.name,
        "unit": case.unit,
        "connections": case.connections,
        # Microseconds of user and system time.
        "cpu_us": round(cpu * 1e6 / count, 2) if cpu is not None and count else None,
        "cores": round(cpu / result["secs"], 2) if cpu is not None else None,
        "provider_asked": mock.asked() - asked,
        "memory_bytes": memory,
        **result,
    }
