package kafkago

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/resume"
)

// The published offsets of the old log are recorded before the position changes, also if they are
// only offsets without a record. Later they would count as a position in the new log.
func TestResetAfterOffsetsWithoutRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := stream.Config{Log: slog.New(slog.DiscardHandler), Observer: stream.Unobserved{}}
		id := stream.Partition{Topic: "in"}
		p := &partition{
			cfg: cfg, id: id, flight: flight.New(stream.Window{Records: 1}, 0),
			commits: newCommits(cfg, nil, nil, nil),
		}
		p.commits.start(id, resume.Position{Topic: resume.TopicID{1}}, true)
		p.skipTo(5)
		stretch, err := p.flight.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- p.reset(t.Context(), stream.Reset{Reason: stream.Recreated, From: 5}, resume.TopicID{2})
		}()
		time.Sleep(time.Second)
		p.commits.add(id, stretch.Next)
		p.flight.Release(stretch)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got, want := p.commits.of[id].next, (resume.Position{Topic: resume.TopicID{2}}); got != want {
			t.Errorf("it goes on at %v, want %v", got, want)
		}
	})
}

// If brokers without topic ids follow others with them, the driver goes on at the committed offset.
func TestBrokersWithoutTopicIDs(t *testing.T) {
	t.Parallel()
	c := cluster4test(t, kfake.SeedTopics(1, "in", "out"), kfake.MaxVersions(kversion.V2_7_0()))
	cfg := config(c.ListenAddrs()...)
	produce(t, cfg, "in", "x")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := resume.Position{Topic: resume.TopicID{1}}
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "in", At: at.Offset, LeaderEpoch: -1, Metadata: at.Metadata("")})
	if err := kadm.NewClient(client).CommitAllOffsets(t.Context(), cfg.Group, offsets); err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{})
	d, err := New(cfg, func(context.Context, stream.Record) ([]stream.Record, error) {
		close(seen)
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case <-seen:
	case <-time.After(patience):
		t.Error("the record is not read")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
