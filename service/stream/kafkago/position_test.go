package kafkago

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/service/stream"
)

// What was published of the old log is noted before the position changes, also
// where it is only offsets without a record. It would be a position in the new log.
func TestResetAfterOffsetsWithoutRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := stream.Config{Log: slog.New(slog.DiscardHandler), Observer: stream.Unobserved{}}
		id := stream.Partition{Topic: "in"}
		p := &partition{
			cfg: cfg, id: id, flight: stream.NewFlight(stream.Window{Records: 1}, 0),
			commits: newCommits(cfg, nil, nil, nil),
		}
		p.commits.start(id, stream.Position{Topic: stream.TopicID{1}}, true)
		p.skipTo(5)
		run, err := p.flight.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- p.reset(t.Context(), stream.Reset{Reason: stream.Recreated, From: 5}, stream.TopicID{2})
		}()
		time.Sleep(time.Second)
		p.commits.add(id, run.Next)
		p.flight.Release(run)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got, want := p.commits.notes[id].next, (stream.Position{Topic: stream.TopicID{2}}); got != want {
			t.Errorf("it goes on at %v, want %v", got, want)
		}
	})
}
