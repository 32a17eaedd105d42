"""Processes that are started and measured: each in a session of its own, which ends with this one."""
import ctypes
import os
import signal
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_PDEATHSIG = 1
started = []


def dies_with_parent():
    # Even where this process is killed and can end nothing itself.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def spawn(command, **options):
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=dies_with_parent, **options)
    started.append(process)
    return process


def stop(process, patience=10):
    """Ends a process that `spawn` started, and what it started itself."""
    if process not in started:
        return
    started.remove(process)
    for action in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, action)
            process.wait(patience)
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; what it left behind is given no more time.
        if action == signal.SIGKILL:
            return


def stop_all():
    for process in list(started):
        stop(process)


def stat(pid):
    """The fields of /proc/<pid>/stat from the third on; none where the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The second field is the program's name, which may hold anything.
            return file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None


def tree(root):
    """A process and all below it."""
    children = {}
    for name in os.listdir("/proc"):
        fields = stat(name) if name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(root):
    """User and system time of a tree, with that of children that have ended."""
    fields = filter(None, map(stat, tree(root)))
    return sum(int(ticks) for each in fields for ticks in each[11:15]) / TICKS


def resident_bytes(root):
    """Resident memory of a tree. Pages that its processes share count once in each."""
    total = 0
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/statm") as file:
                total += int(file.read().split()[1]) * PAGE
        except OSError:
            continue
    return total


class PeakMemory:
    """Looks at the memory of a tree four times a second."""

    def __init__(self, root):
        self.root, self.bytes, self.ended = root, resident_bytes(root), threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.ended.wait(0.25):
            self.bytes = max(self.bytes, resident_bytes(self.root))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def wait_for(condition, seconds, process=None):
    """Whether something came true in time, and before the process ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        if process and process.poll() is not None:
            return False
        time.sleep(0.1)
    return False
