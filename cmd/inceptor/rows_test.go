package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
)

// Records need not be images: rows of several inputs are answered by a local version and by a model
// server. Bad rows become dead letters.
func TestRows(t *testing.T) {
	t.Parallel()
	model := testenv.Tiny(t, "--kind", "mixed")
	var records []*kgo.Record
	want := map[string]float32{} // by key
	reasons := map[string]string{}
	for i := range 500 {
		key := fmt.Sprint(i)
		value := fmt.Sprintf(`{"word":%q,"age":%d,"member":%t,"numbers":[0.25,%d]}`, strings.Repeat("w", i%7), i, i%2 == 0, -i)
		if i%10 == 9 {
			value, reasons[key] = strings.Replace(value, `"age"`, `"years"`, 1), "bad-row"
		} else {
			want[key] = float32(i)/2 + 0.25 - float32(i) + float32(i%7)
			if i%2 == 0 {
				want[key] += 100
			}
		}
		records = append(records, &kgo.Record{Key: []byte(key), Value: []byte(value)})
	}
	records = append(records, &kgo.Record{Key: []byte("empty")})
	reasons["empty"] = "empty"
	server, broker := testenv.StartServing(t, "inception", model), testenv.StartBroker(t)
	t.Run("cases", func(t *testing.T) { // the servers outlive them
		for _, test := range []struct {
			name string
			args []string
		}{
			{"local", nil},
			{"exactly-once", []string{"--kafka.delivery", "exactly_once"}},
			{"remote", []string{"--model.backend", "remote", "--fallback.address", server.Addr(), "--fallback.timeout", "1m", "--fallback.budget", "2m"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				args := runArgs(t, broker.Addr(), "--model.dir", model, "--input.format", "tensor-json")
				checkRows(t, broker.Addr(), topicsOf(test.name), append(args, test.args...), records, want, reasons)
			})
		}
	})
}

// checkRows sends records to a service. The answers must have these values, and the dead letters
// these reasons, by key.
func checkRows(
	t *testing.T, broker string, topics topicSet, args []string,
	records []*kgo.Record, want map[string]float32, reasons map[string]string,
) {
	createTopics(t, broker, 1, nil, topics.input, topics.output, topics.deadLetter)
	out := follow(t, broker, topics.output, topics.deadLetter)
	sent := make([]*kgo.Record, len(records))
	for i, r := range records {
		sent[i] = &kgo.Record{Topic: topics.input, Key: r.Key, Value: r.Value}
	}
	produce(t, broker, sent...)
	p := start(t, append(args, topics.args()...)...)
	out.awaitDistinct(t, len(records), patience, topics.output, topics.deadLetter)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
	answers := out.from(topics.output)
	checkFormat(t, answers)
	for _, r := range answers {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		w, ok := want[string(r.Key)]
		if !ok || !slices.Equal(valuesOf(t, a, "value"), []float32{w}) || a.Predictions != nil || a.Image != nil {
			t.Fatalf("%s: got %s, want %v", r.Key, r.Value, w)
		}
	}
	for _, r := range out.from(topics.deadLetter) {
		if reason := lastHeader(r, "inceptor-reason"); reason != reasons[string(r.Key)] {
			t.Errorf("%s: reason %q, want %q", r.Key, reason, reasons[string(r.Key)])
		}
	}
	if got := len(answers); got != len(want) {
		t.Errorf("%d answers, want %d", got, len(want))
	}
}

// valuesOf returns the numbers of one of an answer's outputs.
func valuesOf(t *testing.T, a service.Answer, key string) (values []float32) {
	t.Helper()
	if err := json.Unmarshal(a.Outputs[key], &values); err != nil {
		t.Errorf("%s: %s: %v", a.ID, key, err)
	}
	return values
}

// near tells whether two scores are equal except for rounding, which depends on the batch.
func near(a, b float32) bool { return max(a-b, b-a) < 1e-5 }

// A new version of a model of rows is compared on the last rows and begins as a canary, as one of
// images does.
func TestRowsCanary(t *testing.T) {
	t.Parallel()
	base := testenv.Tiny(t, "--kind", "dense")
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	p := startAtNormalPriority(t, runArgs(t, broker.Addr(), "--model.dir", base, "--input.format", "tensor-json", "--model.quiet", "100ms",
		"--model.gate.agreement", "1", "--model.rollout", "canary", "--model.canary", "50",
		"--model.probation.slowdown", "0")...)
	sent := 0
	send := func() {
		t.Helper()
		for i := range 50 {
			value := "[" + strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%d,", i), 32), ",") + "]"
			produce(t, broker.Addr(), &kgo.Record{Topic: inputTopic, Key: fmt.Append(nil, i), Value: []byte(value)})
			sent++
		}
		out.awaitDistinct(t, sent, patience, outputTopic)
	}
	send()
	newer := testenv.Tiny(t, "--kind", "dense", "--version", "2")
	if err := os.CopyFS(filepath.Join(base, "coming"), os.DirFS(filepath.Join(newer, "2"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(base, "coming"), filepath.Join(base, "2")); err != nil {
		t.Fatal(err)
	}
	p.await("canary", patience)
	send()
	scores := map[string][]float32{} // by key; both versions have the same weights
	labels := map[string]int{}
	for _, r := range out.from(outputTopic) {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		got := valuesOf(t, a, "scores")
		if before, ok := scores[string(r.Key)]; ok && !slices.EqualFunc(before, got, near) || len(got) != 10 {
			t.Errorf("%s: got %v, %v before", r.Key, got, before)
		}
		scores[string(r.Key)] = got
		labels[fmt.Sprint(versionOf(a), a.VersionLabel)]++
	}
	if labels["1stable"] < 55 || labels["2canary"] < 5 || len(labels) != 2 {
		t.Errorf("answers by version and label: %v", labels)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// tf.Examples go to the model as they are, locally and on a model server. One that the model cannot
// parse becomes a dead letter and affects no other record.
func TestExamples(t *testing.T) {
	t.Parallel()
	model := testenv.Tiny(t, "--kind", "example")
	server, broker := testenv.StartServing(t, "inception", model), testenv.StartBroker(t)
	t.Run("cases", func(t *testing.T) { // the servers outlive them
		for name, args := range map[string][]string{
			"local":  nil,
			"remote": {"--model.backend", "remote", "--fallback.address", server.Addr(), "--fallback.timeout", "1m", "--fallback.budget", "2m"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				all := append(runArgs(t, broker.Addr(), "--model.dir", model, "--input.format", "example"), args...)
				checkExamples(t, broker.Addr(), topicsOf(name), all)
			})
		}
	})
}

// checkExamples sends tf.Examples, and records that are none, to a service with these arguments.
func checkExamples(t *testing.T, broker string, topics topicSet, args []string) {
	createTopics(t, broker, 1, nil, topics.input, topics.output, topics.deadLetter)
	out := follow(t, broker, topics.output, topics.deadLetter)
	var records []*kgo.Record
	for i := range 40 {
		value := example(byte(i%2), 1)
		if i%8 == 3 {
			value = []byte("no example")
		}
		records = append(records, &kgo.Record{Topic: topics.input, Key: fmt.Append(nil, i), Value: value})
	}
	produce(t, broker, records...)
	args = append(args, topics.args()...)
	if code, stdout, stderr := execute(t, append([]string{"check"}, args[1:]...)...); code != 0 {
		t.Errorf("check: exit status %d\n%s%s", code, stdout, stderr)
	}
	p := start(t, args...)
	out.awaitDistinct(t, len(records), patience, topics.output, topics.deadLetter)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
	checkFormat(t, out.from(topics.output))
	for _, r := range out.from(topics.output) {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		// The softmax of (x, 1) with x 0 or 1.
		number, err := strconv.Atoi(string(r.Key))
		if err != nil {
			t.Fatal(err)
		}
		class, score := "bright", float32(0.7310586)
		if number%2 == 1 {
			class, score = "dark", 0.5
		}
		if a.Class != class || !near(a.Score, score) || len(a.Predictions) != 2 || a.Predictions[0].Label != class || a.Outputs != nil {
			t.Errorf("%s: got %s", r.Key, r.Value)
		}
	}
	for _, r := range out.from(topics.deadLetter) {
		if reason := lastHeader(r, "inceptor-reason"); reason != "model-refused" || string(r.Value) != "no example" {
			t.Errorf("%s: %q is a dead letter for %s: %s", r.Key, r.Value, reason, lastHeader(r, "inceptor-error"))
		}
	}
	if answers, dead := len(out.from(topics.output)), len(out.from(topics.deadLetter)); answers != 35 || dead != 5 {
		t.Errorf("%d answers and %d dead letters", answers, dead)
	}
}

// example is a tf.Example with the feature x of two floats that are 0 or 1
// (tensorflow/core/example/example.proto).
func example(values ...byte) []byte {
	field := func(number byte, content []byte) []byte { // of type LEN
		return append([]byte{number<<3 | 2, byte(len(content))}, content...)
	}
	var floats []byte
	for _, v := range values {
		floats = append(floats, 0, 0, 0x80*v, 0x3f*v) // little endian
	}
	feature := field(2, field(1, floats)) // float_list, value
	entry := append(field(1, []byte("x")), field(2, feature)...)
	return field(1, field(1, entry))
}
