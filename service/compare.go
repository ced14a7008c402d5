package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/model"
	"inceptor/service/input"
	"inceptor/service/stream"
)

const (
	// maxCompareBytes bounds the images that wait for a second opinion.
	maxCompareBytes = 64 << 20

	// shadowTimeout bounds one shadow answer on its way to the broker.
	shadowTimeout = 10 * time.Second
)

// A comparer asks a second version about images that were answered: the
// shadow, whose answers it publishes, or, for what a canary has answered, the
// stable one. It never delays the stream: what finds no place in its queue is
// not asked, and counted. Offer is safe for concurrent use.
type comparer struct {
	model   Model
	publish func(context.Context, stream.Record) error // nil: there is no shadow topic
	topic   string
	metrics *Metrics
	log     *slog.Logger

	jobs    chan comparison
	bytes   atomic.Int64 // of the images in jobs and at work
	canary  atomic.Bool  // one for a canary is under way
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// A comparison is an image with the answer that it got.
type comparison struct {
	record stream.Record // without its value
	image  input.Image
	given  model.Prediction
	ask    string // label of the version to ask
}

// newComparer starts as many workers as the model takes images in a batch.
func newComparer(m Model, workers int, topic string, publish func(context.Context, stream.Record) error, metrics *Metrics, log *slog.Logger) *comparer {
	ctx, stop := context.WithCancel(context.Background())
	c := &comparer{
		model: m, publish: publish, topic: topic, metrics: metrics, log: log,
		jobs: make(chan comparison, 2*workers), stop: stop,
	}
	for range workers {
		c.workers.Go(func() { c.work(ctx) })
	}
	return c
}

// close gives up what was not asked yet.
func (c *comparer) close() {
	c.stop()
	c.workers.Wait()
}

// offer takes a copy of the image, if there is a second version and time.
func (c *comparer) offer(r stream.Record, image input.Image, given model.Prediction) {
	ask := c.model.Beside()
	switch {
	case ask == "":
		return
	case given.Label == model.LabelCanary:
		// The stable version has others to answer.
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
	job := comparison{r, input.Image{Bytes: slices.Clone(image.Bytes), Source: image.Source}, given, ask}
	select {
	case c.jobs <- job:
	default:
		c.skip(size, ask)
	}
}

func (c *comparer) skip(size int64, ask string) {
	c.done(size, ask)
	c.metrics.compared(ask, "skipped")
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
			c.compare(ctx, job)
			c.done(int64(len(job.image.Bytes)), job.ask)
		}
	}
}

func (c *comparer) compare(ctx context.Context, job comparison) {
	p, err := c.model.ClassifyAs(ctx, job.ask, job.image.Bytes)
	same, known := p.Agrees(job.given)
	switch {
	case ctx.Err() != nil, errors.Is(err, model.ErrNoVersion): // gone meanwhile
		return
	case err != nil:
		c.metrics.compared(job.ask, "error")
		return
	case !known: // arrays alone
	case same:
		c.metrics.compared(job.ask, "same")
	default:
		c.metrics.compared(job.ask, "other")
	}
	if job.ask != model.LabelShadow || c.publish == nil {
		return
	}
	out := answerRecord(job.record, job.image, p, c.topic)
	out[0].Partition = job.record.Partition
	limited, cancel := context.WithTimeout(ctx, shadowTimeout)
	defer cancel()
	if err := c.publish(limited, out[0]); err != nil && ctx.Err() == nil {
		c.metrics.compared(job.ask, "unpublished")
		c.log.Debug("shadow answer is not published", "err", err)
	}
}
