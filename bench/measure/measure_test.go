package measure

import (
	"context"
	"errors"
	"math"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{"nothing", nil, 0.5, 0},
		{"one", []float64{3}, 0.99, 3},
		{"middle", []float64{9, 1, 5}, 0.5, 5},
		{"between two", []float64{4, 1}, 0.5, 2.5},
		{"largest", []float64{2, 8, 4}, 1, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Quantile(test.values, test.q); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	if got, want := Spread([]float64{0.002, 0.001, 0.004}, 1000, 1), "2.0 (1.0 – 4.0)"; got != want {
		t.Errorf("spread: got %q, want %q", got, want)
	}
}

// Bursts of eight answers, two a second, are 16 answers a second.
func TestRate(t *testing.T) {
	var times []time.Time
	for n := range 200 {
		times = append(times, time.Unix(0, 0).Add(time.Duration(n/8)*time.Second/2))
	}
	if got, err := Rate(times); err != nil || math.Abs(got-16) > 0.2 {
		t.Errorf("got %v, %v, want 16", got, err)
	}
	if _, err := Rate(times[:10]); err == nil {
		t.Error("a rate of nine answers")
	}
}

// A slow answer delays no later photo. AtRate waits for it.
func TestAtRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1050*time.Millisecond)
		defer cancel()
		begin := time.Now()
		var answered atomic.Int64
		AtRate(ctx, 10, func(n int, due time.Time) {
			if want := begin.Add(time.Duration(n) * 100 * time.Millisecond); !due.Equal(want) || !time.Now().Equal(want) {
				t.Errorf("photo %d was due at %v and sent at %v, want %v", n, due, time.Now(), want)
			}
			time.Sleep(3 * time.Second)
			answered.Add(1)
		})
		if n := answered.Load(); n != 10 {
			t.Errorf("%d were answered, want 10", n)
		}
	})
}

func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, ends, err := Flood(t.Context(), Callers, 950*time.Millisecond, [][]byte{{1}}, func(context.Context, []byte) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(ends) != 10*Callers || ends[len(ends)-1].Sub(begin) != time.Second {
			t.Errorf("%d answers in %v, want %d in 1s", len(ends), ends[len(ends)-1].Sub(begin), 10*Callers)
		}
		failure := errors.New("no")
		if _, _, err := Flood(t.Context(), Callers, time.Hour, [][]byte{{1}}, func(context.Context, []byte) error { return failure }); !errors.Is(err, failure) {
			t.Errorf("got %v, want the error of Classify", err)
		}
	})
}

// The values of /proc for this process equal those of the system calls.
func TestProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip(err)
	}
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; { // processor time, to have some
	}
	own, told := OwnCPU(), ProcessCPU(os.Getpid())
	if own <= 0 || told <= 0 || (own-told).Abs() > 50*time.Millisecond {
		t.Errorf("processor time is %v, /proc tells %v", own, told)
	}
	if rss, peak := ProcessMemory(os.Getpid()); rss < 1<<20 || peak < rss {
		t.Errorf("memory is %v, %v at most", rss, peak)
	}
}

// oneDNN ignores a cap that it does not know: then figures would be published under a wrong name.
func TestCheckISA(t *testing.T) {
	for isa, want := range map[string]bool{"": true, "AVX2": true, "avx512_core_vnni": true, "AVX512_VNNI": false, "avx-2": false} {
		if err := checkISA(isa); (err == nil) != want {
			t.Errorf("%q: %v", isa, err)
		}
	}
}
