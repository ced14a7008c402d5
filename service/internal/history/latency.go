// Package history keeps what the page shows of the last minutes: samples of rates and latencies,
// and the time line of the versions.
package history

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Latency counts durations, for the quantiles of those since the last Take. The zero value is
// ready to use. Safe for concurrent use; it allocates nothing.
type Latency struct {
	counts [buckets]atomic.Uint32
}

// Each octave of microseconds has so many buckets, so a quantile is off by 7 % at most.
const (
	perOctave = 8
	buckets   = perOctave * 38 // up to 2^40 µs
)

// Observe counts one duration.
func (l *Latency) Observe(d time.Duration) { l.counts[bucket(d)].Add(1) }

// Take returns two quantiles, 0 if there was no duration, and begins anew.
func (l *Latency) Take() (p50, p99 time.Duration) {
	var counts [buckets]uint64
	total := uint64(0)
	for i := range counts {
		counts[i] = uint64(l.counts[i].Swap(0))
		total += counts[i]
	}
	return quantile(&counts, total, 50), quantile(&counts, total, 99)
}

func quantile(counts *[buckets]uint64, total uint64, percent uint64) time.Duration {
	if total == 0 {
		return 0
	}
	rank, seen := (total*percent+99)/100, uint64(0)
	for i, n := range counts {
		if seen += n; seen >= rank {
			return middle(i)
		}
	}
	return 0
}

// bucket returns the bucket of a duration: below 8 µs its microseconds, then the highest 4 bits.
func bucket(d time.Duration) int {
	us := uint64(max(0, d) / time.Microsecond)
	if us < perOctave {
		return int(us)
	}
	shift := bits.Len64(us) - 4
	return min(buckets-1, shift*perOctave+int(us>>shift))
}

// middle returns the middle of a bucket.
func middle(i int) time.Duration {
	if i < perOctave {
		return time.Duration(i)*time.Microsecond + time.Microsecond/2
	}
	shift := i/perOctave - 1
	low := uint64(i-shift*perOctave) << shift
	return time.Duration(low)*time.Microsecond + time.Microsecond<<shift/2
}
