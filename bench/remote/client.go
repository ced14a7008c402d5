package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/bench/measure"
	"inceptor/model"
	"inceptor/model/fallback"
	"inceptor/model/infer"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/service"
)

// A greeting is what a client tells when it is warm: for each photo, the scores
// by class.
type greeting struct{ Scores []map[int]float64 }

// A request asks for photos to be classified for so long: by many callers or,
// if there is one, at a rate, in photos a second.
type request struct{ Seconds, Rate float64 }

// A reply is what became of a request. All photos were answered.
type reply struct {
	Images, Batches int
	Retries         int       // calls to a server that did not succeed
	Seconds         float64   // from the first call to the last answer
	Latencies       []float64 // in seconds, from when a photo was due; if it was asked for a rate
}

// A classifier is the model, wherever that is.
type classifier interface {
	Load(ctx context.Context) error
	Classify(ctx context.Context, key, image []byte) (infer.Prediction, error)
	Close()
}

// A caller classifies photos as the service does, and counts its batches.
type caller struct {
	classifier
	model.Unobserved
	remote.Observer
	backend string
	photos  [][]byte

	batches, retries atomic.Int64
}

// BatchRun implements model.Observer.
func (c *caller) BatchRun(int64, infer.Run) { c.batches.Add(1) }

// CallDone implements remote.Observer.
func (c *caller) CallDone(op, code string, _ time.Duration) {
	switch {
	case code != "OK":
		c.retries.Add(1)
	case op == "predict":
		c.batches.Add(1)
	}
}

// client does what it is asked on standard input, until that ends.
func client(ctx context.Context, config service.Config) error {
	c := &caller{Observer: remote.Unobserved{}, backend: config.Model.Backend}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	if c.photos, err = measure.Photos(); err != nil {
		return err
	}
	if config.Model.Backend == model.OnlyRemote {
		c.classifier, err = fallback.NewServer(config.Model, config.Fallback, log, c)
	} else if err = savedmodel.OpenLibrary(config.TensorFlow.Library); err == nil {
		c.classifier, err = model.New(config.Model, log, c)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Load(ctx); err != nil {
		return err
	}
	say, asked := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	g, err := c.warmUp(ctx)
	if err != nil {
		return err
	}
	if err := say.Encode(g); err != nil {
		return err
	}
	for {
		var r request
		if err := asked.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		answer, err := c.do(ctx, r)
		if err != nil {
			return err
		}
		if err := say.Encode(answer); err != nil {
			return err
		}
	}
}

// warmUp classifies each photo alone, then so many at once that every batch
// that may be under way is full.
func (c *caller) warmUp(ctx context.Context) (greeting, error) {
	var g greeting
	for _, photo := range c.photos {
		p, err := c.Classify(ctx, nil, photo)
		if err != nil {
			return g, err
		}
		if p.Backend != c.backend || p.Version != version {
			return g, fmt.Errorf("version %d, %s, has answered, not version %d, %s", p.Version, p.Backend, version, c.backend)
		}
		scores := map[int]float64{}
		for _, class := range p.Classes {
			scores[class.Index] = float64(class.Score)
		}
		g.Scores = append(g.Scores, scores)
	}
	var all errgroup.Group
	for n := range measure.Callers / 2 {
		all.Go(func() error { return c.classify(ctx, c.photos[n%len(c.photos)]) })
	}
	return g, all.Wait()
}

func (c *caller) classify(ctx context.Context, photo []byte) error {
	_, err := c.Classify(ctx, nil, photo)
	return err
}

func (c *caller) do(ctx context.Context, r request) (reply, error) {
	batches, retries := c.batches.Load(), c.retries.Load()
	work := c.flood
	if r.Rate > 0 {
		work = c.steady
	}
	answer, err := work(ctx, r)
	answer.Batches, answer.Retries = int(c.batches.Load()-batches), int(c.retries.Load()-retries)
	return answer, err
}

// flood counts every answer, those of the last callers too: until the last
// batches there is enough to do, and a server answers in bursts of many photos,
// of which a cut would make one more or less.
func (c *caller) flood(ctx context.Context, r request) (reply, error) {
	begin, ends, err := measure.Flood(ctx, measure.Callers, seconds(r.Seconds), c.photos, c.classify)
	if err != nil {
		return reply{}, err
	}
	return reply{Images: len(ends), Seconds: ends[len(ends)-1].Sub(begin).Seconds()}, nil
}

func (c *caller) steady(ctx context.Context, r request) (reply, error) {
	var mu sync.Mutex
	var answer reply
	var failed error
	begin := time.Now()
	until, cancel := context.WithTimeout(ctx, seconds(r.Seconds))
	defer cancel()
	measure.AtRate(until, r.Rate, func(n int, due time.Time) {
		err := c.classify(ctx, c.photos[n%len(c.photos)])
		took := time.Since(due).Seconds()
		mu.Lock()
		defer mu.Unlock()
		answer.Latencies = append(answer.Latencies, took)
		failed = errors.Join(failed, err)
	})
	answer.Images, answer.Seconds = len(answer.Latencies), time.Since(begin).Seconds()
	if failed == nil && answer.Images == 0 {
		failed = errors.New("no photo was due: measure for longer (-seconds)")
	}
	return answer, failed
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
