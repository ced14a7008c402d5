package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
)

// bitmap is a BMP of 8×8, all of one grey.
func bitmap(grey byte) []byte {
	head := "BM\xf6\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00" +
		"\x28\x00\x00\x00\x08\x00\x00\x00\x08\x00\x00\x00\x01\x00\x18\x00\x00\x00\x00\x00\xc0\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	return append([]byte(head), slices.Repeat([]byte{grey}, 8*8*3)...)
}

// A record that crashes the process in native code takes out itself, not the
// partition: whoever restarts the process, as a supervisor does, sees it go on
// after the second crash.
func TestNativeCrash(t *testing.T) {
	model, broker := testenv.Tiny(t, "--crash"), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	const n, guilty = 60, 23
	var records []*kgo.Record
	for i := range n {
		grey := byte(10 + i)
		if i == guilty {
			grey = 255
		}
		records = append(records, &kgo.Record{Topic: inputTopic, Key: fmt.Appendf(nil, "%d", i), Value: bitmap(grey)})
	}
	produce(t, broker.Addr(), records...)

	journal := t.TempDir()
	crashes := 0
	var p *process
	for end := time.Now().Add(3 * time.Minute); out.distinct(outputTopic, deadLetterTopic) < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d records after %d crashes", out.distinct(outputTopic, deadLetterTopic), n, crashes)
		}
		if p != nil {
			select {
			case <-p.done:
				crashes++
				if !strings.Contains(p.output(), "a white pixel") {
					t.Fatalf("it ended for another reason:\n%s", p.output())
				}
				p = nil
			default:
			}
		}
		if p == nil {
			p = start(t, runArgs(t, broker.Addr(), "--model.dir", model, "--crash.journal", journal)...)
		}
	}
	if crashes != 2 {
		t.Errorf("%d crashes, want 2: among others, and alone", crashes)
	}
	dead := out.of(deadLetterTopic)
	if len(dead) != 1 || string(dead[0].Key) != fmt.Sprint(guilty) || lastHeader(dead[0], "inceptor-reason") != "crashed" {
		t.Errorf("%d dead letters: %v", len(dead), dead)
	}
	order := map[int32]int64{}
	seen := map[string]bool{}
	for _, r := range out.of(outputTopic) {
		id := lastHeader(r, "inceptor-id")
		var partition int32
		var offset int64
		if _, err := fmt.Sscanf(id, inputTopic+"-%d-%d", &partition, &offset); err != nil {
			t.Fatal(err)
		}
		if !seen[id] && offset < order[partition] {
			t.Errorf("%s was answered after %d", id, order[partition])
		}
		seen[id] = true
		order[partition] = max(order[partition], offset)
	}
	if len(seen) != n-1 {
		t.Errorf("%d records were answered, want %d", len(seen), n-1)
	}
	if code := p.terminate(30 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// A new version that crashes the process is taken back, and not the record
// that it crashed on.
func TestVersionCrashes(t *testing.T) {
	base, broker := testenv.Tiny(t), testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 1, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	args := runArgs(t, broker.Addr(), "--model.dir", base, "--crash.journal", t.TempDir(), "--model.probation.period", "5m")
	p := start(t, args...)
	p.await("serving model=inception version=1", time.Minute)
	crashing := filepath.Join(testenv.Tiny(t, "--crash", "--version", "2"), "2")
	if err := os.Rename(crashing, filepath.Join(base, "2")); err != nil {
		t.Fatal(err)
	}
	p.await("serving model=inception version=2", time.Minute)
	produce(t, broker.Addr(), &kgo.Record{Topic: inputTopic, Key: []byte("white"), Value: bitmap(255)})
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatal("it does not crash")
	}
	p = start(t, args...)
	p.await(`taken back.* version=2 cause=crash`, time.Minute)
	out.awaitDistinct(t, 1, time.Minute, outputTopic)
	var a service.Answer
	if err := json.Unmarshal(out.of(outputTopic)[0].Value, &a); err != nil {
		t.Fatal(err)
	}
	if dead := out.of(deadLetterTopic); a.Version != 1 || len(dead) > 0 {
		t.Errorf("version %d answered, %d dead letters", a.Version, len(dead))
	}
	if code := p.terminate(30 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
