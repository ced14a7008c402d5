package measure

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/internal/retry"
)

// photoFiles are the sample photos of 640×427 pixels.
var photoFiles = []string{"china.jpg", "flower.jpg", "rocket.jpg"}

// Photos reads the sample photos, JPEG of 640×427 pixels, in the checkout's
// folder.
func Photos() ([][]byte, error) {
	var photos [][]byte
	for _, file := range photoFiles {
		photo, err := os.ReadFile(filepath.Join(".tools/photos", file))
		if err != nil {
			return nil, fmt.Errorf("%w: run this in the checkout's folder, after `testenv/setup.sh test`", err)
		}
		photos = append(photos, photo)
	}
	return photos, nil
}

// Callers is how many classify at once: as many as the service's window of one partition.
const Callers = 64

// LatencyLoad is the share of the throughput at which latency is measured.
const LatencyLoad = 0.4

// Flood lets so many callers classify photos, each the next one as soon as it has an answer. None
// begins another one after that time. It returns when it began, and when the answers came, in
// order.
func Flood(ctx context.Context, callers int, long time.Duration, photos [][]byte, classify func(ctx context.Context, photo []byte) error) (begin time.Time, ends []time.Time, err error) {
	var mu sync.Mutex
	begin = time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range callers {
		g.Go(func() error {
			for n := i; time.Since(begin) < long; n++ {
				if err := classify(ctx, photos[n%len(photos)]); err != nil {
					return err
				}
				mu.Lock()
				ends = append(ends, time.Now())
				mu.Unlock()
			}
			return nil
		})
	}
	err = g.Wait()
	return begin, ends, err
}

// Rate returns how many events a second happen, from their times in order. It is the slope of the
// line through their count, which does not depend on where in a burst the first and the last one
// lie. The first tenth is left out, while the work is not steady yet.
func Rate(times []time.Time) (float64, error) {
	times = times[len(times)/10:]
	n := float64(len(times))
	if n < 10 {
		return 0, fmt.Errorf("only %v answers: measure for longer (-seconds)", n)
	}
	var sx, sy, sxx, sxy float64
	for i, t := range times {
		x, y := t.Sub(times[0]).Seconds(), float64(i)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx), nil
}

// AtRate calls send at a rate per second until ctx ends, whether or not earlier calls have
// returned, with the time when each was due. Then it waits for the calls that have not returned.
func AtRate(ctx context.Context, rate float64, send func(n int, due time.Time)) {
	var g sync.WaitGroup
	defer g.Wait()
	interval := time.Duration(float64(time.Second) / rate)
	begin := time.Now()
	for n := 1; ; n++ {
		due := begin.Add(time.Duration(n) * interval)
		if !retry.Sleep(ctx, time.Until(due)) {
			return
		}
		g.Go(func() { send(n, due) })
	}
}
