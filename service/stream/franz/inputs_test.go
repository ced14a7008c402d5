package franz

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"inceptor/service/stream"
)

// One of several input topics does not exist. The others are read, without rejoining
// again and again, and the missing one is read when it exists.
func TestOneInputMissing(t *testing.T) {
	exactly := func(cfg stream.Config) (*Driver, error) { return New(cfg, testBound, echo) }
	least := func(cfg stream.Config) (*Driver, error) { return NewAtLeastOnce(cfg, echo) }
	for name, test := range map[string]struct {
		create  func(stream.Config) (*Driver, error)
		brokers *kversion.Versions
	}{
		"ExactlyOnce":                     {exactly, kversion.Stable()},
		"ExactlyOnce/BrokersCompareNoIDs": {exactly, kversion.V3_0_0()},
		"AtLeastOnce":                     {least, kversion.Stable()},
		"AtLeastOnce/BrokersCompareNoIDs": {least, kversion.V3_0_0()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "in", "out"), kfake.MaxVersions(test.brokers))
			cfg := config(c.ListenAddrs()...)
			cfg.Inputs = []string{"in", "later"}
			o := &twoInputs{}
			cfg.Observer = o
			send := func(topic string, n int) {
				for i := range n {
					r := &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)}
					if err := newClient(t, cfg).ProduceSync(t.Context(), r).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			d, err := test.create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			stop := running(t, d)
			defer stop()
			send("in", 1)
			await(t, "the record to be committed", func() bool { return o.in.Load() == 1 })
			time.Sleep(2 * time.Second)
			send("in", 1)
			await(t, "the next record to be committed", func() bool { return o.in.Load() == 2 })
			if n := o.assigned.Load(); n > 3 {
				t.Errorf("it has joined %d times", n)
			}
			if err := c.CreateTopic("later", 1, nil); err != nil {
				t.Fatal(err)
			}
			send("later", 1)
			await(t, "the record of the topic that was missing to be committed", func() bool { return o.later.Load() == 1 })
		})
	}
}

// twoInputs keeps what is committed of two topics.
type twoInputs struct {
	stream.Unobserved
	assigned  atomic.Int32
	in, later atomic.Int64
}

func (p *twoInputs) Assigned([]stream.Partition) { p.assigned.Add(1) }

func (p *twoInputs) Committed(id stream.Partition, next, _ int64) {
	if id.Topic == "in" {
		p.in.Store(next)
	} else {
		p.later.Store(next)
	}
}
