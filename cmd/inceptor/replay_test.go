package main

import (
	"bytes"
	"strings"
	"testing"

	"inceptor/service/stream/embedded"
)

func TestReplayCommand(t *testing.T) {
	broker, err := embedded.Start(0, 1, inputTopic, outputTopic, deadLetterTopic)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	for name, test := range map[string]struct {
		args string
		code int
		want string
	}{
		"nothing there": {"--dry-run --since 2026-01-02T15:04:05Z", 0, "0 would be sent, 0 left"},
		"bad choice":    {"--limit=-1 --max-replays=0", exitUsage, "has 2 mistakes"},
		"no topic":      {"--kafka.dead-letter NoSuchTopic", exitFailed, "read from NoSuchTopic"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			args := append([]string{"replay", "--kafka.brokers", broker.Addr()}, strings.Fields(test.args)...)
			if code := run(args, &out, &out); code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("exit status %d, output %s", code, out.String())
			}
		})
	}
}
