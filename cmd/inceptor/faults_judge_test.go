package main

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The verifier finds every kind of error.
func TestFaultsVerifier(t *testing.T) {
	asked := map[string]sentRecord{}
	for offset := range 3 {
		asked[fmt.Sprintf("%s-0-%d", inputTopic, offset)] = sentRecord{key: fmt.Sprint(offset), label: "dark"}
	}
	asked[inputTopic+"-0-3"] = sentRecord{key: "3", reason: "empty"}
	asked[inputTopic+"-0-4"] = sentRecord{key: "4", label: "dark", aborted: true}
	output := func(topic string, offset int, more ...kgo.RecordHeader) *kgo.Record {
		id := fmt.Sprintf("%s-0-%d", inputTopic, offset)
		return &kgo.Record{
			Topic: topic, Key: fmt.Append(nil, offset), Headers: append(more, kgo.RecordHeader{Key: "inceptor-id", Value: []byte(id)}),
			Value: fmt.Appendf(nil, `{"id":%q,"predictions":[{"label":"dark"}]}`, id),
		}
	}
	reason := func(word string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: "inceptor-reason", Value: []byte(word)}
	}
	a, b, c := output(outputTopic, 0), output(outputTopic, 1), output(outputTopic, 2)
	dead := output(deadLetterTopic, 3, reason("empty"))
	swapped := output(outputTopic, 2)
	swapped.Key = []byte("1")
	strayed := output(outputTopic, 2)
	strayed.Partition = 1
	bright := output(outputTopic, 2)
	bright.Value = fmt.Appendf(nil, `{"id":"%s-0-2","predictions":[{"label":"bright"}]}`, inputTopic)

	for name, test := range map[string]struct {
		outputs []*kgo.Record
		want    verdict
	}{
		"no error":                 {[]*kgo.Record{a, b, dead, c}, verdict{answers: 3, deadLetters: 1}},
		"one lost":                 {[]*kgo.Record{a, c, dead}, verdict{answers: 2, deadLetters: 1, lost: 1}},
		"repeat":                   {[]*kgo.Record{a, b, a, c, dead}, verdict{answers: 3, deadLetters: 1, repeats: 1}},
		"out of order":             {[]*kgo.Record{a, c, b, dead}, verdict{answers: 3, deadLetters: 1, disorder: 1}},
		"another key":              {[]*kgo.Record{a, b, swapped, dead}, verdict{answers: 3, deadLetters: 1, wrong: 1}},
		"another partition":        {[]*kgo.Record{a, b, strayed, dead}, verdict{answers: 3, deadLetters: 1, wrong: 1}},
		"another label":            {[]*kgo.Record{a, b, bright, dead}, verdict{answers: 3, deadLetters: 1, wrong: 1}},
		"another reason":           {[]*kgo.Record{a, b, c, output(deadLetterTopic, 3, reason("too-large"))}, verdict{answers: 3, deadLetters: 1, wrong: 1}},
		"poison answered":          {[]*kgo.Record{a, b, c, output(outputTopic, 3)}, verdict{answers: 4, wrong: 1}},
		"dead letter for an image": {[]*kgo.Record{a, b, dead, output(deadLetterTopic, 2, reason("empty"))}, verdict{answers: 2, deadLetters: 2, wrong: 1, disorder: 1}},
		"aborted record answered":  {[]*kgo.Record{a, b, c, dead, output(outputTopic, 4)}, verdict{answers: 3, deadLetters: 1, abortedAnswered: 1}},
		"never sent":               {[]*kgo.Record{a, b, c, dead, output(outputTopic, 9)}, verdict{answers: 3, deadLetters: 1, unasked: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &faultRun{T: t, delivery: "exactly_once", outputs: outputs{outputTopic, deadLetterTopic}, seen: &watcher{}}
			got := f.judge(test.outputs, asked)
			examples := got.examples
			got.examples = nil
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %+v, want %+v: %q", got, test.want, examples)
			}
		})
	}
}
