package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service"
)

// A watcher records when the first answer to each record, or its dead letter, could be read.
type watcher struct {
	mu sync.Mutex
	at map[string]time.Time // by id
}

func watch(t *testing.T, broker string, committedOnly bool, topics []string, opts ...kgo.Opt) *watcher {
	client := newClient(t, broker, append(append(isolation(committedOnly), kgo.ConsumeTopics(topics...)), opts...)...)
	w := &watcher{at: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(w.record)
		}
	}()
	return w
}

func isolation(committedOnly bool) []kgo.Opt {
	if committedOnly {
		return []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted())}
	}
	return nil
}

func (w *watcher) record(r *kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id := lastHeader(r, "inceptor-id"); w.at[id].IsZero() {
		w.at[id] = time.Now()
	}
}

func (w *watcher) first(id string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at[id]
}

// without returns those ids of which nothing could be read yet.
func (w *watcher) without(ids []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(ids, func(id string) bool { return !w.at[id].IsZero() })
}

// A verdict is what the verifier finds. It counts records.
type verdict struct {
	answers, deadLetters int // to different records
	repeats              int
	abortedAnswered      int // records of aborted transactions
	lost                 int
	unasked              int // for records that were never sent
	disorder             int
	wrong                int // another key, partition, topic, label or reason than is right
	longest              time.Duration
	examples             []string
}

func (v *verdict) count(n *int, format string, args ...any) {
	if *n++; len(v.examples) < 20 {
		v.examples = append(v.examples, fmt.Sprintf(format, args...))
	}
}

// verify reads all topics again and compares their records with those that were sent.
func (f *faultRun) verify(rounds int, took time.Duration) {
	f.Helper()
	sent := f.upstream.sent // nothing is sent any more
	f.checkInput(f.readAll(true, inputTopic), sent)
	v := f.judge(f.readAll(f.committedOnly(), f.outputs.topics()...), sent)

	aborted := len(sent) - len(f.upstream.expected())
	var happened []string
	for _, what := range slices.Sorted(maps.Keys(f.happened)) {
		happened = append(happened, fmt.Sprintf("%s %d", what, f.happened[what]))
	}
	f.Logf("%s, %d rounds in %v: %d records and %d aborted ones; %d answers, %d dead letters, %d repeats, %d lost, %d out of order, "+
		"%d aborted ones answered; longest wait for an answer %v; %d processes; %s; %d transactions left open by the broker",
		f.delivery, rounds, took.Round(time.Second), len(sent)-aborted, aborted, v.answers, v.deadLetters, v.repeats, v.lost, v.disorder,
		v.abortedAnswered, v.longest.Round(time.Millisecond), f.processes, strings.Join(happened, ", "), len(f.endedHanging))
	bad := v.lost + v.unasked + v.disorder + v.wrong
	if f.committedOnly() {
		bad += v.repeats
	}
	if f.client == "franz-go" { // which reads committed records only
		bad += v.abortedAnswered
	}
	if bad > 0 {
		f.Errorf("%s: %+v", f.delivery, v)
	}
}

// checkInput fails if the broker itself does not hold the records that it has acknowledged.
func (f *faultRun) checkInput(input []*kgo.Record, sent map[string]sentRecord) {
	f.Helper()
	committed := map[string]bool{}
	for _, r := range input {
		committed[idOf(r)] = true
	}
	for id, s := range sent {
		if committed[id] == s.aborted {
			f.Errorf("%s: the input holds %s: %v; its transaction was aborted: %v", f.delivery, id, committed[id], s.aborted)
		}
		delete(committed, id)
	}
	if len(committed) > 0 {
		f.Errorf("%s: the input holds %d records that were not acknowledged", f.delivery, len(committed))
	}
}

// judge goes through the answers and dead letters in order.
func (f *faultRun) judge(outputs []*kgo.Record, sent map[string]sentRecord) (v verdict) {
	outputsOf := map[string]int{}
	last := map[string]int64{} // offset in the input, by topic and partition
	for _, r := range outputs {
		id := lastHeader(r, "inceptor-id")
		outputsOf[id]++
		s, asked := sent[id]
		switch {
		case !asked:
			v.count(&v.unasked, "%s is for %q, which was never sent", idOf(r), id)
			continue
		case outputsOf[id] > 1:
			v.count(&v.repeats, "%s came again", id)
			continue
		case s.aborted:
			v.abortedAnswered++
		case r.Topic == f.outputs.answers:
			v.answers++
		default:
			v.deadLetters++
		}
		partition, offset := position(f.T, id)
		if problem := s.compare(r, id, r.Topic == f.outputs.deadLetters); problem != "" {
			v.count(&v.wrong, "%s (%.40s): %s", id, s.key, problem)
		} else if partition != r.Partition {
			v.count(&v.wrong, "%s (%.40s): it is in partition %d", id, s.key, r.Partition)
		}
		lane := fmt.Sprintf("%s-%d", r.Topic, r.Partition)
		if before, ok := last[lane]; ok && offset <= before {
			v.count(&v.disorder, "%s came after %d", id, before)
		}
		last[lane] = offset
	}
	for id, s := range sent {
		switch {
		case s.aborted:
		case outputsOf[id] == 0:
			v.count(&v.lost, "%s (%.40s) is lost", id, s.key)
		default:
			v.longest = max(v.longest, f.seen.first(id).Sub(s.at))
		}
	}
	return v
}

// compare returns what is wrong with the answer or dead letter of a record, or an empty string.
func (s sentRecord) compare(r *kgo.Record, id string, dead bool) string {
	if want := s.key[:min(len(s.key), keptOfKey)]; string(r.Key) != want {
		return fmt.Sprintf("the key is %.100q", r.Key)
	}
	if dead {
		if reason := lastHeader(r, "inceptor-reason"); reason != s.reason {
			return fmt.Sprintf("a dead letter for %q, want %q: %s", reason, s.reason, lastHeader(r, "inceptor-error"))
		}
		return ""
	}
	var a service.Answer
	if err := json.Unmarshal(r.Value, &a); err != nil {
		return err.Error()
	}
	if s.reason != "" || a.ID != id || len(a.Predictions) == 0 || a.Predictions[0].Label != s.label {
		return fmt.Sprintf("the answer is %s, want label %q, reason %q", r.Value, s.label, s.reason)
	}
	return ""
}
