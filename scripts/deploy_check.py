"""The checks of scripts/deploy-check, which installs what they need. Exit code 0: nothing was found."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import yaml

CHART = Path("deploy/helm/tidegate")
# The oldest that the chart takes, the first with `preStop.sleep`, and a recent one.
KUBERNETES = ["1.27.0", "1.30.0", "1.34.0"]
# gcr.io/distroless/cc-debian12, in MB, unpacked and compressed: reckoned from the Debian packages it is made
# of, without manual pages and translations; packed with gzip.
BASE = (24.1, 9.4)
found: list[str] = []
unchecked: list[str] = []


def say(what: str, problems: list[str]) -> None:
    print(f"{'ok  ' if not problems else 'BAD '} {what}")
    for problem in problems:
        print(f"       {problem}")
        found.append(problem)


def run(*command: str, cwd: str | None = None, **variables: str) -> tuple[int, str]:
    """The exit code, and everything that was written."""
    done = subprocess.run(
        command, check=False, cwd=cwd, env={**os.environ, **variables}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def runs(what: str, *command: str, cwd: str | None = None, **variables: str) -> None:
    code, text = run(*command, cwd=cwd, **variables)
    say(what, [] if code == 0 else text.strip().splitlines() or [f"exit code {code}"])


# === the image and the compose file ===


def image() -> None:
    runs("hadolint: deploy/Dockerfile", "hadolint", "deploy/Dockerfile")
    text = Path("deploy/Dockerfile").read_text()
    allowed = Path("deploy/Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    missing = [f"{source} is copied, and is not there or not sent to the builder"
               for source in sources if not Path(source).exists() or f"!{source}" not in allowed]
    say("what the image is made of is there", missing)
    # What the sources take in at compile time is within what is copied.
    outside = []
    for path in Path("src").rglob("*.rs"):
        for taken in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', path.read_text()):
            target = os.path.relpath((path.parent / taken).resolve())
            is_test = "tests" in path.parts or path.name == "tests.rs"
            if not is_test and not any(target.startswith(f"{source}/") for source in sources):
                outside.append(f"{path} includes {target}, which is not copied into the image")
    say("the sources include nothing that is not copied", outside)


def size() -> None:
    program = Path(os.environ.get("TIDEGATE_RELEASE", "target/release/tidegate"))
    if not program.exists():
        unchecked.append(f"the image's size: there is no {program}")
        return
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder, "tidegate")
        subprocess.run(["strip", "--strip-all", "-o", stripped, program], check=True)
        subprocess.run(["gzip", "-9", "-k", stripped], check=True)
        whole, packed = (path.stat().st_size / 1e6 for path in (stripped, Path(folder, "tidegate.gz")))
    print(f"     {program}, stripped: {whole:.1f} MB, {packed:.1f} MB compressed, with the features it was built with")
    print(f"     an image of it, reckoned: {whole + BASE[0]:.1f} MB unpacked, {packed + BASE[1]:.1f} MB to pull")


def compose() -> None:
    path = Path("deploy/compose.yaml")
    text = path.read_text()
    whole = yaml.safe_load(text)
    problems = []
    for name, service in whole["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (path.parent / source).exists():
                problems.append(f"{name} mounts {source}, which is not there")
            if not source.startswith(".") and source not in whole["volumes"]:
                problems.append(f"{name} mounts {source}, which is no volume")
        if "healthcheck" not in service:
            problems.append(f"{name} has no health check")
        problems += [f"{name} waits for {other}, which is no service"
                     for other in service.get("depends_on", {}) if other not in whole["services"]]
    written = Path("deploy/.env.example").read_text()
    problems += [f"{name} is not in deploy/.env.example"
                 for name in sorted(set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text)))
                 if not re.search(f"^{name}=", written, re.MULTILINE)]
    say("compose.yaml: what it mounts, waits for and takes from .env is there", problems)
    variables = {name: "x" for name in re.findall(r"^([A-Z_]+)=", written, re.MULTILINE)}
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and run(*command, "version")[0] == 0:
            # The older program, version 1, knows everything but the name.
            again = Path("target/deploy-check/compose.yaml")
            again.write_text(re.sub(r"(?m)^name: .*$", "", text) if len(command) == 1 else text)
            runs(f"{' '.join(command)} config", *command, "--project-directory", "deploy", "-f", str(again), "config", **variables)
            break
    else:
        unchecked.append("docker compose config: neither docker compose nor docker-compose is here")


def program() -> str | None:
    named = os.environ.get("TIDEGATE")
    built = [path for path in (Path("target/release/tidegate"), Path("target/debug/tidegate")) if path.exists()]
    return named or (str(max(built, key=lambda path: path.stat().st_mtime)) if built else None)


def accepted(tidegate: str, config: str, prompts: str | None = None) -> None:
    more = ["--prompts", prompts] if prompts else []
    runs(f"tidegate check: {config}", tidegate, "check", "--config", config, *more, REDIS_PASSWORD="x")


# === Prometheus and Grafana ===


def prometheus() -> None:
    folder = "deploy/prometheus"
    if not shutil.which("promtool"):
        unchecked.append("Prometheus' configuration and alerts, and the dashboards' queries: promtool is not here")
        return
    runs("promtool check config", "promtool", "check", "config", "prometheus.yml", cwd=folder)
    runs("promtool test rules", "promtool", "test", "rules", "alerts_test.yml", cwd=folder)


def dashboards() -> None:
    uids: dict[str, str] = {}
    queries, problems = [], []
    for path in sorted(Path("config/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        uids.setdefault(board["uid"], path.name)
        if uids[board["uid"]] != path.name:
            problems.append(f"{path} has the uid of {uids[board['uid']]}")
        taken: dict[tuple[int, int], str] = {}
        ids = [panel["id"] for panel in board["panels"]]
        if len(set(ids)) != len(ids):
            problems.append(f"{path} has two panels of one id")
        for panel in board["panels"]:
            at = panel["gridPos"]
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                if cell in taken or cell[0] >= 24:
                    problems.append(f"{path}: {panel['title']} does not fit beside {taken.get(cell)}")
                    break
                taken[cell] = panel["title"]
            queries += [target["expr"] for target in panel.get("targets", [])]
    say(f"{len(uids)} dashboards", problems)
    if shutil.which("promtool"):
        # promtool parses queries only as rules.
        plain = [query.replace("$__rate_interval", "5m") for query in queries]
        rules = [{"record": "query", "expr": query, "labels": {"at": str(index)}} for index, query in enumerate(plain)]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
            runs(f"promtool parses the {len(queries)} queries of the dashboards", "promtool", "check", "rules", "queries.yml", cwd=folder)


# === the chart ===


def rendered(version: str, values: list[Path]) -> tuple[int, str, str]:
    """The exit code, the manifests, and what was said beside them."""
    if shutil.which("helm"):
        command = ["helm", "template", "gateway", str(CHART), "--kube-version", version]
        command += [word for path in values for word in ("--values", str(path))]
    else:
        command = ["render", str(CHART), f"v{version}", *map(str, values)]
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    return done.returncode, done.stdout, done.stderr


def merged(under: dict, over: dict) -> dict:
    both = dict(under)
    for key, value in over.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def schema() -> None:
    rules = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(rules)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    problems = [f"values.yaml has {key}, which the schema does not" for key in defaults if key not in rules["properties"]]
    for path in [None, *sorted((CHART / "ci").glob("*-values.yaml"))]:
        values = merged(defaults, yaml.safe_load(path.read_text())) if path else defaults
        for error in jsonschema.Draft7Validator(rules).iter_errors(values):
            problems.append(f"{path or 'values.yaml'}: {error.json_path}: {error.message}")
    for wrong in ({"replicas": 2}, {"replicaCount": "2"}, {"service": {"type": "None"}}):
        if jsonschema.Draft7Validator(rules).is_valid(merged(defaults, wrong)):
            problems.append(f"values.schema.json takes {wrong}")
    say("values.schema.json: takes the values, and no wrong ones", problems)


def chart(tidegate: str | None) -> None:
    schema()
    if shutil.which("helm"):
        runs("helm lint --strict", "helm", "lint", "--strict", str(CHART))
    elif shutil.which("render"):
        unchecked.append("helm lint and helm template: there is no helm; deploy/helm/render.go rendered the chart in its place")
    else:
        unchecked.append("the chart's templates: there is neither helm nor Go with sprig")
        return
    cases = [[], *([path] for path in sorted((CHART / "ci").glob("*-values.yaml")))]
    for values in cases:
        name = values[0].name if values else "the defaults"
        for version in KUBERNETES:
            code, text, beside = rendered(version, values)
            if code != 0:
                say(f"the chart with {name}", [beside.strip()])
                continue
            say(f"the chart with {name} for Kubernetes {version}", wrong_manifests(version, text))
            if tidegate and version == KUBERNETES[-1]:
                taken(tidegate, name, text)
    for wrong, values in {"several nodes on SQLite": {"replicaCount": 2},
                          "one claim for several nodes": {"replicaCount": 2, "config": 'url = "postgres://x/y"', "persistence": {"enabled": True}}}.items():
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            code = rendered(KUBERNETES[-1], [Path(file.name)])[0]
        say(f"the chart refuses {wrong}", [] if code != 0 else ["it does not"])


def wrong_manifests(version: str, text: str) -> list[str]:
    problems = []
    # The validator does not know resources of operators.
    manifests = [manifest for manifest in yaml.safe_load_all(text) if manifest]
    known = [manifest for manifest in manifests if manifest["kind"] != "ServiceMonitor"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifests.yaml")
        path.write_text(yaml.safe_dump_all(known))
        short = ".".join(version.split(".")[:2])
        code, said = run("kubernetes-validate", "--strict", "-k", short, str(path))
        if code != 0:
            problems += [line for line in said.strip().splitlines() if not line.startswith("INFO")]
    (deployment,) = (manifest for manifest in manifests if manifest["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    config = next(manifest["data"]["tidegate.toml"] for manifest in manifests if "tidegate.toml" in manifest.get("data", {}))
    drain = int(re.search(r'drain_timeout = "(\d+)s"', config).group(1))
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pod["terminationGracePeriodSeconds"] < pause + drain + 5:
        problems.append(f"a pod is killed after {pod['terminationGracePeriodSeconds']} s, though it may drain for {drain} s")
    if (pause > 0) != (tuple(map(int, version.split(".")[:2])) >= (1, 30)):
        problems.append(f"preStop sleeps {pause} s on {version}")
    selector = deployment["spec"]["selector"]["matchLabels"].items()
    if not selector <= deployment["spec"]["template"]["metadata"]["labels"].items():
        problems.append("the Deployment does not select its own pods")
    ports = {port["name"] for port in container["ports"]}
    for manifest in manifests:
        if manifest["kind"] == "Service":
            problems += [f"{manifest['metadata']['name']} leads to no port" for port in manifest["spec"]["ports"] if port["targetPort"] not in ports]
    return problems


def taken(tidegate: str, name: str, text: str) -> None:
    """Whether the gateway takes the configuration and the prompts as a pod would see them."""
    with tempfile.TemporaryDirectory() as folder:
        for manifest in yaml.safe_load_all(text):
            if manifest and manifest["kind"] == "ConfigMap":
                for key, content in manifest["data"].items():
                    inner = key if key.endswith("tidegate.toml") else "prompts/" + key.replace("__", "/")
                    path = Path(folder, inner)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(content)
        runs(f"tidegate check: the chart's configuration with {name}", tidegate, "check", "--config", f"{folder}/tidegate.toml", REDIS_PASSWORD="x")


def main() -> int:
    image()
    size()
    compose()
    tidegate = program()
    if tidegate:
        accepted(tidegate, "deploy/image.toml")
        accepted(tidegate, "deploy/tidegate.toml", "prompts")
    else:
        unchecked.append("tidegate check of the configurations: nothing is built (cargo build, or TIDEGATE=…)")
    runs("yamllint: deploy, .yml and .yaml", "yamllint", "--strict", "-c", "deploy/.yamllint", "deploy")
    prometheus()
    dashboards()
    chart(tidegate)
    unchecked.append("building the image, starting the compose file, installing the chart: that takes a container engine and a cluster")
    unchecked.append("the dashboards in Grafana itself")
    print("\nnot checked here:")
    for what in unchecked:
        print(f"  - {what}")
    print(f"\n{len(found)} problems" if found else "\nno problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
