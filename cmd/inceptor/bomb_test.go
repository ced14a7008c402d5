//go:build !race

package main

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream/streamtest"
	"inceptor/testenv"
)

// Records that are small on the wire and very large in memory become dead letters, unread. Memory
// stays within a few times kafka.window.bytes, and other partitions go on.
func TestBombs(t *testing.T) {
	t.Parallel()
	// Most MB more than before, with a window of 32 MiB: for a batch that is not read, and for
	// records of 30 MiB that are read and published whole.
	const unread, whole = 200, 600
	bothGuarantees(t, func(t *testing.T, delivery string) {
		model, broker := testenv.Tiny(t), testenv.StartBroker(t)
		createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
		p := start(t, runArgs(t, broker.Addr(), "--model.dir", model, "--kafka.delivery", delivery)...)
		p.await("assigned", patience)
		out := followCommitted(t, broker.Addr(), outputTopic, deadLetterTopic)
		send := func(r kgo.Record, opts ...kgo.Opt) {
			t.Helper()
			r.Topic = inputTopic
			client := newClient(t, broker.Addr(), append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
			defer client.Close()
			if err := client.ProduceSync(t.Context(), &r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		bomb := func(n int64) { send(kgo.Record{Value: make([]byte, 500<<10)}, streamtest.Bomb(n)) }
		send(kgo.Record{Key: []byte("first"), Value: bitmap(3)})
		out.awaitDistinct(t, 1, patience, outputTopic)
		before := p.memoryMB("VmHWM")

		grown := func(when string, bound int) {
			t.Helper()
			after := p.memoryMB("VmHWM")
			t.Logf("%s: peak memory %d MB, before %d MB", when, after, before)
			if after > before+bound {
				t.Errorf("%s: peak memory grew from %d to %d MB, want %d MB more at most", when, before, after, bound)
			}
		}
		bomb(600 << 20)
		out.awaitDistinct(t, 2, patience, outputTopic, deadLetterTopic)
		grown("unread", unread)
		const fit = 8
		for range fit {
			bomb(30 << 20)
		}
		send(kgo.Record{Key: []byte("after"), Value: bitmap(3)})
		send(kgo.Record{Partition: 1, Key: []byte("other partition"), Value: bitmap(3)})
		out.awaitDistinct(t, fit+4, patience, outputTopic, deadLetterTopic)
		grown("whole", whole)
		reasons := map[string]int{}
		for _, r := range out.from(deadLetterTopic) {
			reason := lastHeader(r, "inceptor-reason")
			reasons[reason]++
			if reason == "unread-batch" && lastHeader(r, "inceptor-last-offset") != lastHeader(r, "inceptor-offset") {
				t.Errorf("a dead letter for offsets %s to %s", lastHeader(r, "inceptor-offset"), lastHeader(r, "inceptor-last-offset"))
			}
		}
		if reasons["unread-batch"] != 1 || reasons["unknown-format"] != fit {
			t.Errorf("reasons: %v", reasons)
		}
		if answers := out.from(outputTopic); len(answers) != 3 {
			t.Errorf("%d answers", len(answers))
		}
		if n := strings.Count(p.output(), "msg=assigned"); n != 1 {
			t.Errorf("assigned %d times", n)
		}
		if code := p.terminate(); code != 0 {
			t.Errorf("SIGTERM: exit status %d", code)
		}
	})
}
