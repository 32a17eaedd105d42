#!/usr/bin/env python3
"""Measures Tidegate beside nginx, Envoy and other gateways, against one mock provider, in one run.

Started by scripts/bench, which builds what it needs. See "Benchmarks" in CONTRIBUTING.md for how figures are taken.
"""
import argparse
import datetime
import json
import os
import platform
import resource
import signal
import sys
import time
from dataclasses import dataclass

from bench_lib import measure, peers, processes
from bench_lib.bars import bars
from bench_lib.cases import CASES, LANES, PEERS, USUAL
from bench_lib.plot import plot
from bench_lib.table import into_documents, table
from measured import ROOT

RESULTS = os.path.join(ROOT, "benches", "results")
# 5,000 streams are two sockets each in a gateway.
FILES = 16_384


@dataclass
class Times:
    """How long each part of a measurement takes, in seconds."""
    secs: float
    warm: float
    idle: float
    settle: float

    def warmup(self, case):
        # All streams have begun, and none at the same time as the others.
        return self.warm + case.stream_seconds()


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secs", type=float, default=8, help="seconds that are counted, each time (8)")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {','.join(CASES)} (all)")
    parser.add_argument("--peers", default=",".join(USUAL), help=f"of {','.join(PEERS)}, or all ({','.join(USUAL)})")
    parser.add_argument("--quick", action="store_true", help="two seconds each: shows that all works, not how fast it is")
    parser.add_argument("--readme", action="store_true", help="writes the results into README.md and ARCHITECTURE.md")
    parser.add_argument("--results", help="where results are written (benches/results; a part of a run: target/bench/results)")
    parser.add_argument("--render", metavar="FILE", help="runs nothing: makes table and picture of earlier results")
    chosen = parser.parse_args()
    chosen.cases = chosen.cases.split(",")
    chosen.peers = PEERS if chosen.peers == "all" else chosen.peers.split(",")
    for names, known in ((chosen.cases, CASES), (chosen.peers, PEERS)):
        for name in names:
            if name not in known:
                parser.error(f"there is no {name!r}; there are: {', '.join(known)}")
    is_whole = not chosen.quick and set(CASES) <= set(chosen.cases) and set(USUAL) <= set(chosen.peers)
    if chosen.readme and not (is_whole or chosen.render):
        parser.error("--readme is for a whole run: all cases, and not --quick")
    # A look at one case does not take the place of what is kept.
    chosen.results = chosen.results or (RESULTS if is_whole or chosen.render else os.path.join(peers.HOME, "results"))
    return chosen


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": f"Linux {'.'.join(platform.release().split('.')[:2])}",
        # What others were doing when the run began.
        "load_average": round(os.getloadavg()[0], 2),
    }


def install(names):
    """The versions of those that can take part, and why others cannot."""
    versions, left_out = {}, {}
    for name in names:
        try:
            versions[name] = peers.install(name)
        except peers.LeftOut as why:
            left_out[name] = str(why)
            print(f"{LANES[name].title} is left out: {why}: {why.more}", flush=True)
    return versions, left_out


def run_case(case, versions, left_out, times):
    """The rows of a case; its lanes one after the other, so that what is compared was measured close together."""
    rows = []
    for name in case.lanes:
        lane = LANES[name]
        # Who did not answer once is not waited for again.
        failed = f"{name}, by the {case.unit}"
        if (lane.peer != "direct" and lane.peer not in versions) or failed in left_out:
            continue
        mock = measure.Mock(case)
        try:
            row = measure.measure(case, lane, mock, times)
        except peers.LeftOut as why:
            left_out[failed] = str(why)
            print(f"{case.name:8} {name:11} left out: {why}: {why.more}", flush=True)
            continue
        finally:
            mock.stop()
        check(row)
        rows.append(row)
        print(shown(row), flush=True)
    return rows


def check(row):
    """A figure that is not of what its lane says would be worse than none."""
    asked, answered = row["provider_asked"], row["requests"]
    if row["lane"] == "hit" and asked > answered * 0.01 + 1:
        raise SystemExit(f"the provider was asked {asked:,} times for {answered:,} answers from the cache")
    if row["lane"] == "everything" and asked < answered:
        raise SystemExit(f"the provider was asked {asked:,} times for {answered:,} answers that no cache holds")


def shown(row):
    cpu = f"{row['cpu_us']:8.1f} µs/{row['unit']}, {row['cores']:.2f} cores" if row["cpu_us"] is not None else " " * 20
    latency, memory = row["latency_us"], row["memory_bytes"]
    sizes = " ".join(f"{what} {size / 1e6:.0f}" for what, size in memory.items())
    bad = "".join(f", {row[what]} {what}" for what in ("errors", "incomplete", "unsent") if row[what])
    bad += "".join(f"\n         {problem}" for problem in row["problems"][:1])
    return (f"{row['case']:8} {row['lane']:11} {cpu} | {row['rps']:>8,.0f} requests/s {row['tokens_per_s']:>9,.0f} tokens/s"
            f" | p50 {latency['p50']:,} p99 {latency['p99']:,} µs | MB {sizes or '-'}{bad}")


def write(results, folder):
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, results["date"])
    endings = []
    for ending, text in (("json", json.dumps(results, indent=1) + "\n"), ("md", table(results)), ("svg", plot(results))):
        if text:
            with open(f"{base}.{ending}", "w") as file:
                file.write(text)
            endings.append(ending)
    print(f"written to {os.path.relpath(base, ROOT)}: {', '.join(endings)}")


def measured(chosen):
    times = Times(2, 1, 1, 5) if chosen.quick else Times(chosen.secs, 2, 1.5, 30)
    began = time.monotonic()
    versions, left_out = install(chosen.peers)
    about, rows = machine(), []
    for name in chosen.cases:
        rows += run_case(CASES[name], versions, left_out, times)
    print(f"{time.monotonic() - began:,.0f} s in all")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": about,
        "versions": versions,
        "seconds": times.secs,
        "is_quick": chosen.quick,
        "left_out": left_out,
        "bars": bars(rows),
        "rows": rows,
    }


def main():
    chosen = options()
    if chosen.render:
        with open(chosen.render) as file:
            results = json.load(file)
        results["bars"] = bars(results["rows"])
    else:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, FILES) if most > 0 else FILES, most))
        if 0 < most < FILES and "many" in chosen.cases:
            print(f"ulimit -Hn is {most}: case many is left out, it takes {FILES}")
            chosen.cases.remove("many")
        # Being told to stop ends what was started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            results = measured(chosen)
        finally:
            processes.stop_all()
    print("\n" + table(results))
    write(results, chosen.results)
    if chosen.readme:
        into_documents(results, chosen.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
