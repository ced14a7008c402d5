package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// bothGuarantees runs a test for each value of kafka.delivery, in parallel.
func bothGuarantees(t *testing.T, test func(t *testing.T, delivery string)) {
	t.Helper()
	for _, delivery := range []string{"at_least_once", "exactly_once"} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			test(t, delivery)
		})
	}
}

// Nothing that a sender can write ends the process or stops it. What no topic accepts as it is
// becomes a dead letter that says what was left out. A dead-letter topic that accepts nothing stops
// its partition, but no record is lost.
func TestContentEndsNothing(t *testing.T) {
	t.Parallel()
	bothGuarantees(t, func(t *testing.T, delivery string) {
		model, broker := testenv.Tiny(t), testenv.StartBroker(t)
		createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic)
		createTopics(t, broker.Addr(), 2, map[string]string{"cleanup.policy": "compact"}, deadLetterTopic)
		p := start(t, runArgs(t, broker.Addr(), "--model.dir", model, "--kafka.delivery", delivery)...)
		address := p.await(`listening address=(\S+)`, patience)
		out := followCommitted(t, broker.Addr(), outputTopic, deadLetterTopic)
		client := newClient(t, broker.Addr(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(50<<20))
		send := func(r kgo.Record) {
			t.Helper()
			r.Topic = inputTopic
			if err := client.ProduceSync(t.Context(), &r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}

		large, key := strings.Repeat("k", 3<<20), []byte("key")
		records := []struct {
			name   string
			record kgo.Record
			told   map[string]string // headers of the dead letter
		}{
			{"large key", kgo.Record{Key: []byte(large)}, map[string]string{"inceptor-reason": "empty", "inceptor-truncated-key": fmt.Sprint(len(large))}},
			{"large key of an image", kgo.Record{Key: []byte(large), Value: bitmap(1)}, map[string]string{"inceptor-reason": "refused-by-broker", "inceptor-truncated-key": fmt.Sprint(len(large)), "inceptor-truncated": fmt.Sprint(len(bitmap(1)))}},
			{"no key, in a compacted topic", kgo.Record{Value: []byte("\x00")}, map[string]string{"inceptor-reason": "unknown-format", "inceptor-added-key": "true", "inceptor-truncated": ""}},
			{"large header", kgo.Record{Key: key, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte(large)}}}, map[string]string{"inceptor-truncated-headers": fmt.Sprint(len(large) + 1)}},
			{"large header key", kgo.Record{Key: key, Headers: []kgo.RecordHeader{{Key: large}}}, map[string]string{"inceptor-truncated-headers": fmt.Sprint(len(large))}},
			{"many headers", kgo.Record{Key: key, Headers: make([]kgo.RecordHeader, 200_000)}, map[string]string{"inceptor-reason": "empty"}},
			{"a dead letter's headers", kgo.Record{Key: []byte(large), Headers: []kgo.RecordHeader{{Key: "inceptor-truncated-key", Value: []byte("1")}}}, map[string]string{"inceptor-truncated-headers": "", "inceptor-truncated-key": fmt.Sprint(len(large))}},
			{"old", kgo.Record{Key: key, Timestamp: time.UnixMilli(1)}, map[string]string{"inceptor-reason": "empty"}},
		}
		for _, r := range records {
			send(r.record)
		}
		send(kgo.Record{Key: []byte("after"), Value: bitmap(3)})
		out.awaitDistinct(t, len(records)+1, patience, outputTopic, deadLetterTopic)
		if answers := out.from(outputTopic); len(answers) != 1 || string(answers[0].Key) != "after" {
			t.Errorf("%d answers", len(answers))
		}
		letters := map[string]*kgo.Record{}
		for _, r := range out.from(deadLetterTopic) {
			letters[lastHeader(r, "inceptor-offset")] = r
		}
		for i, r := range records {
			letter := letters[fmt.Sprint(i)]
			if letter == nil {
				t.Errorf("%s: no dead letter", r.name)
				continue
			}
			for header, want := range r.told {
				if got := lastHeader(letter, header); got != want {
					t.Errorf("%s: %s is %.100q, want %q", r.name, header, got, want)
				}
			}
		}

		// A dead-letter topic that accepts nothing.
		admin := kadm.NewClient(client)
		limit := func(bytes string) {
			t.Helper()
			if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}, deadLetterTopic); err != nil {
				t.Fatal(err)
			}
		}
		limit("100")
		send(kgo.Record{Key: []byte("stuck"), Value: []byte("\x00")})
		ready := ""
		for end := time.Now().Add(patience); !strings.Contains(ready, `-0":"`); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("/readyz does not tell of the partition: %s", ready)
			}
			_, ready = get(t, address+"/readyz")
		}
		if !strings.Contains(ready, deadLetterTopic+" refuses even") || !strings.Contains(ready, "max.message.bytes") {
			t.Errorf("/readyz: %s", ready)
		}
		send(kgo.Record{Partition: 1, Key: []byte("other"), Value: bitmap(3)})
		out.awaitDistinct(t, len(records)+2, patience, outputTopic, deadLetterTopic)
		limit("1000000")
		out.awaitDistinct(t, len(records)+3, patience, outputTopic, deadLetterTopic)
		last := out.from(deadLetterTopic)
		// Whole, or shortened, if the limit was raised in the middle of a try.
		letter := last[len(last)-1]
		whole := bytes.Equal(letter.Value, []byte("\x00"))
		if string(letter.Key) != "stuck" || !whole && lastHeader(letter, "inceptor-truncated") != "1" {
			t.Errorf("the dead letter that waited: %q = %q, %v", letter.Key, letter.Value, letter.Headers)
		}
		if code := p.terminate(); code != 0 {
			t.Errorf("SIGTERM: exit status %d", code)
		}
	})
}
