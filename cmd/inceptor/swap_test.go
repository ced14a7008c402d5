package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"inceptor/testenv"
)

// New versions are taken under load, however they arrive: none of the records is
// lost or answered twice, each version serves once, and only when it is whole.
// One that is rolled back makes room for the one before.
func TestHotSwap(t *testing.T) {
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	photos := photos(t)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	base := t.TempDir()
	p := start(t, runArgs(t, broker.Addr(), "--model.dir", base, "--model.poll", "1s", "--model.quiet", "500ms", "--model.probation.period", "1s",
		"--model.probation.slowdown", "0")...) // a busy machine is slow now and then
	address := p.await(`listening address=(\S+)`, patience)

	// There is no version yet: records wait, for others if there are any.
	produce(t, broker.Addr(), numbered(photos, 0, 5)...)
	p.await("no versions to look at", patience)
	time.Sleep(time.Second)
	if strings.Contains(p.output(), "assigned") {
		t.Error("it took partitions without a version")
	}
	if status, body := get(t, address+"/readyz"); status != 503 || !strings.Contains(body, "no version") {
		t.Errorf("without a version: /readyz says %d %s", status, body)
	}

	sent := 5
	load := func(until string) {
		t.Helper()
		re := regexp.MustCompile(until)
		for end := time.Now().Add(patience); !re.MatchString(p.output()); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("output does not match %q", until)
			}
			produce(t, broker.Addr(), numbered(photos, sent, 1)...)
			sent++
		}
	}
	serving := func(version int) string {
		return `msg="version serving" model=inception version=` + strconv.Itoa(version) + ` `
	}

	publish(t, filepath.Join(base, "1"))
	load(serving(1))
	publish(t, filepath.Join(base, "2"))
	load(serving(2))

	copied := make(chan struct{})
	go func() { // throttled, for about 5 s
		defer close(copied)
		copyVersion(t, filepath.Join(base, "3"), 50*time.Millisecond)
	}()
	load(serving(3))
	select {
	case <-copied:
	default:
		t.Error("version 3 serves before it is whole")
	}

	shard := "variables/variables.data-00000-of-00001"
	whole, err := os.ReadFile(filepath.Join(base, "3", shard))
	if err != nil {
		t.Fatal(err)
	}
	publish(t, filepath.Join(base, "10"), func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, shard), whole[:len(whole)-1], 0o600); err != nil {
			t.Fatal(err)
		}
	})
	load(`msg="version failed" model=inception version=10 gate=complete .*variables.data-00000-of-00001`)
	listed := regexp.MustCompile(`(?s)10 +failed .*MiB\n +complete: variables.*\n3 +serving +stable .*MiB +[0-9a-f]{12}\n(.*\n)?2 +closed.*\n1 +closed`)
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) { // version 3 may be on probation
		code, stdout, stderr := execute(t, "models", "--address", strings.TrimPrefix(address, "http://"))
		if code == 0 && listed.MatchString(stdout) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("inceptor models: exit status %d\n%s%s", code, stdout, stderr)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "10", shard), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	load(serving(10))
	if err := os.RemoveAll(filepath.Join(base, "10")); err != nil {
		t.Fatal(err)
	}

	// As rsync does: file by file, under temporary names.
	rsync := filepath.Join(base, "11")
	copyVersionAs(t, rsync, 5*time.Millisecond, func(path string) string {
		return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".Xa3f9Q")
	})
	load(serving(11))
	// As Kubernetes does: a link to a link, which is pointed elsewhere.
	copyVersion(t, filepath.Join(base, "..2026_1", "12"), 0)
	symlink(t, "..2026_1", filepath.Join(base, "..data_tmp"))
	if err := os.Rename(filepath.Join(base, "..data_tmp"), filepath.Join(base, "..data")); err != nil {
		t.Fatal(err)
	}
	symlink(t, "..data/12", filepath.Join(base, "12"))
	load(serving(12))
	produce(t, broker.Addr(), numbered(photos, sent, 3)...)
	sent += 3
	out.awaitDistinct(t, sent, patience, outputTopic)

	command := func(want string, args ...string) {
		t.Helper()
		args = append(append([]string{"models"}, args...), "--address", strings.TrimPrefix(address, "http://"))
		if code, stdout, stderr := execute(t, args...); code != 0 || !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("inceptor %v: exit status %d, want %q\n%s%s", args, code, want, stdout, stderr)
		}
	}
	command("version 12 was rolled back\nversion 11 serves\n", "rollback", "--timeout", patience.String())
	load(serving(11) + "(?s:.*)" + serving(11))
	command(`12 +rolled-back .*\n +by-hand: somebody asked for it`, "list")
	command("version 2 serves", "use", "2", "--timeout", patience.String())
	load(serving(2) + "(?s:.*)" + serving(2))
	command("highest version", "use", "highest")
	load(serving(11) + "(?s:.*)" + serving(11) + "(?s:.*)" + serving(11))
	produce(t, broker.Addr(), numbered(photos, sent, 10)...)
	sent += 10
	out.awaitDistinct(t, sent, patience, outputTopic)

	answers := out.from(outputTopic)
	if repeats := checkAnswers(t, photos, answers); repeats > 0 || len(answers) != sent || len(out.from(deadLetterTopic)) > 0 {
		t.Errorf("%d records, %d answers, %d of them repeats, %d dead letters", sent, len(answers), repeats, len(out.from(deadLetterTopic)))
	}
	versions := map[string]int{}
	for _, r := range answers {
		versions[lastHeader(r, "inceptor-model")]++
	}
	t.Logf("%d records, answered by %v", sent, versions)
	for _, v := range []string{"inception/1", "inception/2", "inception/3", "inception/10", "inception/11", "inception/12"} {
		if versions[v] == 0 {
			t.Errorf("no answer by %s", v)
		}
	}
	if n := strings.Count(p.output(), `msg="version serving"`); n != 9 {
		t.Errorf("versions began to serve %d times, want 6 as they came, and 3 by hand", n)
	}
	awaitMetrics(t, address, "inceptor_model_serving_version 11", "inceptor_model_desired_version 12", "inceptor_model_last_load_successful 1",
		`inceptor_model_rollbacks_total{cause="by-hand"} 1`,
		`inceptor_model_load_failures_total{gate="complete"} 1`, "inceptor_leaked_tensors_total 0", "inceptor_live_tensors 0")
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// Where the system gives no file events, versions are found all the same.
func TestHotSwapWithoutEvents(t *testing.T) {
	t.Parallel()
	base, broker := testenv.Tiny(t), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	p := startWithoutFileEvents(t, runArgs(t, broker.Addr(), "--model.dir", base, "--model.poll", "500ms", "--model.quiet", "500ms")...)
	p.await("file events are not available", patience)
	p.await(`msg="version serving" model=inception version=1 `, patience)
	publishTiny(t, base, 2)
	p.await(`msg="version serving" model=inception version=2 `, patience)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// A shadow sees what the stable version answers. Its answers go to a topic of their own.
func TestShadow(t *testing.T) {
	t.Parallel()
	base, broker := testenv.Tiny(t), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic, "shadow")
	photos := tinyPhotos()
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic, "shadow")
	p := startAtNormalPriority(t, runArgs(t, broker.Addr(), "--model.dir", base, "--model.quiet", "500ms", "--model.rollout", "shadow", "--kafka.shadow", "shadow")...)
	address := p.await(`listening address=(\S+)`, patience)
	p.await(`msg="version serving" model=inception version=1 `, patience)
	publishTiny(t, base, 2)
	p.await(`msg="version serving as secondary" model=inception version=2 label=shadow`, patience)
	const sent = 12
	for i := range sent { // one after the other: there is time for the shadow as well
		produce(t, broker.Addr(), numbered(photos, i, 1)...)
		out.awaitDistinct(t, i+1, patience, "shadow")
	}
	out.awaitDistinct(t, sent, patience, outputTopic)
	if repeats := checkAnswers(t, photos, out.from("shadow")); repeats > 0 || len(out.from(deadLetterTopic)) > 0 {
		t.Errorf("%d repeats, %d dead letters", repeats, len(out.from(deadLetterTopic)))
	}
	for topic, model := range map[string]string{outputTopic: "inception/1", "shadow": "inception/2"} {
		checkFormat(t, out.from(topic))
		for _, r := range out.from(topic) {
			if got := lastHeader(r, "inceptor-model"); got != model || strings.Contains(string(r.Value), `"version_label":"shadow"`) != (topic == "shadow") {
				t.Errorf("%s: an answer by %s: %s", topic, got, r.Value)
			}
		}
	}
	awaitMetrics(t, address, `inceptor_comparisons_total{asked="shadow",result="same"} 12`)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// tinyPhotos are images with the scores of the tiny model.
func tinyPhotos() []photo {
	var photos []photo
	for _, grey := range []byte{0, 60, 100, 140, 200} {
		bright := 1 / (1 + math.Exp(6-0.06*float64(grey))) // see tiny.py
		photos = append(photos, photo{fmt.Sprintf("grey %d", grey), bitmap(grey), []float64{1 - bright, bright}})
	}
	return photos
}

// publishTiny publishes a version of the tiny model.
func publishTiny(t *testing.T, base string, version int) {
	t.Helper()
	number := strconv.Itoa(version)
	made := filepath.Join(testenv.Tiny(t, "--version", number), number)
	if err := os.Rename(made, filepath.Join(base, number)); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// publish copies the Inception to dir, as a publisher should: under another
// name, then by rename.
func publish(t *testing.T, dir string, change ...func(dir string)) {
	t.Helper()
	staging := filepath.Join(filepath.Dir(dir), ".staging")
	copyVersion(t, staging, 0)
	for _, f := range change {
		f(staging)
	}
	if err := os.Rename(staging, dir); err != nil {
		t.Fatal(err)
	}
}

// copyVersion copies the Inception file by file, with a pause after each MB.
func copyVersion(t *testing.T, dir string, pause time.Duration) {
	copyVersionAs(t, dir, pause, func(path string) string { return path })
}

// copyVersionAs is copyVersion, but files have other names while they are
// copied.
func copyVersionAs(t *testing.T, dir string, pause time.Duration, temporary func(path string) string) {
	from := filepath.Join(testenv.Model(t), "1")
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dir, rel), 0o700)
		}
		to := filepath.Join(dir, rel)
		if err := copyFile(path, temporary(to), pause); err != nil {
			return err
		}
		return os.Rename(temporary(to), to)
	})
	if err != nil {
		t.Error(err)
	}
}

func copyFile(from, to string, pause time.Duration) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	for {
		n, err := io.CopyN(out, in, 1<<20)
		if n < 1<<20 || err != nil {
			if err == io.EOF { //nolint:errorlint // io.CopyN gives just this
				err = nil
			}
			return err
		}
		time.Sleep(pause)
	}
}
