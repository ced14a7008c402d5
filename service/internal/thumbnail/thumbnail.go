// Package thumbnail makes small pictures of a few of the answered images, for the page.
package thumbnail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/internal/retry"
	"inceptor/model/infer"
	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/service/page"
	"inceptor/service/stream"
)

const (
	kept      = 2 * page.MaxPictures // thumbnails, of which the page shows half at a time
	maxBytes  = 8 << 20              // of an image that gets one
	maxPixels = 13_000_000           // of an image that gets one: as many as a phone's camera has
	maxMemory = 128 << 20            // that the decode of one takes, of which there is one at a time
	quality   = 75                   // of the JPEG

	// The first images after the start get a thumbnail even if nobody watches yet, so that a first
	// viewer sees some.
	firstImages = page.MaxPictures
	maxFirst    = 1 << 20 // bytes of each: all of them may wait at a time
)

// A Maker makes thumbnails of the first images, and then while somebody watches: one at a time, of
// images that are offered when it has nothing else to do. The caller never waits. After the first
// images it holds the copy of one at most. A nil Maker makes none. Safe for concurrent use.
type Maker struct {
	// Set once.
	log   *slog.Logger
	ran   func() time.Duration // how long runs of the model have taken so far
	jobs  chan job             // has a place for each of the first images, and for whoever has taken free
	stop  context.CancelFunc
	ended chan struct{}

	watched atomic.Bool
	free    atomic.Bool  // it would take an image
	first   atomic.Int64 // of the first images, those that may still come

	mu    sync.Mutex
	made  map[string]made // by the record's ID; guarded by mu
	order []string        // keys of made, the oldest first; guarded by mu

	forgotten atomic.Int64 // calls of Forget; it changes while mu is held
}

// made is a thumbnail, and the partition of its record.
type made struct {
	partition stream.Partition
	jpeg      []byte
}

type job struct {
	id        string
	partition stream.Partition
	image     []byte
	header    infer.Header
	first     bool  // one of the first images
	forgotten int64 // Maker.forgotten when it was offered
}

// New starts a Maker. Close it. ran returns how long the runs of the model have taken so far: while
// the model is busy, thumbnails are made rarely.
func New(ran func() time.Duration, log *slog.Logger) *Maker {
	ctx, stop := context.WithCancel(context.Background())
	m := &Maker{
		log: log, ran: ran, jobs: make(chan job, firstImages+1), stop: stop,
		ended: make(chan struct{}), made: map[string]made{},
	}
	m.free.Store(true)
	m.first.Store(firstImages)
	go func() {
		defer close(m.ended)
		m.work(ctx)
	}()
	return m
}

// Close ends the Maker.
func (m *Maker) Close() {
	if m != nil {
		m.stop()
		<-m.ended
	}
}

// Watch tells whether somebody watches.
func (m *Maker) Watch(on bool) {
	if m != nil {
		m.watched.Store(on)
	}
}

// Offer tells whether a thumbnail will be made of a record's image, which it copies then.
func (m *Maker) Offer(r stream.Record, content []byte, h infer.Header) bool {
	if m == nil || h.Format == "" || len(content) > maxBytes || int64(h.Width)*int64(h.Height) > maxPixels {
		return false
	}
	first := len(content) <= maxFirst && m.first.Load() > 0 && m.first.Add(-1) >= 0
	if first || m.watched.Load() && m.free.CompareAndSwap(true, false) {
		m.jobs <- job{r.ID(), r.Source(), bytes.Clone(content), h, first, m.forgotten.Load()}
		return true
	}
	return false
}

// Get returns the thumbnail of a record; false: there is none.
func (m *Maker) Get(id string) ([]byte, bool) {
	if m == nil {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.made[id]
	return b.jpeg, ok
}

// Has tells whether Get has a thumbnail.
func (m *Maker) Has(id string) bool {
	_, ok := m.Get(id)
	return ok
}

// Forget forgets the thumbnails of a partition, whose offsets mean other records from now on. None
// is kept either that is being made at that time, of whatever partition.
func (m *Maker) Forget(p stream.Partition) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgotten.Add(1)
	m.order = slices.DeleteFunc(m.order, func(id string) bool { return m.made[id].partition == p })
	maps.DeleteFunc(m.made, func(_ string, t made) bool { return t.partition == p })
}

func (m *Maker) keep(j job, thumbnail []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if j.forgotten != m.forgotten.Load() {
		return
	}
	if _, again := m.made[j.id]; !again {
		m.order = append(m.order, j.id)
	}
	m.made[j.id] = made{j.partition, thumbnail}
	if len(m.order) > kept {
		delete(m.made, m.order[0])
		m.order = slices.Delete(m.order, 0, 1)
	}
}

func (m *Maker) work(ctx context.Context) {
	since, ran := time.Now(), m.ran()
	for {
		var j job
		select {
		case j = <-m.jobs:
		case <-ctx.Done():
			return
		}
		begin := time.Now()
		thumbnail, err := Make(j.image, j.header)
		if err != nil { // the model's decoder may take more than ours
			m.log.Debug("no thumbnail", "record", j.id, "err", err)
		} else {
			m.keep(j, thumbnail)
		}
		j.image = nil
		if j.first {
			continue
		}
		now, ranNow := time.Now(), m.ran()
		rest := pause(now.Sub(begin), ranNow-ran, now.Sub(since), runtime.GOMAXPROCS(0))
		since, ran = now, ranNow
		if !retry.Sleep(ctx, rest) {
			return
		}
		m.free.Store(true)
	}
}

// The most that thumbnails take of the processors while the model is busy, and of one processor
// while it is not.
const (
	busyShare = 0.001
	idleShare = 0.25
	busy      = 0.4 // of the time, the model runs
)

// pause returns how long to rest after a thumbnail that took so long, if the runs of the model took
// ran of the time since the last one. What the process uses of the processors would not tell: on a
// machine that it shares, it may want more than it gets. A thread of the lowest scheduling class
// would not help: the garbage collector stops the world, and would wait for it on a busy machine.
func pause(took, ran, since time.Duration, processors int) time.Duration {
	share := idleShare
	if float64(ran) > busy*float64(since) {
		share = busyShare * float64(processors)
	}
	return time.Duration(float64(took) * (1/share - 1))
}

// Make returns a JPEG of an image, of at most page.ThumbnailSide pixels a side, upright and on
// white. It does not enlarge.
func Make(content []byte, h infer.Header) (thumbnail []byte, err error) {
	defer infer.Recovered(&err)
	view, header := pixels.View{Upright: true, Background: &[3]byte{255, 255, 255}}, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height}
	if need := view.MemoryOf(content, header); need > maxMemory {
		return nil, fmt.Errorf("its decode takes up to %d MiB, and a thumbnail may take %d MiB", need>>20, maxMemory>>20)
	}
	plan, err := view.Plan(content, header)
	if err != nil {
		return nil, err
	}
	width, height := fit(plan.Size())
	if width == 0 {
		return nil, errors.New("the image is empty")
	}
	recipe := pixels.Recipe{
		View: view, Frame: pixels.Frame{Width: width, Height: height}, Resize: pixels.Area,
		Scale: [3]float32{1, 1, 1}, DType: savedmodel.UInt8,
	}
	rgb, err := recipe.Append(nil, content, header)
	if err != nil {
		return nil, err
	}
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(picture.Pix[4*i:], rgb[3*i:3*i+3])
		picture.Pix[4*i+3] = 255
	}
	var b bytes.Buffer
	err = jpeg.Encode(&b, picture, &jpeg.Options{Quality: quality})
	return b.Bytes(), err
}

// fit returns the size of the thumbnail of a picture: 0 for an empty one.
func fit(width, height int) (w, h int) {
	if width <= 0 || height <= 0 {
		return 0, 0
	}
	scale := min(1, page.ThumbnailSide/float64(max(width, height)))
	side := func(n int) int { return max(1, int(math.Round(float64(n)*scale))) }
	return side(width), side(height)
}
