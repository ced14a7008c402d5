#!/usr/bin/env python3
"""Reads `go test -json` from stdin; prints what failed or was skipped, each package's closing line, and the counts.

Exits with 1 if a test failed, if one was skipped, or if none ran.
"""

import collections
import json
import re
import sys

SHOWN = 3  # complaints of one failed test that are shown once more at the end


def main():
    output = collections.defaultdict(list)  # (package, test or None) -> lines
    counts = collections.Counter()
    closing = []
    for line in sys.stdin:
        try:
            event = json.loads(line)
        except ValueError:
            print(line, end="")
            continue
        if "Package" not in event:  # of a build
            print(event.get("Output", ""), end="")
            continue
        action, test = event["Action"], event.get("Test")
        key = event["Package"], test
        if action == "output":
            output[key].append(event["Output"])
        if action not in ("pass", "fail", "skip"):
            continue
        if test:
            counts[action] += 1
            if action != "pass":
                print(f"{action}: {event['Package']} {test}\n{''.join(output[key])}", end="")
                complaints = [line for line in output[key] if re.match(r"\s+\w+_test\.go:\d+: ", line)]
                closing += [f"{action}: {test}\n"] + [f"{line[:500].rstrip()}\n" for line in complaints[:SHOWN]]
        else:
            counts["broken"] += action == "fail"
            # All of it where the package failed by itself: it did not build, crashed, or ran out of time.
            closing += output[key] if action == "fail" else output[key][-1:]
        output.pop(key, None)
    print("".join(closing), end="")
    if counts["skip"]:
        print(f"{counts['skip']} tests were skipped, which counts as failed here")
    failed = counts["fail"] + counts["skip"] or counts["broken"]
    print(f"{counts['pass']} passed, {failed} failed")
    return failed > 0 or counts["pass"] == 0


if __name__ == "__main__":
    sys.exit(main())
