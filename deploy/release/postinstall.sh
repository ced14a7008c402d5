#!/bin/sh
# After installation and after an upgrade. The service is not started: it needs brokers first. What
# fails here leaves the package installed.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl try-restart inceptor.service || true # runs the new version where the old one ran
fi
