"""The results as a picture: how many times nginx's processor time each gateway takes, case by case."""
import math
from html import escape

from bench_lib.bars import Rows
from bench_lib.cases import LANES

CASES = [("unary", "a request"), ("large", "a request of 100 KB"), ("stream", "a token at full speed"),
         ("paced", "a token, 500 paced streams")]
# Okabe and Ito's colours, which people with any colour vision can tell apart; bars are named in words as well.
COLOURS = {"tidegate": "#0072b2", "everything": "#56b4e9", "envoy": "#e69f00", "litellm": "#cc79a7",
           "tensorzero": "#009e73", "portkey": "#d55e00"}
LABELS, WIDTH, RIGHT = 250, 860, 90
BAR, GAP, GROUP = 18, 4, 34
TOP = 64
INK, FAINT = "#1f2328", "#d0d7de"


class Scale:
    """Where a ratio lies: evenly up to ten times, by orders of magnitude where one is beyond."""

    def __init__(self, most):
        self.is_log = most > 10
        self.most = most * 1.05
        # Below one there is only an answer that cost less than nginx's hop.
        self.least = 0.5 if self.is_log else 0.0

    def at(self, ratio):
        room = WIDTH - LABELS - RIGHT
        if self.is_log:
            share = math.log(max(ratio, self.least) / self.least) / math.log(self.most / self.least)
        else:
            share = ratio / self.most
        return LABELS + share * room

    def ticks(self):
        if self.is_log:
            all_ticks = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
        else:
            step = 0.5 if self.most <= 4 else 1
            all_ticks = [step * number for number in range(30)]
        return [tick for tick in all_ticks if tick <= self.most]


def text(x, y, words, anchor="start", weight="normal", size=13):
    # Its white edge keeps a line behind it from running through.
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
            f' paint-order="stroke" stroke="#ffffff" stroke-width="3">{escape(words)}</text>')


def plot(results):
    rows = Rows(results["rows"])
    groups = []
    for case, title in CASES:
        ratios = [(lane, rows.times(case, lane, case, "nginx")) for lane in COLOURS]
        ratios = sorted([(lane, ratio) for lane, ratio in ratios if ratio], key=lambda pair: pair[1])
        if ratios:
            groups.append((title, ratios))
    if not groups:
        return None
    scale = Scale(max(ratio for _, ratios in groups for _, ratio in ratios))
    parts, y = [], TOP
    for title, ratios in groups:
        parts.append(text(16, y + 4, title, weight="bold"))
        y += 14
        for lane, ratio in ratios:
            parts += bar(lane, ratio, y, scale)
            y += BAR + GAP
        y += GROUP - GAP
    return document(results, axis(scale, y - GROUP + 10) + parts, y + 34)


def bar(lane, ratio, y, scale):
    start, end = scale.at(scale.least), scale.at(ratio)
    middle = y + BAR * 0.72
    return [
        text(LABELS - 8, middle, LANES[lane].title, "end"),
        f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR}" fill="{COLOURS[lane]}"/>',
        text(end + 6, middle, f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"),
    ]


def axis(scale, bottom):
    parts = []
    for tick in scale.ticks():
        x, is_nginx = scale.at(tick), tick == 1
        look = f'stroke="{INK}" stroke-dasharray="4 3"' if is_nginx else f'stroke="{FAINT}"'
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" {look}/>')
        parts.append(text(x, bottom + 16, f"{tick:g}", "middle", size=12))
    note = "times nginx's CPU" + (", logarithmic" if scale.is_log else "")
    parts.append(text((LABELS + WIDTH - RIGHT) / 2, bottom + 38, note, "middle"))
    parts.append(text(scale.at(1), TOP - 14, "nginx", "middle", size=12))
    return parts


def document(results, parts, height):
    machine = results["machine"]
    title = f"CPU of gateways, {results['date']}, {machine['cores']} cores"
    words = "; ".join(part for part in (f"{bar['what']}: {bar['figure']}" for bar in results["bars"]))
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="title description" font-family="system-ui, sans-serif">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">Processor time as multiples of what nginx takes. {escape(words)}</desc>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<g fill="{INK}">',
        text(16, 24, title, weight="bold", size=15),
        *parts,
        "</g>",
        "</svg>",
    ]) + "\n"
