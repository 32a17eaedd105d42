"""The bars: what each figure of a run may be, against another one of the same run."""
from bench_lib.cases import CASES


class Rows:
    """The rows of a run by case and lane."""

    def __init__(self, rows):
        self.by = {(row["case"], row["lane"]): row for row in rows}

    def get(self, case, lane):
        return self.by.get((case, lane))

    def times(self, case, lane, other_case, other):
        """How many times as much processor time one row took as another one."""
        one, two = self.get(case, lane), self.get(other_case, other)
        if not one or not two or not one["cpu_us"] or not two["cpu_us"]:
            return None
        return one["cpu_us"] / two["cpu_us"]

    def added_p99_us(self, lane):
        """What a gateway adds at a fixed rate; none where it could not keep up."""
        through, direct = self.get("rate", lane), self.get("rate", "direct")
        if not through or not direct or through["unsent"] or through["errors"]:
            return None
        return through["latency_us"]["p99"] - direct["latency_us"]["p99"]

    def stream_bytes(self, lane):
        """Memory for one of many streams."""
        row = self.get("many", lane)
        memory = row and row["memory_bytes"]
        return (memory["peak"] - memory["idle"]) / row["connections"] if memory else None

    def kept_share(self, lane):
        """What is left of the memory that a load added, when it is over."""
        row = self.get("many", lane)
        memory = row and row["memory_bytes"]
        added = memory["peak"] - memory["idle"] if memory else 0
        return (memory["after"] - memory["idle"]) / added if added > 0 else None


# What, the lane, its case, against which lane, and how many times that it may take.
RATIOS = [
    ("a plain request, nginx's CPU", "tidegate", "unary", "nginx", 2.2),
    ("everything on: a request, nginx's CPU", "everything", "unary", "nginx", 2.8),
    ("everything on: a request of 100 KB, nginx's CPU", "everything", "large", "nginx", 2.4),
    ("everything on: a token at full speed, nginx's CPU", "everything", "stream", "nginx", 2.2),
    ("everything on: a paced token, nginx's CPU", "everything", "paced", "nginx", 1.35),
    ("to Anthropic's wire: a request, the same wire's CPU", "anthropic", "unary", "tidegate", 2.0),
    ("to Gemini's wire: a request, the same wire's CPU", "gemini", "unary", "tidegate", 2.0),
    ("to Anthropic's wire: a token, the same wire's CPU", "anthropic", "stream", "tidegate", 4.0),
    ("to Gemini's wire: a token, the same wire's CPU", "gemini", "stream", "tidegate", 4.0),
    ("an answer from the cache, nginx's CPU for its hop", "hit", "unary", "nginx", 1.0),
]
STREAM_BYTES = 30_000
KEPT_SHARE = 0.25


def bars(rows):
    """Each bar that the run has figures for: what, the figure, the bar, whether it holds."""
    rows = Rows(rows)
    found = []

    def bar(what, figure, most, text):
        if figure is not None and most is not None:
            found.append({"what": what, "figure": text(figure), "bar": text(most), "holds": figure <= most})
    for what, lane, case, other, most in RATIOS:
        bar(what, rows.times(case, lane, case, other), most, lambda ratio: f"{ratio:.2f} x")
    bar("added at 1,000 requests a second, p99; the bar is what Envoy adds", rows.added_p99_us("tidegate"),
        rows.added_p99_us("envoy"), lambda micros: f"{micros:,.0f} µs")
    streams = CASES["many"].connections
    bar(f"memory of a stream, {streams:,} at once", rows.stream_bytes("tidegate"), STREAM_BYTES,
        lambda size: f"{size / 1000:.1f} kB")
    bar("memory that the load added and that is still there after it", rows.kept_share("tidegate"), KEPT_SHARE,
        lambda share: f"{max(share, 0):.0%}")
    return found
