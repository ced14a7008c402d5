#!/bin/sh
# After removal.
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
