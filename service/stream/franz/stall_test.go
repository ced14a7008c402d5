package franz

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A partition is stalled while it brings nothing though it should.
func TestStall(t *testing.T) {
	type look struct {
		at           time.Duration
		stable, next int64
		waits        bool
		since        time.Duration // negative: it is not stalled
	}
	for name, looks := range map[string][]look{
		"all is read":        {{0, 10, 10, true, -1}, {time.Minute, 10, 10, true, -1}},
		"nothing comes":      {{0, 10, 7, true, 0}, {time.Minute, 12, 7, true, 0}},
		"something comes":    {{0, 10, 7, true, 0}, {time.Minute, 12, 8, true, time.Minute}},
		"it is worked on":    {{0, 10, 7, true, 0}, {2, 12, 7, false, -1}, {4, 12, 7, true, 4}},
		"it is read at last": {{0, 10, 7, true, 0}, {time.Minute, 10, 10, true, -1}},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			var s stall
			for _, l := range looks {
				s = s.update(begin.Add(l.at), l.stable, l.next, l.waits)
				want := time.Time{}
				if l.since >= 0 {
					want = begin.Add(l.since)
				}
				if !s.since.Equal(want) {
					t.Errorf("after %v: since %v, want %v", l.at, s.since, want)
				}
			}
		})
	}
}

// If a client does not fetch a partition, it is replaced, and the records are answered. If
// the next client brings nothing either, it is kept.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ deaf, joins int64 }{
		"the first client": {1, 2},
		"every client":     {9, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			produce(t, cfg, "a", "b")
			var joins atomic.Int64
			ids := map[int32]bool{}
			c.ControlKey(int16(kmsg.SyncGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if generation := r.(*kmsg.SyncGroupRequest).Generation; !ids[generation] {
					ids[generation] = true
					joins.Add(1)
				}
				return nil, nil, false
			})
			empty := nothing(2, 0)
			c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				if joins.Load() > test.deaf {
					return nil, nil, false
				}
				res, err := empty(r)
				return res, err, true
			})
			d, err := New(cfg, testBound, echo)
			if err != nil {
				t.Fatal(err)
			}
			d.stallTimeout = time.Second
			stop := running(t, d)
			defer stop()
			if test.deaf == 1 {
				if got := committed(t, cfg, 2); !slices.Equal(got, []string{"a", "b"}) {
					t.Errorf("published %q", got)
				}
			} else {
				time.Sleep(10 * time.Second)
			}
			if got := joins.Load(); got != test.joins {
				t.Errorf("joined %d times, want %d", got, test.joins)
			}
		})
	}
}
