package kafkago

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// An output is published once all replicas in sync have it.
func TestAllReplicasAcknowledge(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "in", "x")
	var requests, weak atomic.Int64
	c.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		requests.Add(1)
		if req.(*kmsg.ProduceRequest).Acks != -1 {
			weak.Add(1)
		}
		return nil, nil, false
	})
	if err := run(t, cfg, 3*time.Second); err != nil {
		t.Error(err)
	}
	if requests.Load() == 0 || weak.Load() > 0 {
		t.Errorf("%d requests, %d of them do not ask for all acknowledgements", requests.Load(), weak.Load())
	}
}
