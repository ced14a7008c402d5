package streamtest

import (
	"net"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// silentAddress gives a driver two addresses to start from that accept
// connections and never answer, before the one that does.
func silentAddress(t *testing.T, b *harness) {
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.fill(1, 0, 10)
	cfg := b.config()
	cfg.Brokers = slices.Concat([]string{silentListener(t), silentListener(t)}, cfg.Brokers)
	d := b.start(cfg, b.echo)
	b.read(b.output, 10)
	d.stop()
}

// silentListener accepts connections and never answers, until the test ends.
func silentListener(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().String()
}

// throttled sets a quota under which the broker asks for pauses that are longer than the session.
// The driver must stay in the group, and go on.
func throttled(t *testing.T, b *harness) {
	const n = 2000
	b.topic(b.input, 2)
	b.topic(b.output, 2)
	small := b.newClient(kgo.ProducerBatchMaxBytes(16 << 10)) // a batch larger than the quota's window is never sent
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Topic: b.input, Partition: int32(i % 2), Value: noise(400)})
	}
	if err := small.ProduceSync(b.context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	b.quota("consumer_byte_rate", 20_000)
	defer b.quota("consumer_byte_rate", 0)
	d := b.start(b.briefly(b.config()), b.echo)
	b.until("records beyond the window of the quota", func() bool { return d.check(func(r *recorder) bool { return r.published >= 700 }) })
	if d.check(func(r *recorder) bool { return r.generations > 1 }) {
		t.Error("the driver has joined the group more than once")
	}
	if d.check(func(r *recorder) bool {
		return slices.ContainsFunc(r.retries, func(err error) bool { return err != nil })
	}) {
		t.Errorf("the driver has failed: %v", d.retries)
	}
	b.quota("consumer_byte_rate", 0)
	d.stop()
}

// quota sets a quota for drivers; zero removes it.
func (b *harness) quota(key string, value float64) {
	b.Helper()
	client := "inceptor"
	res, err := kadm.NewClient(b.client).AlterClientQuotas(b.context(), []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &client}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: key, Value: value, Remove: value == 0}},
	}})
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		b.Fatalf("quota %s=%v: %v", key, value, err)
	}
}
