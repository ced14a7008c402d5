package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// A compactedCase says which topics are compacted, by their configurations.
type compactedCase struct {
	name               string
	output, deadLetter map[string]string
}

// A compacted topic takes no record without a key. An answer without one becomes a dead letter that
// says so. A dead letter without one gets its id as the key. The start warns of both.
func TestCompactedTopics(t *testing.T) {
	t.Parallel()
	compact := map[string]string{"cleanup.policy": "compact"}
	both := map[string]string{"cleanup.policy": "compact,delete"}
	model, broker := testenv.Tiny(t), testenv.StartBroker(t)
	t.Run("cases", func(t *testing.T) { // the broker outlives them
		for _, test := range []compactedCase{
			{name: "output", output: compact},
			{name: "dead letter", deadLetter: compact},
			{name: "both", output: compact, deadLetter: both},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				bothGuarantees(t, func(t *testing.T, delivery string) {
					test.check(t, model, broker.Addr(), delivery)
				})
			})
		}
	})
}

func (c compactedCase) check(t *testing.T, model, broker, delivery string) {
	topics := topicsOf(strings.ReplaceAll(c.name, " ", "-") + "-" + delivery)
	createTopics(t, broker, 1, nil, topics.input)
	createTopics(t, broker, 1, c.output, topics.output)
	createTopics(t, broker, 1, c.deadLetter, topics.deadLetter)
	p := start(t, append(runArgs(t, broker, "--model.dir", model, "--kafka.delivery", delivery,
		"--kafka.tombstones", "forward"), topics.args()...)...)
	p.await(`listening address=(\S+)`, patience)
	out := followCommitted(t, broker, topics.output, topics.deadLetter)
	records := []*kgo.Record{
		{Value: bitmap(1)},
		{Value: []byte("\x00")},
		{Value: nil},
		{Key: []byte("k"), Value: bitmap(3)},
		{Key: []byte("k"), Value: nil},
		{Key: []byte("k"), Value: []byte("\x00")},
	}
	for _, r := range records {
		r.Topic = topics.input
	}
	produce(t, broker, records...)
	out.awaitDistinct(t, len(records), patience, topics.output, topics.deadLetter)

	var answers, letters []string
	for _, r := range out.from(topics.output) {
		answers = append(answers, lastHeader(r, "inceptor-id")+" "+string(r.Key))
	}
	for _, r := range out.from(topics.deadLetter) {
		reason := lastHeader(r, "inceptor-reason")
		letters = append(letters, fmt.Sprintf("%s %s %s %d", lastHeader(r, "inceptor-id"), r.Key, reason, len(r.Value)))
		text := lastHeader(r, "inceptor-error")
		if noKey := strings.Contains(text, "takes no record without a key"); noKey != (reason == "refused-by-broker") {
			t.Errorf("%s: %s", reason, text)
		}
	}
	slices.Sort(letters)
	wantAnswers, wantLetters := c.expected(topics)
	if d := cmp.Diff(wantAnswers, answers); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
	if d := cmp.Diff(wantLetters, letters); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
	for topic, config := range map[string]map[string]string{topics.output: c.output, topics.deadLetter: c.deadLetter} {
		warned := strings.Contains(p.output(), `level=WARN msg="`+topic+` is compacted`)
		if warned != (config != nil) {
			t.Errorf("the start warns of %s: %v\n%s", topic, warned, p.output())
		}
	}
}

// expected returns the ids and keys of the answers, and the ids, keys, reasons and sizes of the
// dead letters in order.
func (c compactedCase) expected(topics topicSet) (answers, letters []string) {
	key := func(offset int) string { // of the dead letter of a record that has none
		if c.deadLetter != nil {
			return topics.id(offset)
		}
		return ""
	}
	answers = []string{topics.id(3) + " k", topics.id(4) + " k"}
	letters = []string{topics.id(1) + " " + key(1) + " unknown-format 1", topics.id(5) + " k unknown-format 1"}
	if c.output == nil {
		answers = append([]string{topics.id(0) + " ", topics.id(2) + " "}, answers...)
	} else {
		letters = append(letters,
			fmt.Sprintf("%s %s refused-by-broker %d", topics.id(0), key(0), len(bitmap(1))),
			topics.id(2)+" "+key(2)+" refused-by-broker 0")
	}
	slices.Sort(letters)
	return answers, letters
}
