package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
)

const (
	inputTopic      = "ImageInputTopic"
	outputTopic     = "ImageOutputTopic"
	deadLetterTopic = "ImageDeadLetterTopic"
)

func runArgs(t *testing.T, broker string, more ...string) []string {
	return append([]string{
		"run", "--kafka.brokers", broker, "--model.dir", testenv.Model(t),
		"--tensorflow.library", testenv.TensorFlow(t), "--http.listen", "127.0.0.1:0",
	}, more...)
}

// A photo is an image with Python TensorFlow's answer to it.
type photo struct {
	name   string
	bytes  []byte
	scores []float64
}

func photos(t *testing.T) []photo {
	t.Helper()
	var out []photo
	for _, a := range testenv.Answers(t) {
		if filepath.Dir(a.File) != testenv.Photos(t) || a.Error != "" {
			continue
		}
		b, err := os.ReadFile(a.File)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, photo{filepath.Base(a.File), b, a.Scores})
	}
	if len(out) < 5 {
		t.Fatalf("only %d photos with answers", len(out))
	}
	return out
}

// Records are an hour old: not so old that the broker's retention removes them.
var firstTime = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

func timeOf(number int) time.Time { return firstTime.Add(time.Duration(number) * time.Millisecond) }

// numbered returns n records made from the photos, each with a key and headers.
func numbered(photos []photo, from, n int) []*kgo.Record {
	records := make([]*kgo.Record, n)
	for i := range records {
		number := from + i
		p := photos[number%len(photos)]
		records[i] = &kgo.Record{
			Topic: inputTopic, Key: fmt.Appendf(nil, "%04d", number), Value: p.bytes,
			Timestamp: timeOf(number),
			Headers: []kgo.RecordHeader{
				{Key: "photo", Value: []byte(p.name)}, {Key: "twice", Value: []byte("a")}, {Key: "twice", Value: []byte("b")},
			},
		}
	}
	return records
}

// versionOf returns the version that has answered, or -1 if the answer names none.
func versionOf(a service.Answer) int64 {
	if a.Version == nil {
		return -1
	}
	return *a.Version
}

// checkFormat checks that answers fulfil the JSON Schema for readers.
func checkFormat(t *testing.T, answers []*kgo.Record) {
	t.Helper()
	values := make([][]byte, len(answers))
	for i, r := range answers {
		values[i] = r.Value
		if format := lastHeader(r, "inceptor-format"); format != "2" {
			t.Errorf("%s: format %q", r.Value, format)
		}
	}
	for i, wrong := range testenv.Validate(t, filepath.Join(testenv.Root(t), "docs", "schemas", "answer.schema.json"), values...) {
		if wrong != "" {
			t.Errorf("%s: %s", values[i], wrong)
		}
	}
}

// checkAnswers checks every answer against its photo, and the order of each partition, leaving out
// repeats. It returns the number of repeats.
func checkAnswers(t *testing.T, photos []photo, answers []*kgo.Record) (repeats int) {
	t.Helper()
	seen := map[string]bool{}
	last := map[int32]int64{}
	for _, r := range answers {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if seen[a.ID] {
			repeats++
			continue
		}
		seen[a.ID] = true
		partition, offset := position(t, a.ID)
		if before, ok := last[partition]; ok && offset <= before {
			t.Errorf("partition %d: %d was answered after %d", partition, offset, before)
		}
		last[partition] = offset

		number, err := strconv.Atoi(string(r.Key))
		if err != nil {
			t.Fatal(err)
		}
		want, tolerance := photos[number%len(photos)], 1e-4
		if a.Precision == "int8" {
			tolerance = 0.05
			if *nightly { // the Inception, with few records to calibrate on
				tolerance = 0.3
			}
		}
		for _, c := range a.Predictions {
			if math.Abs(float64(c.Score)-want.scores[*c.Index]) > tolerance {
				t.Errorf("%s (%s): class %d scores %v, want %v", a.ID, want.name, *c.Index, c.Score, want.scores[*c.Index])
			}
		}
		if len(r.Headers) != 6 || string(r.Headers[0].Value) != want.name || string(r.Headers[2].Value) != "b" {
			t.Errorf("%s: headers are %v", a.ID, r.Headers)
		}
		if want := timeOf(number); !r.Timestamp.Equal(want) {
			t.Errorf("%s: its time is %v, want the input's, %v", a.ID, r.Timestamp, want)
		}
	}
	return repeats
}

// No record is lost when the service is killed twice and the broker once. SIGTERM causes no
// repeats.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 3, nil, inputTopic, outputTopic, deadLetterTopic)
	photos := photos(t)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)

	const n = 200
	produce(t, broker.Addr(), numbered(photos, 0, n)...)
	p := start(t, runArgs(t, broker.Addr())...)
	out.awaitDistinct(t, n/10, patience, outputTopic)
	p.kill()
	p = start(t, runArgs(t, broker.Addr())...)
	out.awaitDistinct(t, n*3/10, patience, outputTopic)
	p.kill()
	p = start(t, runArgs(t, broker.Addr(), "--kafka.window.records", "4")...)
	out.awaitDistinct(t, n*5/10, patience, outputTopic)
	broker.Kill()
	time.Sleep(time.Second)
	broker.Restart()
	out.awaitDistinct(t, n, patience, outputTopic)
	t.Logf("%d repeats after two kills of the service and one of the broker", checkAnswers(t, photos, out.from(outputTopic)))
	if dead := out.from(deadLetterTopic); len(dead) > 0 {
		t.Errorf("%d dead letters, the first: %v", len(dead), dead[0].Headers)
	}

	// From here on nothing may come twice.
	before := len(out.from(outputTopic))
	const more = 120
	produce(t, broker.Addr(), numbered(photos, n, more)...)
	out.awaitDistinct(t, n+15, patience, outputTopic)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
	if stopped := out.distinct(outputTopic); stopped == n+more {
		t.Error("all were answered before SIGTERM took effect: it was not in the middle")
	}
	p = start(t, runArgs(t, broker.Addr())...)
	out.awaitDistinct(t, n+more, patience, outputTopic)
	p.await("assigned", patience)
	time.Sleep(time.Second)
	if got := len(out.from(outputTopic)) - before; got != more {
		t.Errorf("SIGTERM and restart: %d answers for %d records", got, more)
	}
	checkAnswers(t, photos, out.from(outputTopic))
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM when idle: exit status %d", code)
	}
}
