package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// Records that the model cannot answer, through no fault of theirs, are given up after some time if
// the settings say so. They become dead letters, or the service ends and leaves them to the next
// one.
func TestOnError(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	needed := filepath.Join(t.TempDir(), "file")
	there := func() {
		if err := os.WriteFile(needed+"0", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() {
		if err := os.Remove(needed + "0"); err != nil {
			t.Fatal(err)
		}
	}
	there()
	args := runArgs(t, broker.Addr(), "--model.dir", testenv.Tiny(t, "--needs", needed), "--kafka.on-error-after", "1s")
	sent := 0
	send := func(n int) {
		t.Helper()
		records := make([]*kgo.Record, n)
		for i := range records {
			records[i] = &kgo.Record{Topic: inputTopic, Key: fmt.Append(nil, sent), Value: bitmap(byte(sent))}
			sent++
		}
		produce(t, broker.Addr(), records...)
	}

	p := start(t, append(args, "--kafka.on-error", "dead-letter")...)
	send(5)
	out.awaitDistinct(t, sent, patience, outputTopic)
	gone()
	send(5)
	out.awaitDistinct(t, 5, patience, deadLetterTopic)
	for _, r := range out.from(deadLetterTopic) {
		if reason := lastHeader(r, "inceptor-reason"); reason != "given-up" {
			t.Errorf("reason %q", reason)
		}
		if text := lastHeader(r, "inceptor-error"); !strings.Contains(text, "not answered within 1s: ") || !strings.Contains(text, needed) {
			t.Errorf("error %q", text)
		}
	}
	there()
	send(5)
	out.awaitDistinct(t, 10, patience, outputTopic)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}

	p = start(t, append(args, "--kafka.on-error", "stop")...)
	p.await("assigned", patience)
	gone()
	send(5)
	if code := p.wait(); code != 1 || !strings.Contains(p.output(), "kafka.on-error: record "+inputTopic+"-0-1") || !strings.Contains(p.output(), "was not answered within 1s: ") {
		t.Errorf("exit status %d", code)
	}
	there()
	p = start(t, args...)
	out.awaitDistinct(t, 15, patience, outputTopic)
	if answers, dead := len(out.from(outputTopic)), len(out.from(deadLetterTopic)); answers != 15 || dead != 5 {
		t.Errorf("%d answers and %d dead letters", answers, dead)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
