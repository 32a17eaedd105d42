"""Prints the rows of a benchmark as the table of the README.

usage: bench_table.py ROWS.json
"""

import json
import sys

CASES = {
    "unary-max": ("CPU per request", "µs"),
    "unary-1k": ("CPU per request at 1,000 requests/s", "µs"),
    "unary-c1": ("median latency, one connection", "µs"),
    "big-prompt": ("CPU per request of 100 KB", "µs"),
    "stream-max": ("CPU per token, full speed", "µs"),
    "stream-paced": ("CPU per token, 500 paced streams", "µs"),
}


def main():
    rows = json.load(open(sys.argv[1]))
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    by = {(row["case"], row["peer"]): row for row in rows}
    shown = ["Tidegate" if peer == "ours" else peer for peer in peers]
    print("\n| |", " | ".join(shown), "|")
    print("|---|" + "---|" * len(peers))
    for case, (title, unit) in CASES.items():
        if not any((case, peer) in by for peer in peers):
            continue
        cells = []
        for peer in peers:
            row = by.get((case, peer))
            cells.append(cell(case, row, by.get((case, "nginx")), unit) if row else "-")
        print(f"| {title} |", " | ".join(cells), "|")
    idle = [by.get(("unary-max", peer)) for peer in peers]
    if any(idle):
        memory = [f"{row['rss_idle']:.0f} MB" if row and row["rss_idle"] else "-" for row in idle]
        print("| memory, idle |", " | ".join(memory), "|")
    bad = [row for row in rows if row["err"] or row["incomplete"]]
    for row in bad:
        print(f"{row['case']} {row['peer']}: {row['err']} errors, {row['incomplete']} incomplete")


def cell(case, row, nginx, unit):
    """A figure, and how many times nginx's it is."""
    if case == "unary-c1":
        return f"{row['latency_us']['p50']:.0f} {unit}"
    if not row["cpu_us"]:
        return "-"
    times = ""
    if nginx and nginx["cpu_us"]:
        times = f" ({row['cpu_us'] / nginx['cpu_us']:.2f} x)"
    return f"{row['cpu_us']:.1f} {unit}{times}"


main()
