package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
)

// A service answers in float32 at first. It calibrates int8 on the stream, compares it with float32
// there, and swaps it in while records flow: none is lost or answered twice, and each partition
// keeps its order. A restart begins in int8, and a new version in float32. With -nightly, the model
// is the Inception.
func TestPrecisionFromTheStream(t *testing.T) {
	t.Parallel()
	base, pictures, pause, limit := t.TempDir(), tinyPhotos(), 10*time.Millisecond, 2*patience
	publishNext := func(version string) {
		t.Helper()
		made := filepath.Join(testenv.Tiny(t, "--kind", "convolutions", "--version", version), version)
		if err := os.Rename(made, filepath.Join(base, version)); err != nil {
			t.Fatal(err)
		}
	}
	if *nightly {
		pictures, pause, limit = photos(t), 250*time.Millisecond, 20*time.Minute
		publishNext = func(version string) {
			t.Helper()
			publish(t, filepath.Join(base, version), func(dir string) {
				if err := os.WriteFile(filepath.Join(dir, "assets.extra", "note"), []byte(version), 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	publishNext("1")
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	args := runArgs(t, broker.Addr(), "--model.dir", base, "--model.poll", "500ms", "--model.quiet", "200ms",
		"--model.probation.period", "1s", "--model.probation.slowdown", "0", "--model.precision", "int8", "--model.calibration.records", "16")
	p := startAtNormalPriority(t, args...)
	address := p.await(`listening address=(\S+)`, patience)
	sent := 0
	load := func(until string) {
		t.Helper()
		re := regexp.MustCompile(until)
		for end := time.Now().Add(limit); !re.MatchString(p.output()); time.Sleep(pause) {
			if time.Now().After(end) {
				_, models := get(t, address+"/models")
				t.Fatalf("output does not match %q after %d records; %s", until, sent, models)
			}
			produce(t, broker.Addr(), numbered(pictures, sent, 2)...)
			sent += 2
		}
	}
	load(`msg="another precision serves" model=inception version=1 precision=int8`)
	load(`msg="version passed its probation"`)
	produce(t, broker.Addr(), numbered(pictures, sent, 10)...)
	sent += 10
	out.awaitDistinct(t, sent, patience, outputTopic)
	if got := precisionsOf(t, out.from(outputTopic)); got != "float32 int8" {
		t.Errorf("answers in %q", got)
	}
	if code, stdout, stderr := execute(t, "models", "--address", strings.TrimPrefix(address, "http://")); code != 0 ||
		!regexp.MustCompile(`1 +serving .*int8 onednn .*\n +int8 since \d+ of \d+ records have the same best class`).MatchString(stdout) {
		t.Errorf("inceptor models: exit status %d\n%s%s", code, stdout, stderr)
	}
	awaitMetrics(t, address, `inceptor_model_precision{precision="int8"} 1`, `inceptor_precision_verdicts_total{precision="int8",verdict="agrees"} 1`,
		`inceptor_precision_agreement_ratio{precision="int8"} 1`, "inceptor_model_serving_version 1", "inceptor_leaked_tensors_total 0")
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}

	// What is known of the version holds after a restart, and not for another version.
	p = startAtNormalPriority(t, args...)
	address = p.await(`listening address=(\S+)`, patience)
	p.await(`msg="version serving" model=inception version=1 .*precision=int8`, patience)
	produce(t, broker.Addr(), numbered(pictures, sent, 10)...)
	out.awaitDistinct(t, sent+10, patience, outputTopic)
	if got := precisionsOf(t, out.from(outputTopic)[sent:]); got != "int8" {
		t.Errorf("after a restart, answers are in %q", got)
	}
	sent += 10
	publishNext("2")
	load(`msg="version serving" model=inception version=2 .*precision=float32`)
	load(`msg="calibrating another precision on records.*version=2`)
	out.awaitDistinct(t, sent, patience, outputTopic)

	answers := out.from(outputTopic)
	if repeats := checkAnswers(t, pictures, answers); repeats > 0 || len(answers) != sent || len(out.from(deadLetterTopic)) > 0 {
		t.Errorf("%d records, %d answers, %d of them repeats, %d dead letters", sent, len(answers), repeats, len(out.from(deadLetterTopic)))
	}
	checkFormat(t, answers)
	logTimes(t, answers)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// logTimes logs how long answers took in the service, by precision.
func logTimes(t *testing.T, answers []*kgo.Record) {
	t.Helper()
	took := map[string][]float64{}
	for _, r := range answers {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		took[a.Precision] = append(took[a.Precision], a.Timings.Wait+a.Timings.Decode+a.Timings.Infer)
	}
	for precision, list := range took {
		slices.Sort(list)
		t.Logf("%s: %d answers, median %.1f ms, 99 %% within %.1f ms", precision, len(list), list[len(list)/2], list[len(list)*99/100])
	}
}

// precisionsOf lists the precisions of answers.
func precisionsOf(t *testing.T, answers []*kgo.Record) string {
	t.Helper()
	var found []string
	for _, r := range answers {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if !slices.Contains(found, a.Precision) {
			found = append(found, a.Precision)
		}
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}
