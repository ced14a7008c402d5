#!/bin/bash
# What test.sh runs in a system with systemd: the installed service answers the demo's photos, is
# what the unit says it is, and stops cleanly. Its last line is "passed".
set -euo pipefail
trap 'systemctl poweroff --no-block' EXIT

# await COMMAND... waits until it succeeds.
await() {
	for _ in {1..180}; do
		if "$@"; then return; fi
		sleep 1
	done
	journalctl --no-pager --unit inceptor | tail -n 40
	echo "never: $*"
	exit 1
}

answered() {
	{ exec 3<>/dev/tcp/127.0.0.1/8080; } 2>/dev/null || return
	printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
	cat <&3 >/root/metrics.txt
	exec 3>&-
	grep '^inceptor_records_total{.*outcome="answered"' /root/metrics.txt | grep -q ' 9$'
}

touch /root/demo.txt
inceptor demo --kafka.group demo --http.listen "" >/root/demo.txt 2>&1 &
await grep -q '^Ctrl-C ends the demo' /root/demo.txt
systemctl start inceptor
await answered
systemctl show inceptor --property ActiveState,User,DynamicUser,NRestarts
process=$(systemctl show inceptor --property MainPID --value)
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$process/status"
ls -l /var/lib/private/inceptor
inceptor models --config /etc/inceptor/inceptor.yaml
if journalctl --unit inceptor --grep '"level":"(WARN|ERROR)"'; then echo "the log has warnings"; exit 1; fi
systemctl stop inceptor
[[ $(systemctl show inceptor --property Result --value) == success ]]
[[ $(systemctl show inceptor --property ExecMainStatus --value) == 0 ]]
echo passed
