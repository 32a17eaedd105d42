"""The results as Markdown, and where they stand in README.md and ARCHITECTURE.md."""
import os
import re
import textwrap

from bench_lib.bars import Rows
from bench_lib.cases import CASES, LANES
from measured import ROOT

# The lanes that stand beside nginx in the first table; the others are compared with Tidegate itself, in the bars.
COLUMNS = ["nginx", "envoy", "tidegate", "everything", "litellm", "tensorzero", "portkey"]


def table(results):
    rows = Rows(results["rows"])
    machine, seconds = results["machine"], results["seconds"]
    columns = [name for name in COLUMNS if any(lane == name for _, lane in rows.by)]
    versions = ", ".join(f"{LANES[peer].title} {version}" for peer, version in results["versions"].items())
    about = (f"{results['date']}, {machine['cores']} cores ({machine['processor']}), {machine['kernel']}; {versions}. Each figure"
             f" is of {seconds:g} s in one run. CPU is user and system time of all of a gateway's processes; in brackets, as multiples"
             " of nginx's, which is the limit that C sets. Read those: absolute figures are of this machine.")
    if results["is_quick"]:
        about += " This was a quick run, which shows that all works and not how fast it is."
    lines = [textwrap.fill(about, 120), "", head(columns), "|---" * (len(columns) + 1) + "|"]
    for case in CASES.values():
        cells = [cpu_cell(rows, case.name, name) for name in columns]
        if case.name != "single" and case.name != "rate" and any(cells):
            lines.append(line(f"CPU of {case.title}", cells))
    lines += latency_lines(rows, columns) + memory_lines(rows, columns)
    lines += bar_lines(results["bars"])
    bad = [row for row in results["rows"] if row["errors"] or row["incomplete"] or row["unsent"]]
    total = sum(row["requests"] for row in results["rows"])
    lines += ["", f"{total:,} answers were counted, and looked at: whole, with every token." + ("" if bad else " None was missing or broken off.")]
    notes = [complaint(row) for row in bad] + [f"{what}: left out, {why}" for what, why in results["left_out"].items()]
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def line(title, cells):
    return f"| {title} | " + " | ".join(cell or "-" for cell in cells) + " |"


def head(columns):
    return "| | " + " | ".join(LANES[name].title for name in columns) + " |"


def cpu_cell(rows, case, lane):
    row = rows.get(case, lane)
    if not row or row["cpu_us"] is None:
        return None
    times = rows.times(case, lane, case, "nginx")
    return f"{digits(row['cpu_us'], 1)} µs" + (f" ({digits(times, 2)})" if times and lane != "nginx" else "")


def digits(number, places):
    return f"{number:.{places}f}" if number < 100 else f"{number:,.0f}"


def latency_lines(rows, columns):
    def single(lane):
        row = rows.get("single", lane)
        return f"{row['latency_us']['p50']:,} µs" if row else None

    def added(lane):
        micros = rows.added_p99_us(lane)
        if micros is not None:
            return f"{micros:,.0f} µs"
        return "too much for it" if rows.get("rate", lane) else None

    def first_token(lane):
        row = rows.get("paced", lane)
        return f"{row['first_token_us']['p99'] / 1000:,.1f} ms" if row else None
    lines = [("latency through it, one connection, p50", single),
             ("latency it adds at 1,000 requests a second, p99", added),
             (f"first token, 500 paced streams, p99 ({CASES['paced'].ttft_ms} ms are the provider's)", first_token)]
    return [line(title, cells) for title, of in lines if any(cells := [of(name) for name in columns])]


def memory_lines(rows, columns):
    def memory(what):
        def cell(lane):
            row = rows.get("many", lane)
            return f"{row['memory_bytes'][what] / 1e6:,.0f} MB" if row else None
        return cell

    def stream(lane):
        size = rows.stream_bytes(lane)
        return f"{size / 1000:.1f} kB" if size is not None else None
    lines = [("memory at rest", memory("idle")), ("memory with 5,000 streams", memory("peak")),
             ("memory half a minute after them", memory("after")), ("memory of one stream", stream)]
    return [line(title, cells) for title, of in lines if any(cells := [of(name) for name in columns])]


def bar_lines(found):
    if not found:
        return []
    lines = ["", "| Tidegate's bars | measured | at most | |", "|---|---|---|---|"]
    return lines + [line(bar["what"], [bar["figure"], bar["bar"], "holds" if bar["holds"] else "**missed**"]) for bar in found]


def complaint(row):
    told = "; ".join(row["problems"][:1])
    parts = [f"{row[what]:,} {words}" for what, words in
             (("errors", "errors"), ("incomplete", "answers that were not whole"), ("unsent", "requests that found no connection"))
             if row[what]]
    return f"{LANES[row['lane']].title}, {CASES[row['case']].title}: {', '.join(parts)}" + (f" ({told})" if told else "")


def into_documents(results, folder):
    """Writes the results into README.md, and the four ratios into ARCHITECTURE.md."""
    plot = os.path.relpath(os.path.join(folder, f"{results['date']}.svg"), ROOT)
    text = f"\n{table(results)}\n![CPU of gateways as multiples of nginx's]({plot})\n"
    replace("README.md", lambda _: text)
    rows = Rows(results["rows"])
    ratios = [rows.times(case, "tidegate", case, "nginx") for case in ("unary", "large", "stream", "paced")]
    if all(ratios):
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        replace("ARCHITECTURE.md", lambda old: f"{old.split(' | ')[0]} | {cells}")


def replace(name, new):
    path = os.path.join(ROOT, name)
    with open(path) as file:
        text = file.read()
    text, count = re.subn(r"(<!-- bench -->)(.*?)(<!-- /bench -->)", lambda m: m[1] + new(m[2]) + m[3], text, flags=re.S)
    if count != 1:
        raise SystemExit(f"{name} has {count} places for the results")
    with open(path, "w") as file:
        file.write(text)
