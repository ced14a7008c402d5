package main

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// followCommitted collects the records of topics that readers of committed records see.
func followCommitted(t *testing.T, broker string, topics ...string) *follower {
	t.Helper()
	client := newClient(t, broker, kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	f := &follower{records: map[string][]*kgo.Record{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			f.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) { f.records[r.Topic] = append(f.records[r.Topic], r) })
			f.mu.Unlock()
		}
	}()
	return f
}

// No record is lost and none is answered twice when the service is killed twice and the broker
// once, and when a process is frozen until another one has its partitions and then goes on. The
// same holds for dead letters.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 3, nil, inputTopic, outputTopic, deadLetterTopic)
	photos := photos(t)
	out := followCommitted(t, broker.Addr(), outputTopic, deadLetterTopic)
	run := func() *process {
		return start(t, runArgs(t, broker.Addr(), "--kafka.delivery", "exactly_once", "--kafka.window.records", "8")...)
	}

	const n, poison = 200, 20
	records := numbered(photos, 0, n)
	for i := range poison { // every tenth
		records = slices.Insert(records, i*11, &kgo.Record{Topic: inputTopic, Key: []byte("poison"), Value: []byte("not an image"), Timestamp: timeOf(i)})
	}
	produce(t, broker.Addr(), records...)
	all := func(part int) {
		t.Helper()
		out.awaitDistinct(t, (n+poison)*part/10, patience, outputTopic, deadLetterTopic)
	}
	p := run()
	all(1)
	p.kill()
	p = run()
	all(3)
	p.kill()
	p = run()
	all(5)
	broker.Kill()
	time.Sleep(time.Second)
	broker.Restart()
	all(6)
	frozen := p
	if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p = run()
	p.await(`assigned .*partitions="\[ImageInputTopic-0 ImageInputTopic-1 ImageInputTopic-2\]"`, patience)
	all(7)
	if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	all(10)
	time.Sleep(time.Second)
	if repeats := checkAnswers(t, photos, out.from(outputTopic)); repeats > 0 || len(out.from(outputTopic)) != n {
		t.Errorf("%d answers to %d records, %d repeats", len(out.from(outputTopic)), n, repeats)
	}
	if dead := out.from(deadLetterTopic); len(dead) != poison {
		t.Errorf("%d dead letters of %d", len(dead), poison)
	}
	for _, p := range []*process{frozen, p} {
		if code := p.terminate(); code != 0 {
			t.Errorf("SIGTERM: exit status %d", code)
		}
	}
}
