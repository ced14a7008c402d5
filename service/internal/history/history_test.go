package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"inceptor/model"
	"inceptor/service/page"
)

// A bucket holds the durations around its middle, and the next bucket the next ones.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(10*24*time.Hour)).Draw(t, "d")) >> rapid.IntRange(0, 40).Draw(t, "shift")
		i := bucket(d)
		if bucket(d+time.Microsecond) < i {
			t.Fatalf("%v is in bucket %d, a longer one in %d", d, i, bucket(d+time.Microsecond))
		}
		if off := float64(middle(i) - d); d >= 8*time.Microsecond && max(off, -off) > 0.07*float64(d)+1000 {
			t.Fatalf("%v counts as %v", d, middle(i))
		}
	})
}

// The quantiles are those of what was observed since the last Take.
func TestLatency(t *testing.T) {
	var l Latency
	if p50, p99 := l.Take(); p50 != 0 || p99 != 0 {
		t.Errorf("nothing observed: %v, %v", p50, p99)
	}
	for range 2 {
		times := make([]time.Duration, 1000)
		for i := range times {
			times[i] = time.Duration(i+1) * time.Millisecond
		}
		rand.Shuffle(len(times), func(i, j int) { times[i], times[j] = times[j], times[i] })
		for _, d := range times {
			l.Observe(d)
		}
		p50, p99 := l.Take()
		if !near(p50, 500*time.Millisecond) || !near(p99, 990*time.Millisecond) {
			t.Errorf("1 to 1000 ms: %v, %v", p50, p99)
		}
	}
	l.Observe(100 * 24 * time.Hour)
	l.Observe(-1)
	if p50, p99 := l.Take(); p50 > time.Microsecond || p99 < 24*time.Hour {
		t.Errorf("out of range: %v, %v", p50, p99)
	}
	if n := testing.AllocsPerRun(100, func() { l.Observe(time.Second) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func near(got, want time.Duration) bool {
	return float64(max(got, want)-min(got, want)) <= 0.07*float64(want)
}

// A sample is the difference of two counts, and only the last ones are kept.
func TestSamples(t *testing.T) {
	var s Samples
	start := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * page.SampleEvery) }
	letters := map[string]float64{"undecodable": 5}
	s.Add(at(0), Counts{Records: 1000, DeadLetters: letters, Runs: 10, Images: 100, Lag: -1}, 0, 0)
	if got := s.List(); len(got) > 0 {
		t.Fatalf("one count gives %v", got)
	}
	letters["undecodable"], letters["too-large"] = 10, 1
	s.Add(at(1), Counts{Records: 1050, DeadLetters: letters, Runs: 15, Images: 150, Lag: 7}, 20*time.Millisecond, time.Second)
	s.Add(at(2), Counts{Records: 1050, DeadLetters: letters, Runs: 15, Images: 150, Lag: 7}, 0, 0)
	want := []page.Sample{
		{At: at(1), Records: 10, P50: 20, P99: 1000, Lag: 7, Batch: 10, DeadLetters: map[string]float64{"undecodable": 1, "too-large": 0.2}},
		{At: at(2), Lag: 7},
	}
	if diff := cmp.Diff(want, s.List()); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	for i := range 500 {
		s.Add(at(3+i), Counts{}, 0, 0)
	}
	if got := s.List(); len(got) != 180 || got[179].At != at(502) || got[0].At != at(502-179) {
		t.Errorf("%d samples", len(got))
	}
}

// Each step is the versions as they are next.
func TestTimeline(t *testing.T) {
	stable := func(v int64) model.Status {
		return model.Status{Version: v, State: model.StateServing, Label: model.LabelStable, Precision: "float32"}
	}
	with := func(v model.Status, change func(*model.Status)) model.Status {
		change(&v)
		return v
	}
	standby := model.Status{Version: 1, State: model.StateStandby}
	failed := model.Status{Version: 2, State: model.StateFailed, Gate: "golden", Reason: "cat.jpg is a dog"}
	for _, test := range []struct {
		name  string
		steps [][]model.Status
		want  []string
	}{
		{"it begins", [][]model.Status{{{Version: 1, State: model.StateLoading}}, {stable(1)}, {stable(1)}}, []string{"1 serving: answers the records"}},
		{"a swap", [][]model.Status{{stable(1)}, {stable(2), standby}}, []string{"1 serving: answers the records", "2 serving: answers the records"}},
		{"a swap that is rolled back", [][]model.Status{{stable(1)}, {stable(2), standby},
			{{Version: 2, State: model.StateRolledBack, Reason: "slow: it is slow"}, stable(1)}},
			[]string{"1 serving: answers the records", "2 serving: answers the records", "1 serving: answers the records", "2 rolled-back: was rolled back: slow: it is slow"}},
		{"by hand", [][]model.Status{{with(stable(1), func(v *model.Status) { v.Chosen = true })}}, []string{"1 serving: answers the records, chosen by hand"}},
		{"a canary that serves", [][]model.Status{
			{with(stable(2), func(v *model.Status) { v.Label = model.LabelCanary })}, {stable(2)}},
			[]string{"2 canary: answers a part of the records, as a canary", "2 serving: answers the records, after it was the canary"}},
		{"a shadow", [][]model.Status{{with(stable(2), func(v *model.Status) { v.Label = model.LabelShadow })}},
			[]string{"2 shadow: gets the records too, as a shadow: its answers are only compared"}},
		{"it fails again and again", [][]model.Status{{failed}, {{Version: 2, State: model.StateLoading}}, {failed}, {{Version: 2, State: model.StateLoading}}, {failed}},
			[]string{"2 failed: failed at the gate golden: cat.jpg is a dog"}},
		{"it fails for another reason", [][]model.Status{{failed}, {with(failed, func(v *model.Status) { v.Gate, v.Reason = "load", "no memory" })}},
			[]string{"2 failed: failed at the gate golden: cat.jpg is a dog", "2 failed: failed at the gate load: no memory"}},
		{"another precision", [][]model.Status{{stable(1)},
			{with(stable(1), func(v *model.Status) { v.Precision, v.WhyPrecision = "int8", "it agrees" })},
			{with(stable(1), func(v *model.Status) { v.Precision = "" })}},
			[]string{"1 serving: answers the records", "1 precision: runs in int8: it agrees", "1 precision: runs in the precision in which it was exported"}},
		{"it is gone", [][]model.Status{{stable(1)}, nil}, []string{"1 serving: answers the records"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var line Timeline
			for i, step := range test.steps {
				line.Update(step, time.Unix(int64(i), 0))
			}
			events := line.Events()
			slices.Reverse(events)
			var got []string
			for _, e := range events {
				got = append(got, fmt.Sprintf("%d %s: %s", e.Version, e.Kind, e.Text))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
	var line Timeline
	for i := range 3 * page.MaxEvents {
		line.Update([]model.Status{stable(int64(i))}, time.Unix(int64(i), 0))
	}
	events := line.Events()
	if len(events) != page.MaxEvents || events[0].Version != 3*page.MaxEvents-1 || !strings.Contains(events[0].Text, "answers") {
		t.Errorf("%d events, the first of version %d", len(events), events[0].Version)
	}
}
