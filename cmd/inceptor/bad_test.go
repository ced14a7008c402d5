package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
	"inceptor/testenv"
	"inceptor/testenv/corpus"
)

// Every bad input becomes a whole dead letter with a true reason. Every good one among them is
// answered. The process goes on, and its memory does not grow.
func TestBadInput(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t, "message.max.bytes=40000000", "replica.fetch.max.bytes=40000000")
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	site := corpus.Serve(t)
	root := t.TempDir()
	photos := photos(t)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	bad := slices.Concat(corpus.Bad(seed), corpus.Files(t, root), site.Cases())
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(bad), func(i, j int) { bad[i], bad[j] = bad[j], bad[i] })

	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	p := start(t, runArgs(t, broker.Addr(),
		"--input.files.root", root,
		"--input.fetch.hosts", strings.Join(append(corpus.ForbiddenHosts(), site.Host), ","),
		"--input.fetch.private", site.Network,
		"--input.fetch.timeout", "15s")...)
	client := newClient(t, broker.Addr(), kgo.ProducerBatchMaxBytes(30_000_000), kgo.MaxBufferedBytes(200_000_000))

	// Twice: the first round fills caches, so the second one must not need more memory.
	var resident [2]int
	for round := range resident {
		var records []*kgo.Record
		for i, c := range bad {
			key := fmt.Sprintf("%d/bad/%d", round, i)
			records = append(records, &kgo.Record{Topic: inputTopic, Key: []byte(key), Value: c.Value})
			if i%10 == 0 {
				key := fmt.Sprintf("%d/good/%d", round, i)
				records = append(records, &kgo.Record{Topic: inputTopic, Key: []byte(key), Value: photos[i/10%len(photos)].bytes})
			}
		}
		if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		out.awaitDistinct(t, (round+1)*len(records), patience, outputTopic, deadLetterTopic)
		resident[round] = p.residentMB()
	}
	peak := p.memoryMB("VmHWM")
	t.Logf("%d bad records, twice; resident memory %d MB after the first time, %d MB after the second, %d MB at the peak",
		len(bad), resident[0], resident[1], peak)
	// Over five rounds, it varies by 7 % around its mean, as the collector is slow with records of
	// 17 MB.
	if resident[1] > resident[0]*125/100 {
		t.Errorf("resident memory grew from %d to %d MB", resident[0], resident[1])
	}
	// It is 1 GB, and 1.5 to 1.9 with the race detector; what declares 2 GiB and got them would
	// show.
	if peak > 2600 {
		t.Errorf("resident memory was %d MB at the peak", peak)
	}
	address := p.await(`listening address=(\S+)`, patience)
	awaitMetrics(t, address, "inceptor_live_tensors 0", "inceptor_leaked_tensors_total 0", "inceptor_in_flight_records 0", "inceptor_in_flight_bytes 0")

	letters, answers := byKey(t, out.from(deadLetterTopic)), byKey(t, out.from(outputTopic))
	for round := range resident {
		for i, c := range bad {
			key := fmt.Sprintf("%d/bad/%d", round, i)
			letter, answer := letters[key], answers[key]
			switch {
			case letter == nil && answer == nil:
				t.Errorf("%s: lost", c.Name)
			case letter != nil && answer != nil:
				t.Errorf("%s: both answered and a dead letter", c.Name)
			case letter == nil && !c.Either:
				t.Errorf("%s: answered: %s", c.Name, answer.Value)
			case letter != nil:
				checkLetter(t, c, letter)
			}
			if i%10 != 0 {
				continue
			}
			photo := photos[i/10%len(photos)]
			key = fmt.Sprintf("%d/good/%d", round, i)
			if answers[key] == nil {
				t.Errorf("%s: %s among bad records was not answered", key, photo.name)
				continue
			}
			var a service.Answer
			if err := json.Unmarshal(answers[key].Value, &a); err != nil {
				t.Fatal(err)
			}
			if best := slices.Max(photo.scores); float64(a.Predictions[0].Score) < best-1e-4 {
				t.Errorf("%s: %s scores %v, want %v", key, photo.name, a.Predictions[0].Score, best)
			}
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

func byKey(t *testing.T, records []*kgo.Record) map[string]*kgo.Record {
	t.Helper()
	m := map[string]*kgo.Record{}
	for _, r := range records {
		if m[string(r.Key)] != nil {
			t.Errorf("%s came twice", r.Key)
		}
		m[string(r.Key)] = r
	}
	return m
}

func checkLetter(t *testing.T, c corpus.Case, letter *kgo.Record) {
	t.Helper()
	if reason := lastHeader(letter, "inceptor-reason"); !slices.Contains(c.Reasons, reason) {
		t.Errorf("%s: reason %q (%s), want one of %q", c.Name, reason, lastHeader(letter, "inceptor-error"), c.Reasons)
	}
	if !bytes.Equal(letter.Value, c.Value) {
		t.Errorf("%s: the dead letter has %d bytes, the record had %d", c.Name, len(letter.Value), len(c.Value))
	}
	for _, key := range []string{"inceptor-error", "inceptor-topic", "inceptor-partition", "inceptor-offset", "inceptor-id"} {
		if lastHeader(letter, key) == "" {
			t.Errorf("%s: the dead letter has no header %s", c.Name, key)
		}
	}
}
