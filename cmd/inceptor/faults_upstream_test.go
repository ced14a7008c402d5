package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sendEvery is the time between two records of the load.
const sendEvery = 10 * time.Millisecond

// An upstream sends records, and remembers those that the broker has acknowledged.
type upstream struct {
	t      *testing.T
	client *kgo.Client // idempotent, all acknowledgements: its defaults
	cancel context.CancelFunc
	ended  chan struct{}
	number int // of records made for events; used by the test's goroutine only

	mu   sync.Mutex
	sent map[string]sentRecord // by the id of the answer; guarded by mu
}

// A sentRecord is one that the broker has acknowledged, and what must become of it.
type sentRecord struct {
	key     string
	label   string // of its answer
	reason  string // of its dead letter; one of both
	aborted bool   // with its transaction
	at      time.Time
}

// A message is a record to send, and what must become of it.
type message struct {
	value []byte
	sentRecord
}

func newUpstream(t *testing.T, brokers string, opts ...kgo.Opt) *upstream {
	u := &upstream{t: t, client: newClient(t, brokers, opts...), ended: make(chan struct{}), sent: map[string]sentRecord{}}
	// The client has its producer id before anything happens to the broker: it
	// does not ask twice for it.
	first := picture("first", 0)
	r := first.record()
	if err := u.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	u.remember(r, first.sentRecord)
	ctx, cancel := context.WithCancel(context.Background())
	u.cancel = cancel
	t.Cleanup(func() { cancel(); <-u.ended })
	go u.load(ctx)
	return u
}

// load sends one record after the other until ctx ends.
func (u *upstream) load(ctx context.Context) {
	defer close(u.ended)
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			u.send(picture(fmt.Sprintf("load-%d", i), i))
		}
	}
}

// stop ends the load and waits until all of it is acknowledged.
func (u *upstream) stop() {
	u.t.Helper()
	u.cancel()
	<-u.ended
	ctx, cancel := context.WithTimeout(context.Background(), recovery)
	defer cancel()
	if err := u.client.Flush(ctx); err != nil {
		u.t.Fatalf("the load is not acknowledged: %v", err)
	}
}

// picture returns an image, dark or bright by its number.
func picture(key string, number int) message {
	m := message{bitmap(byte(number % 90)), sentRecord{key: key, label: "dark"}}
	if number%2 == 1 {
		m.value, m.label = bitmap(byte(110+number%90)), "bright"
	}
	return m
}

// poison returns one of each kind of record that cannot be answered.
func poison(key string) []message {
	whole := bitmap(100)
	return []message{
		{nil, sentRecord{key: key, reason: "empty"}},
		{bytes.Repeat([]byte{0, 1, 2, 0xff}, 20), sentRecord{key: key, reason: "unknown-format"}},
		{append(whole, make([]byte, 100<<10)...), sentRecord{key: key, reason: "too-large"}},
		{whole[:30], sentRecord{key: key, reason: "bad-header"}},
		{whole[:60], sentRecord{key: key, reason: "undecodable"}},
		{[]byte("/etc/passwd"), sentRecord{key: key, reason: "path-not-allowed"}},
	}
}

// name returns a key and a number for a record of an event.
func (u *upstream) name(what string) (key string, number int) {
	u.number++
	return fmt.Sprintf("%s-%d", what, u.number), u.number
}

// send sends a message without waiting.
func (u *upstream) send(m message) {
	u.client.Produce(context.Background(), m.record(), func(r *kgo.Record, err error) {
		switch {
		case err == nil:
			u.remember(r, m.sentRecord)
		case !errors.Is(err, kgo.ErrClientClosed):
			u.t.Errorf("send %s: %v", m.key, err)
		}
	})
}

func (m message) record() *kgo.Record {
	return &kgo.Record{Topic: inputTopic, Key: []byte(m.key), Value: m.value}
}

func (u *upstream) remember(r *kgo.Record, s sentRecord) {
	s.at = time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent[idOf(r)] = s
}

func idOf(r *kgo.Record) string { return fmt.Sprintf("%s-%d-%d", r.Topic, r.Partition, r.Offset) }

// expected returns the ids of the records that must become an answer or a dead letter.
func (u *upstream) expected() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var ids []string
	for id, s := range u.sent {
		if !s.aborted {
			ids = append(ids, id)
		}
	}
	return ids
}

// inputEvents are what is sent in addition to the load, by name. Each returns its second step.
var inputEvents = map[string]func(f *faultRun) (end func()){
	"poison": func(f *faultRun) func() {
		for range f.rng.IntN(10) + 1 {
			key, _ := f.upstream.name("poison")
			of := poison(key)
			f.upstream.send(of[f.rng.IntN(len(of))])
			key, number := f.upstream.name("between")
			f.upstream.send(picture(key, number))
		}
		return func() {}
	},
	"burst": func(f *faultRun) func() {
		for range 2000 {
			key, number := f.upstream.name("burst")
			f.upstream.send(picture(key, number))
		}
		return func() {}
	},
	"two crash in one window": func(f *faultRun) func() {
		f.deadly(crashingGrey)
		f.deadly(crashingGrey)
		return func() {}
	},
	"one takes all memory":  func(f *faultRun) func() { f.deadly(hungryGrey); return func() {} },
	"large key":             func(f *faultRun) func() { f.largeKey(); return func() {} },
	"bomb":                  func(f *faultRun) func() { f.bomb(); return func() {} },
	"transaction aborted":   func(f *faultRun) func() { return f.transaction(kgo.TryAbort) },
	"transaction committed": func(f *faultRun) func() { return f.transaction(kgo.TryCommit) },
}

// transaction sends some records in a transaction, some of them poison. Its second step ends the
// transaction. While it is open, it holds readers of committed records back.
func (f *faultRun) transaction(how kgo.TransactionEndTry) (end func()) {
	f.Helper()
	u := f.upstream
	id, _ := u.name("upstream")
	client := newClient(f.T, f.brokers, kgo.TransactionalID(id), kgo.TransactionTimeout(time.Minute))
	if err := client.BeginTransaction(); err != nil {
		f.Fatal(err)
	}
	var messages []message
	var records []*kgo.Record
	for range f.rng.IntN(40) + 1 {
		key, number := u.name("transaction")
		m := picture(key, number)
		if f.rng.IntN(5) == 0 {
			of := poison(key)
			m = of[f.rng.IntN(len(of))]
		}
		m.aborted = how == kgo.TryAbort
		messages, records = append(messages, m), append(records, m.record())
	}
	ctx, cancel := context.WithTimeout(f.Context(), recovery)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		f.Fatalf("send in a transaction: %v", err)
	}
	return func() {
		f.Helper()
		ctx, cancel := context.WithTimeout(f.Context(), recovery)
		defer cancel()
		if err := client.EndTransaction(ctx, how); err != nil {
			f.Fatalf("end the transaction: %v", err)
		}
		for i, r := range records {
			u.remember(r, messages[i].sentRecord)
		}
		client.Close()
	}
}
