package franz

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// Each fetch names the rack.
func TestRack(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.SeedTopics(1, "in", "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	racks := make(chan string, 1)
	c.ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		select {
		case racks <- req.(*kmsg.FetchRequest).Rack:
		default:
		}
		return nil, nil, false
	})
	d, err := New(stream.Config{
		Brokers: c.ListenAddrs(), Group: "g", Inputs: []string{"in"}, Outputs: []string{"out"}, Rack: "zone-a",
		Window: stream.Window{Records: 1}, ReplaceUnread: func(stream.Batch) []stream.Record { return nil },
	}, testBound, func(context.Context, stream.Record) ([]stream.Record, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case rack := <-racks:
		if rack != "zone-a" {
			t.Errorf("a fetch of rack %q", rack)
		}
	case <-time.After(patience):
		t.Error("nothing is fetched")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
