package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/internal/span"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

const (
	// maxCompareBytes bounds the images that wait for a second answer.
	maxCompareBytes = 64 << 20

	// shadowTimeout bounds the publication of one shadow answer.
	shadowTimeout = 10 * time.Second
)

// These are for the trace.
var (
	errSkipped = errors.New("skipped: too many wait for a second answer")
	errStopped = errors.New("the service stopped before it asked for a second answer")
)

// A comparer asks a second version about images that were already answered, and
// compares the answers. The second version is the shadow, whose answers it
// publishes; or the stable one, for images that a canary has answered. It never
// delays the stream: images for which its queue has no room are skipped and
// counted. Offer is safe for concurrent use.
type comparer struct {
	// Set once.
	model   secondVersion
	publish func(context.Context, stream.Record) error // nil: there is no shadow topic
	topic   string
	count   func(asked, result string) // counts what asking the version with a label gave
	log     *slog.Logger

	jobs    chan comparison
	stop    context.CancelFunc
	workers sync.WaitGroup

	// Shared by all goroutines.
	bytes       atomic.Int64              // of the images that wait or are being answered
	canary      atomic.Bool               // the stable version is answering a canary's image
	unpublished atomic.Bool               // the last shadow answer was not published
	secondary   atomic.Pointer[agreement] // of the last canary or shadow; nil: of none yet
}

// An agreement is how often two answers to the same record had the same best class.
type agreement struct {
	version        int64 // the canary or shadow that is compared with the stable one
	compared, same int64
}

// agrees adds one comparison of a canary or shadow.
func (c *comparer) agrees(version int64, same bool) {
	for {
		old := c.secondary.Load()
		next := agreement{version: version}
		if old != nil && old.version == version {
			next = *old
		}
		next.compared++
		if same {
			next.same++
		}
		if c.secondary.CompareAndSwap(old, &next) {
			return
		}
	}
}

// A secondVersion is the part of a VersionController that a comparer asks.
type secondVersion interface {
	Secondary() string
	ClassifyAs(ctx context.Context, label string, image []byte) (infer.Prediction, error)
}

// A comparison is an image with the answer that it got.
type comparison struct {
	record stream.Record // without its value
	image  input.Image
	given  infer.Prediction
	ask    string // label of the version to ask
	step   span.Span
}

// newComparer starts the workers; close ends them.
func newComparer(
	m secondVersion, workers int, topic string, publish func(context.Context, stream.Record) error,
	count func(asked, result string), log *slog.Logger,
) *comparer {
	ctx, stop := context.WithCancel(context.Background())
	c := &comparer{
		model: m, publish: publish, topic: topic, count: count, log: log,
		jobs: make(chan comparison, 2*workers), stop: stop,
	}
	for range workers {
		c.workers.Go(func() { c.work(ctx) })
	}
	return c
}

// close ends the workers. Images that still wait are dropped.
func (c *comparer) close() {
	c.stop()
	c.workers.Wait()
	for {
		select {
		case job := <-c.jobs:
			c.finish(job, errStopped)
		default:
			return
		}
	}
}

// offer queues a copy of the image, if there is a second version and room.
func (c *comparer) offer(ctx context.Context, r stream.Record, image input.Image, given infer.Prediction) {
	ask := c.model.Secondary()
	switch {
	case ask == "":
		return
	case given.Label == model.LabelCanary:
		// One at a time: the stable version has records of the stream to answer.
		if !c.canary.CompareAndSwap(false, true) {
			return
		}
		ask = model.LabelStable
	case ask != model.LabelShadow:
		return
	}
	size := int64(len(image.Bytes))
	if c.bytes.Add(size) > maxCompareBytes && c.bytes.Load() != size {
		c.skip(size, ask)
		return
	}
	r.Value = nil
	_, step := span.Start(ctx, "compare")
	job := comparison{r, input.Image{Bytes: slices.Clone(image.Bytes), Source: image.Source}, given, ask, step}
	select {
	case c.jobs <- job:
	default:
		c.skip(size, ask)
		step.End(errSkipped)
	}
}

func (c *comparer) skip(size int64, ask string) {
	c.done(size, ask)
	c.count(ask, "skipped")
}

func (c *comparer) done(size int64, ask string) {
	c.bytes.Add(-size)
	if ask == model.LabelStable {
		c.canary.Store(false)
	}
}

func (c *comparer) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-c.jobs:
			c.finish(job, c.compare(job.step.Into(ctx), job))
		}
	}
}

func (c *comparer) finish(job comparison, err error) {
	job.step.End(err)
	c.done(int64(len(job.image.Bytes)), job.ask)
}

// compare returns an error for the trace only.
func (c *comparer) compare(ctx context.Context, job comparison) error {
	if ctx.Err() != nil { // select may take a job then
		return errStopped
	}
	p, err := c.model.ClassifyAs(ctx, job.ask, job.image.Bytes)
	same, known := p.Agrees(job.given)
	switch {
	case ctx.Err() != nil, errors.Is(err, model.ErrNoVersion): // it was unloaded meanwhile
		return err
	case err != nil:
		c.count(job.ask, "error")
		return err
	case !known: // there are no classes to compare
	case same:
		c.count(job.ask, "same")
	default:
		c.count(job.ask, "other")
	}
	if known {
		version := p.Version
		if job.ask == model.LabelStable {
			version = job.given.Version
		}
		c.agrees(version, same)
	}
	if job.ask != model.LabelShadow || c.publish == nil {
		return nil
	}
	out := answerRecord(job.record, job.image, p, c.topic)
	out[0].Partition = job.record.Partition
	limited, cancel := context.WithTimeout(ctx, shadowTimeout)
	defer cancel()
	err = c.publish(limited, out[0])
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.count(job.ask, "unpublished")
		if !c.unpublished.Swap(true) {
			c.log.Warn("shadow answer not published; it is left out, and the stream goes on", "topic", c.topic, "err", err)
		}
	case c.unpublished.Swap(false):
		c.log.Info("shadow answers are published again", "topic", c.topic)
	}
	return err
}
