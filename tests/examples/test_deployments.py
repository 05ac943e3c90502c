"""The unit for systemd and the objects for Kubernetes: what they say is known there, and here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

with warnings.catch_warnings():  # what other people's modules deprecate in each other
    warnings.simplefilter("ignore")
    import kubernetes_validate

from vllm.entrypoints.cli import COMMANDS

EXAMPLES = Path(__file__).parents[2] / "examples"


def known(words):
    """Whether `vllm serve` takes these options."""
    import argparse

    parser = argparse.ArgumentParser()
    COMMANDS["serve"].configure(parser)
    return parser.parse_args(words)


def objects():
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Deployment", "Service"])
def test_kubernetes_objects_are_of_its_schema(kind):
    (found,) = [each for each in objects() if each["kind"] == kind]
    kubernetes_validate.validate(found, "1.30", strict=True)


def test_the_pod_serves_what_the_service_and_the_probes_ask():
    _, deployment, service = objects()
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    (entry_point,) = re.findall(
        r"^ENTRYPOINT (\[.+\])$", (EXAMPLES / "Containerfile").read_text(), re.M
    )
    program, command, *words = [*json.loads(entry_point), *container["args"]]
    args = known(words)
    assert (program, command, args.host) == ("vllm", "serve", "0.0.0.0")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000}  # the server's default
    assert service["spec"]["ports"][0]["targetPort"] in ports
    assert args.shutdown_timeout < pod["spec"]["terminationGracePeriodSeconds"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def replicas_of_the_docs():
    """The deployment of two replicas in docs/serving.md, and its service."""
    text = (EXAMPLES.parent / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(apiVersion: .+?)^```$", text, re.M | re.S)
    return list(yaml.safe_load_all(block))


def test_the_documented_replicas_are_of_kubernetes_schema():
    found = replicas_of_the_docs()
    assert [each["kind"] for each in found] == ["Deployment", "Service"]
    for each in found:
        kubernetes_validate.validate(each, "1.30", strict=True)


def test_the_documented_replicas_serve_what_the_service_asks():
    deployment, service = replicas_of_the_docs()
    pod, matched = deployment["spec"]["template"], deployment["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["replicas"] == 2
    for labels in (matched, service["spec"]["selector"]):
        assert labels.items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    args = known(container["args"])
    assert args.tensor_parallel_size == container["resources"]["limits"]["nvidia.com/gpu"]
    (port,) = container["ports"]
    assert args.port is None
    ports = [port["containerPort"], container["readinessProbe"]["httpGet"]["port"]]
    ports.append(service["spec"]["ports"][0]["targetPort"])
    assert ports == [8000] * 3  # the server's default
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_systemd_takes_the_unit(tmp_path):
    """systemd-analyze wants the program to be there: it is, somewhere else."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine: apt-get install systemd")
    text = (EXAMPLES / "vllm.service").read_text()
    unit = tmp_path / "vllm.service"
    unit.write_text(text.replace("/opt/vllm/bin/vllm", sys.executable))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    about_it = [line for line in done.stderr.splitlines() if "vllm.service" in line]
    assert (done.returncode, about_it) == (0, []), done.stderr


def test_the_unit_ends_after_the_server_has():
    text = (EXAMPLES / "vllm.service").read_text()
    (line,) = re.findall(r"^ExecStart=\S+ serve (.+)$", text, re.M)
    args = known(line.split())
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.M)
    assert args.shutdown_timeout < int(seconds)
