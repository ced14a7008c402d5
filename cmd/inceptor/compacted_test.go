package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// A compacted topic takes no record without a key. Such an answer becomes a dead
// letter that says so; such a dead letter gets its id as the key. The start, and
// check, warn of it.
func TestCompactedTopics(t *testing.T) {
	compact, both := map[string]string{"cleanup.policy": "compact"}, map[string]string{"cleanup.policy": "compact,delete"}
	for name, topics := range map[string]struct{ output, deadLetter map[string]string }{
		"output":      {output: compact},
		"dead letter": {deadLetter: compact},
		"both":        {output: compact, deadLetter: both},
	} {
		t.Run(name, func(t *testing.T) {
			bothGuarantees(t, func(t *testing.T, delivery string) {
				model, broker := testenv.Tiny(t), testenv.StartBroker(t)
				createTopics(t, broker.Addr(), 1, nil, inputTopic)
				createTopics(t, broker.Addr(), 1, topics.output, outputTopic)
				createTopics(t, broker.Addr(), 1, topics.deadLetter, deadLetterTopic)
				args := runArgs(t, broker.Addr(), "--model.dir", model, "--kafka.delivery", delivery, "--kafka.tombstones", "forward")
				p := start(t, args...)
				p.await(`listening address=(\S+)`, time.Minute)
				out := followCommitted(t, broker.Addr(), outputTopic, deadLetterTopic)
				records := []*kgo.Record{
					{Value: bitmap(1)},
					{Value: []byte("\x00")},
					{Value: nil},
					{Key: []byte("k"), Value: bitmap(3)},
					{Key: []byte("k"), Value: nil},
					{Key: []byte("k"), Value: []byte("\x00")},
				}
				for _, r := range records {
					r.Topic = inputTopic
				}
				produce(t, broker.Addr(), records...)
				out.awaitDistinct(t, len(records), time.Minute, outputTopic, deadLetterTopic)

				var answers, letters []string
				for _, r := range out.of(outputTopic) {
					answers = append(answers, lastHeader(r, "inceptor-id")+" "+string(r.Key))
				}
				for _, r := range out.of(deadLetterTopic) {
					reason := lastHeader(r, "inceptor-reason")
					letters = append(letters, fmt.Sprintf("%s %s %s %d", lastHeader(r, "inceptor-id"), r.Key, reason, len(r.Value)))
					if said := strings.Contains(lastHeader(r, "inceptor-error"), "takes no record without a key"); said != (reason == "refused-by-broker") {
						t.Errorf("%s: %s", reason, lastHeader(r, "inceptor-error"))
					}
				}
				id := func(offset int) string { return fmt.Sprintf("%s-0-%d", inputTopic, offset) }
				key := func(offset int) string { // of a letter whose record has none
					if topics.deadLetter != nil {
						return id(offset)
					}
					return ""
				}
				wantAnswers := []string{id(3) + " k", id(4) + " k"}
				wantLetters := []string{id(1) + " " + key(1) + " unknown-format 1", id(5) + " k unknown-format 1"}
				if topics.output == nil {
					wantAnswers = append([]string{id(0) + " ", id(2) + " "}, wantAnswers...)
				} else {
					wantLetters = append(wantLetters, fmt.Sprintf("%s %s refused-by-broker %d", id(0), key(0), len(bitmap(1))), id(2)+" "+key(2)+" refused-by-broker 0")
				}
				slices.Sort(wantLetters)
				slices.Sort(letters)
				if d := cmp.Diff(wantAnswers, answers); d != "" {
					t.Errorf("answers (-want +got):\n%s", d)
				}
				if d := cmp.Diff(wantLetters, letters); d != "" {
					t.Errorf("dead letters (-want +got):\n%s", d)
				}
				if code := p.terminate(time.Minute); code != 0 {
					t.Errorf("SIGTERM: exit status %d", code)
				}
				log := p.output()
				for topic, config := range map[string]map[string]string{outputTopic: topics.output, deadLetterTopic: topics.deadLetter} {
					warned := strings.Contains(log, `level=WARN msg="`+topic+` is compacted`)
					if warned != (config != nil) {
						t.Errorf("the start warns of %s: %v\n%s", topic, warned, log)
					}
				}
			})
		})
	}
}
