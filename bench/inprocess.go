package main

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/prototext"

	"inceptor/bench/measure"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// batchSizes are those of the raw loop. The best one is the limit.
var batchSizes = []int{1, 2, 4, 8}

const signature = "serving_default"

//go:embed decode.pbtxt
var decodeGraph string

// raw is the C API with only package savedmodel above it: sessions with default options, tensors
// made beforehand, and the graph that the service runs with its settings of the model.
type raw struct {
	photos  [][]byte
	decoder *savedmodel.Session
	decode  *savedmodel.Function
	model   *savedmodel.Model
	predict *savedmodel.Function
	pixels  map[int]*savedmodel.Tensor // by batch size
}

func newRaw(ctx context.Context, photos [][]byte, c model.Config) (r *raw, err error) {
	r = &raw{photos: photos, pixels: map[int]*savedmodel.Tensor{}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	version := filepath.Join(c.Dir, "1")
	settings := c.Options().Session
	o := savedmodel.Options{
		Optimize: settings.Optimize, Kernels: settings.Kernels, Precision: settings.Precision, Signature: signature,
	}
	if o.Precision == savedmodel.PrecisionInt8 {
		calibration, err := infer.ReadCalibration(version)
		if err != nil {
			return nil, err
		}
		o.Ranges = calibration.Ranges()
	}
	if r.model, err = savedmodel.Load(ctx, version, o); err != nil {
		return nil, err
	}
	if r.model.WhyFloat32 != "" {
		return nil, fmt.Errorf("the model does not run in %v: %s", o.Precision, r.model.WhyFloat32)
	}
	sig, err := r.model.Signature(signature)
	if err != nil {
		return nil, err
	}
	var in, out string
	for in = range sig.Inputs {
	}
	for out = range sig.Outputs {
	}
	if r.predict, err = r.model.SignatureFunction(signature, []string{in}, []string{out}); err != nil {
		return nil, err
	}
	def := &tfpb.GraphDef{}
	if err := prototext.Unmarshal([]byte(decodeGraph), def); err != nil {
		return nil, err
	}
	if r.decoder, err = savedmodel.NewSession(def, savedmodel.Options{}); err != nil {
		return nil, err
	}
	if r.decode, err = r.decoder.Function([]string{"contents:0"}, []string{"pixels:0"}); err != nil {
		return nil, err
	}
	for _, n := range batchSizes {
		if r.pixels[n], err = r.batch(ctx, n); err != nil {
			return nil, err
		}
		for range 2 { // the first runs initialize kernels
			if err := r.run(ctx, n); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// batch decodes photos to one tensor.
func (r *raw) batch(ctx context.Context, n int) (*savedmodel.Tensor, error) {
	batch, err := savedmodel.NewTensor(savedmodel.Float32, int64(n), 299, 299, 3)
	if err != nil {
		return nil, err
	}
	to := batch.Bytes()
	for i := range n {
		pixels, err := r.decodePhoto(ctx, i)
		if err != nil {
			batch.Close()
			return nil, err
		}
		to = to[copy(to, pixels.Bytes()):]
		pixels.Close()
	}
	return batch, nil
}

func (r *raw) decodePhoto(ctx context.Context, i int) (*savedmodel.Tensor, error) {
	contents, err := savedmodel.NewStringTensor([][]byte{r.photos[i%len(r.photos)]})
	if err != nil {
		return nil, err
	}
	defer contents.Close()
	out, err := r.decode.Run(ctx, contents)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

func (r *raw) run(ctx context.Context, n int) error {
	out, err := r.predict.Run(ctx, r.pixels[n])
	if err != nil {
		return err
	}
	out[0].Close()
	return nil
}

func (r *raw) close() {
	for _, t := range r.pixels {
		t.Close()
	}
	if r.decoder != nil {
		_ = r.decoder.Close()
	}
	if r.model != nil {
		_ = r.model.Close()
	}
}

// rawRun runs one batch after the other.
func (b *bench) rawRun(ctx context.Context, n int, d time.Duration) error {
	begin, cpu := time.Now(), measure.OwnCPU()
	var each []time.Duration
	for len(each) < 3 || time.Since(begin) < d {
		start := time.Now()
		if err := b.raw.run(ctx, n); err != nil {
			return err
		}
		each = append(each, time.Since(start))
	}
	images := float64(n * len(each))
	b.results.Add(rawRate(n), images/time.Since(begin).Seconds())
	b.results.Add(rawCPU(n), (measure.OwnCPU()-cpu).Seconds()/images)
	if n == 1 {
		b.results.Add(runAlone, measure.Quantile(each, 0.5).Seconds())
	}
	return nil
}

// rawDecode decodes one photo after the other, first one at a time, then as
// many at once as there are cores.
func (b *bench) rawDecode(ctx context.Context, d time.Duration) error {
	begin, cpu := time.Now(), measure.OwnCPU()
	var each []time.Duration
	for time.Since(begin) < d {
		start := time.Now()
		pixels, err := b.raw.decodePhoto(ctx, len(each))
		if err != nil {
			return err
		}
		pixels.Close()
		each = append(each, time.Since(start))
	}
	b.results.Add(decodeRate, float64(len(each))/time.Since(begin).Seconds())
	b.results.Add(decodeCPU, (measure.OwnCPU()-cpu).Seconds()/float64(len(each)))
	b.results.Add(decodeAlone, measure.Quantile(each, 0.5).Seconds())

	begin = time.Now()
	counts := make([]int, runtime.NumCPU())
	var g errgroup.Group
	for i := range counts {
		g.Go(func() error {
			for time.Since(begin) < d {
				pixels, err := b.raw.decodePhoto(ctx, counts[i])
				if err != nil {
					return err
				}
				pixels.Close()
				counts[i]++
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	all := 0
	for _, n := range counts {
		all += n
	}
	b.results.Add(decodeAllRate, float64(all)/time.Since(begin).Seconds())
	return nil
}

// A classify is the model as the service uses it, and what it says of its
// batches.
type classify struct {
	*model.Manager
	model.Unobserved

	mu            sync.Mutex
	batches, size int
}

func newClassify(ctx context.Context, c model.Config) (*classify, error) {
	m := &classify{}
	var err error
	if m.Manager, err = model.New(c, slog.New(slog.DiscardHandler), m); err != nil {
		return nil, err
	}
	if err := m.Load(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// BatchRun implements model.Observer.
func (m *classify) BatchRun(_ int64, r infer.Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches++
	m.size += r.Size
}

func (m *classify) counts() (batches, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.batches, m.size
}

// measureClassify lets many callers classify for a while. The answers at the end do not count,
// since there are fewer callers then.
func (b *bench) measureClassify(ctx context.Context) error {
	batches, size := b.classify.counts()
	cpu := measure.OwnCPU()
	begin, ends, err := measure.Flood(ctx, measure.Callers, b.phase, b.photos, func(ctx context.Context, photo []byte) error {
		_, err := b.classify.Classify(ctx, nil, photo)
		return err
	})
	if err != nil {
		return err
	}
	b.results.Add(classifyCPU, (measure.OwnCPU()-cpu).Seconds()/float64(len(ends)))
	steady := ends
	for len(steady) > 0 && steady[len(steady)-1].Sub(begin) > b.phase {
		steady = steady[:len(steady)-1]
	}
	rate, err := measure.Rate(steady)
	if err != nil {
		return err
	}
	b.results.Add(classifyRate, rate)
	moreBatches, moreSize := b.classify.counts()
	b.results.Add(classifyBatch, float64(moreSize-size)/float64(moreBatches-batches))
	return nil
}
