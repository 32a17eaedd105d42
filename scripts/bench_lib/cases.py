"""What is measured: the cases, and who takes part in each."""
from dataclasses import dataclass, field

from measured import LONG, chat, prompted

SHORT = LONG[:400]
# load puts a number of its own in its place.
NUMBER = "<number>"


@dataclass
class Lane:
    """Who answers, and with what asked of it."""
    name: str
    title: str
    peer: str
    # The model that the peer is asked for; none: what the peer itself calls the mock.
    model: str | None = None
    is_everything: bool = False
    is_hit: bool = False

    def body(self, peers_model, text, stream):
        more = {"stream": True} if stream else {}
        if self.is_everything:
            # The prompt of the registry is short; a long text is a message after it.
            body = prompted(None if text is SHORT else text, **more)
        else:
            body = chat(self.model or peers_model, text, **more)
        return body(0 if self.is_hit else NUMBER)


LANES = {lane.name: lane for lane in (
    Lane("direct", "no gateway", "direct"),
    Lane("nginx", "nginx", "nginx"),
    Lane("envoy", "Envoy", "envoy"),
    Lane("litellm", "LiteLLM", "litellm"),
    Lane("tensorzero", "TensorZero", "tensorzero"),
    Lane("portkey", "Portkey", "portkey"),
    Lane("tidegate", "Tidegate", "tidegate"),
    Lane("everything", "Tidegate, everything on", "tidegate", is_everything=True),
    Lane("anthropic", "Tidegate to Anthropic's wire", "tidegate", model="claude/mock"),
    Lane("gemini", "Tidegate to Gemini's wire", "tidegate", model="google/mock"),
    Lane("hit", "Tidegate, from its cache", "tidegate", model="kept", is_hit=True),
)}
PEERS = ["nginx", "envoy", "litellm", "tensorzero", "portkey", "tidegate"]
# Those that a run has where nothing else is said: the others take minutes to install.
USUAL = ["nginx", "envoy", "tidegate"]


@dataclass
class Case:
    name: str
    title: str
    # CPU is divided by these.
    unit: str
    connections: int
    lanes: list[str]
    tokens: int = 30
    gap_ms: int = 0
    ttft_ms: int = 0
    text: str = SHORT
    rate: int | None = None
    # Whether streams begin one after the other, over as long as one of them takes.
    is_paced: bool = False
    # Whether memory is looked at again when the load is over.
    settles: bool = False
    is_stream: bool = field(init=False)

    def __post_init__(self):
        self.is_stream = self.unit == "token"

    def stream_seconds(self):
        return (self.ttft_ms + self.gap_ms * self.tokens) / 1000 if self.is_paced else 0

    def mock_arguments(self):
        return ["--tokens", str(self.tokens), "--gap-ms", str(self.gap_ms), "--ttft-ms", str(self.ttft_ms)]

    def load_arguments(self):
        arguments = ["--connections", str(self.connections), "--tokens", str(self.tokens)]
        if self.is_stream:
            arguments.append("--stream")
        if self.rate:
            arguments += ["--rate", str(self.rate)]
        if self.is_paced:
            arguments += ["--ramp", str(self.stream_seconds())]
        return arguments


CASES = {case.name: case for case in (
    Case("unary", "a request, 32 connections", "request", 32, [*PEERS, "everything", "anthropic", "gemini", "hit"]),
    Case("single", "a request, one connection", "request", 1, ["direct", *PEERS]),
    Case("rate", "a request, 1,000 a second", "request", 64, ["direct", *PEERS], rate=1_000),
    Case("large", "a request of 100 KB", "request", 16, [*PEERS, "everything"], text=LONG),
    Case("stream", "a token, streams at full speed", "token", 32, [*PEERS, "everything", "anthropic", "gemini"],
         tokens=100),
    Case("paced", "a token, 500 paced streams", "token", 500, [*PEERS, "everything"], tokens=100, gap_ms=20,
         ttft_ms=100, is_paced=True),
    Case("many", "a token, 5,000 slow streams", "token", 5_000, PEERS, tokens=20, gap_ms=500, ttft_ms=100,
         is_paced=True, settles=True),
)}
