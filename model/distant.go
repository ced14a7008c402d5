package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// bytesSignature is the signature that takes encoded images, by TensorFlow
// Serving's custom. Others that take strings may want tf.Examples.
const bytesSignature = "serving_bytes"

// distant is the model on a model server. What it takes is asked once for each
// version that is wanted of it. Safe for concurrent use.
type distant struct {
	// Set once.
	config   Config
	client   *remote.Client
	lanes    int       // batches at once
	decoding *decoding // shared by the bindings
	log      *slog.Logger

	asking singleflight.Group // by the version that is wanted
	mu     sync.Mutex
	bound  *binding // nil: not asked yet, or it has changed
}

// A binding is how images go to the server while a version is wanted of it.
type binding struct {
	*leased
	answerer
	want    int64
	sig     signature
	offer   offer       // that sig was made of
	assumed bool        // sig is what a version here says: the server does not tell
	works   atomic.Bool // a record was answered
	decoder *decoder    // nil: images are sent as they came, or decoded in Go
}

func (b *binding) close() {
	b.batcher.close()
	if b.decoder != nil {
		_ = b.decoder.Close() // nothing is lost by it
	}
}

// answerTries is how often an image is answered anew because the server has
// gone on to another version. One step takes two; a server that has several
// replicas may have more than one version while they change.
const answerTries = 4

// classify answers an image, if possible by the version that is wanted. What
// it is told of the image's classes is that of the version that answered.
func (d *distant) classify(ctx context.Context, image []byte, want int64) (Prediction, error) {
	var had, has int64
	for range answerTries {
		b, err := d.bind(ctx, want)
		if err != nil {
			return Prediction{}, err
		}
		p, err := b.classify(ctx, image)
		if guilty := new(InputError); errors.As(err, &guilty) && guilty.Reason == ReasonModelRefused && !b.content.image() {
			if why := d.confirm(ctx, b); why != nil {
				d.forget(b)
				err = fmt.Errorf("%v; %w", err, why) //nolint:errorlint // it is no longer to be blamed
			}
		}
		if err == nil {
			b.works.Store(true)
		}
		had, has = b.info.Version, p.Version
		moved := err == nil && has != had && had != remote.NoVersion
		if k := remote.KindOf(err); moved || k == remote.KindRefused || k == remote.KindAnswer {
			d.forget(b) // labels, preprocessing and signature may be others now
		}
		b.drop()
		if moved {
			continue
		}
		if err == nil && want != remote.NoVersion && has != want {
			p.Wanted = &want
		}
		return p, err
	}
	return Prediction{}, fmt.Errorf("the model server says it has version %d, and answers with %d", had, has)
}

// confirm asks the server once more what it takes: if that is what it was, a
// record that it refuses is to blame. There is no blank one to try in its place.
// A server that does not tell must have answered another record.
func (d *distant) confirm(ctx context.Context, b *binding) error {
	m, err := d.client.Metadata(ctx, b.want, "")
	if b.assumed && remote.Unimplemented(err) && b.works.Load() {
		return nil // it tells nothing, but took others
	}
	if err != nil {
		return err
	}
	o := b.offer
	o.signatures = m.Signatures
	sig, err := b.sig.bind(o, b.content)
	if err != nil {
		return errors.New(remote.OneLine(err.Error())) // it has the server's keys
	}
	if !reflect.DeepEqual(sig, b.sig) {
		return errors.New("the model server takes something else now")
	}
	return nil
}

// lease is the binding for the version that is wanted, if there is one.
func (d *distant) lease(want int64) (*binding, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bound == nil || d.bound.want != want || !d.bound.retain() {
		return nil, false
	}
	return d.bound, true
}

func (d *distant) forget(b *binding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bound == b {
		d.bound = nil
		b.drop()
	}
}

// close waits for the images under way.
func (d *distant) close() {
	d.mu.Lock()
	b := d.bound
	d.mu.Unlock()
	if b != nil {
		d.forget(b)
		<-b.freed
	}
}

// info is what answers; false: the server was not found to have what is wanted.
func (d *distant) info(want int64) (Info, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bound == nil || d.bound.want != want {
		return Info{}, false
	}
	return d.bound.info, true
}

// assumption is that of the last binding; empty: there is none.
func (d *distant) assumption() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bound == nil {
		return ""
	}
	return d.bound.assumption
}

// bind leases the binding for the version that is wanted, which it makes if
// need be.
func (d *distant) bind(ctx context.Context, want int64) (*binding, error) {
	for {
		if b, ok := d.lease(want); ok {
			return b, nil
		}
		// Whoever comes meanwhile shares the answer, a failure too.
		asked := d.asking.DoChan(strconv.FormatInt(want, 10), func() (any, error) {
			return nil, caught(func() error { return d.ask(context.WithoutCancel(ctx), want) })
		})
		select {
		case r := <-asked:
			if r.Err != nil {
				return nil, r.Err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask makes the binding for the version that is wanted.
func (d *distant) ask(ctx context.Context, want int64) error {
	metadata, err := d.client.Metadata(ctx, want, "")
	assumed := remote.Unimplemented(err)
	if assumed {
		metadata, err = d.assume(want, err)
	}
	if err != nil {
		return err
	}
	b, err := d.newBinding(metadata, want, assumed)
	if err != nil {
		return fmt.Errorf("what the model server has does not fit: %w", err)
	}
	dir := d.dirOf([]int64{metadata.Version, want})
	if assumed {
		err = b.try(ctx)
	}
	if err == nil && dir != "" && b.pixels != nil && b.pixels.ScaleFrom == OriginAssumed {
		err = b.passGolden(ctx, dir, func(p Preprocessing) error { return b.convert(p, d.config) })
	}
	if err != nil {
		b.drop()
		return err
	}
	if assumed {
		d.log.Warn("model server has Predict alone: signature, preprocessing and labels are assumed to be those of a version here, "+
			"and which version it has is known from its answers at most", "version", numberOr(b.info.Version, "not told"), "wanted", numberOr(want, "any"))
	}
	if b.pixels != nil && b.pixels.ScaleFrom == OriginGraph && b.sig.dtype != savedmodel.UInt8 && !d.has(metadata.Version) {
		b.pixels.ScaleFrom = OriginAssumed // the graph is another version's
	}
	b.note(dir, d.log)
	d.log.Info("model server has what is wanted", "version", numberOr(b.info.Version, "not told"), "wanted", numberOr(want, "any"), "encoded", b.decode == nil, "output", remote.OneLine(strings.Join(b.sig.outputs(), ", ")))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bound != nil {
		d.bound.drop()
	}
	d.bound = b
	return nil
}

// numberOr is a version for the log.
func numberOr(version int64, none string) string {
	if version == remote.NoVersion {
		return none
	}
	return strconv.FormatInt(version, 10)
}

// assume is what a version here says of itself, for a server that tells
// nothing: the one that is wanted, or the highest.
func (d *distant) assume(want int64, why error) (remote.Metadata, error) {
	dir := d.dirOf([]int64{want})
	if dir == "" {
		return remote.Metadata{}, fmt.Errorf("%w: so a version in model.dir must tell what the model takes, and there is none", why)
	}
	spec, err := readSpec(dir)
	if err != nil {
		return remote.Metadata{}, err
	}
	graph, err := spec.readGraph(dir, d.config.Session.Tags)
	if err != nil {
		return remote.Metadata{}, fmt.Errorf("%w: so a version in model.dir must tell what the model takes: %w", why, err)
	}
	return remote.Metadata{Version: remote.NoVersion, Signatures: graph.Signatures}, nil
}

// try has the server classify a made-up picture, where the model is for images, and
// notes which version has answered.
func (b *binding) try(ctx context.Context) error {
	if !b.content.image() {
		return nil
	}
	p, err := b.classify(ctx, sampleFor(b.maxPixels))
	b.info.Version = p.Version
	return err
}

// newBinding checks the server's signatures against what the version says of
// itself in the model's directory, as far as there is one.
func (d *distant) newBinding(m remote.Metadata, want int64, assumed bool) (*binding, error) {
	spec, labels, err := d.spec(m.Version, want)
	if err != nil {
		return nil, err
	}
	graph := d.graph(spec, m.Version, want)
	o := d.offer(m, want, graph, len(labels))
	sig, err := bindRemote(spec, o, d.config.Content)
	if err != nil {
		return nil, errors.New(remote.OneLine(err.Error())) // it has the server's keys
	}
	b := &binding{want: want, sig: sig, offer: o, assumed: assumed, answerer: answerer{
		info: Info{Model: d.config.Name, Version: m.Version}, backend: BackendRemote,
		content: sig.content, labels: labels, topK: sig.TopK,
		maxPixels: d.config.MaxPixels, decoding: d.decoding,
	}}
	b.bound(sig)
	switch {
	case sig.content == Rows:
		b.decode = newRowReader(sig.feeds).item
	case sig.dtype != savedmodel.String:
		p, contradiction := sig.preprocessing(m.Signatures, graph)
		if contradiction != "" {
			d.log.Warn("inceptor.yaml contradicts the model, and holds: scores are wrong if the model is right",
				"model", d.config.Name, "version", numberOr(m.Version, "not told"), "contradiction", contradiction)
		}
		if err := b.convert(p, d.config); err != nil {
			return nil, fmt.Errorf("decoder: %w", err)
		}
	}
	b.leased = newLeased(b.close)
	b.batcher = newBatcher(d.run(sig, want, len(labels), assumed), d.lanes, false, sig.batching(d.config.Batch), unwatched{})
	return b, nil
}

// convert makes pixels for the server as p says. No image may be under way.
func (b *binding) convert(p Preprocessing, c Config) error {
	b.pixels = &p
	if savedmodel.LibraryPath() == "" {
		recipe := p.recipe(b.sig.dtype)
		b.decode, b.perPixel = decodeInGo(recipe), goPixel
		return recipe.Check()
	}
	d, err := newDecoder(p, b.sig.dtype, c.Decode == decodeFast, c.Session)
	if err != nil {
		return err
	}
	if b.decoder != nil {
		err = b.decoder.Close()
	}
	b.decoder, b.decode = d, d.item
	return err
}

type unwatched struct{}

func (unwatched) ran(Run)                {}
func (unwatched) overdue(underway, bool) {} // fallback.budget bounds them

// bindRemote prefers the signature that takes encoded images: they are smaller
// than pixels, and the server has the processors to decode them.
func bindRemote(spec Spec, o offer, c Content) (signature, error) {
	_, ok := o.signatures[bytesSignature]
	if !ok || !c.image() {
		sig, err := spec.bindServer(o, c)
		if err != nil && o.file == "" && c.image() {
			if only, ok := onlyFit(spec, o, c); ok {
				return only, nil
			}
		}
		return sig, err
	}
	encoded := spec
	encoded.Signature = bytesSignature
	sig, err := encoded.bindServer(o, c)
	if err == nil && sig.dtype == savedmodel.String {
		return sig, nil
	}
	sig, other := spec.bindServer(o, c)
	switch {
	case other == nil:
		return sig, nil
	case err == nil:
		return sig, other
	}
	return sig, fmt.Errorf("%w; %w", err, other)
}

// onlyFit is the only signature of a server that is certain to take images, where
// no version here names one; false: there is none, or several.
func onlyFit(spec Spec, o offer, c Content) (fit signature, ok bool) {
	n := 0
	for key := range o.signatures {
		other := spec
		other.Signature = key
		if sig, err := other.bindServer(o, c); err == nil {
			fit, n = sig, n+1
		}
	}
	return fit, n == 1
}

// bindServer is bind for what a server has. The names of outputs are given when
// a model is exported, so the same network may have others there: where the
// version's is missing, it is found as if none were named. Arrays are never guessed.
func (s Spec) bindServer(o offer, c Content) (signature, error) {
	if len(s.Outputs) == 0 && !has(o.signatures[s.Signature].Outputs, s.Output.Scores) {
		s.Output = Output{}
	}
	return s.bind(o, c)
}

// offer is what a server has, and what a version here shows of it: its graph, of
// signatures with the same inputs, and where a person writes what is missing.
func (d *distant) offer(m remote.Metadata, want int64, graph *savedmodel.Graph, labels int) offer {
	o := offer{signatures: m.Signatures, server: true, labels: labels}
	if dir := d.dirOf([]int64{m.Version, want}); dir != "" {
		o.file = filepath.Join(dir, specFile)
	}
	if graph == nil {
		return o
	}
	o.use = func(signature, key string) (savedmodel.InputUse, error) {
		there := m.Signatures[signature]
		if !slices.Equal(keys(graph.Signatures[signature].Inputs), keys(there.Inputs)) {
			return savedmodel.InputUse{}, errNotShown
		}
		use, err := graph.Input(signature, key)
		use.Returned = slices.DeleteFunc(use.Returned, func(output string) bool { return !has(there.Outputs, output) })
		return use, err
	}
	return o
}

// spec is what one of the versions says of itself, if it is in the model's
// directory; else, what the highest one there says, or the defaults and no
// labels.
func (d *distant) spec(versions ...int64) (Spec, []string, error) {
	dir := d.dirOf(versions)
	if dir == "" {
		return defaultSpec(), nil, nil
	}
	spec, err := readSpec(dir)
	if err != nil {
		return spec, nil, err
	}
	labels, err := readLabels(dir, spec.Labels)
	return spec, labels, err
}

// graph is that of one of the versions, if it is in the model's directory, else
// of the highest one there, which has the spec; nil: there is none, or it cannot be read.
func (d *distant) graph(spec Spec, versions ...int64) *savedmodel.Graph {
	dir := d.dirOf(versions)
	if dir == "" {
		return nil
	}
	g, err := spec.readGraph(dir, d.config.Session.Tags)
	if err != nil {
		d.log.Warn("graph cannot be read: what it says of its inputs is not known", "version directory", dir, "err", err)
		return nil
	}
	return g
}

// has tells whether a version is in the model's directory.
func (d *distant) has(version int64) bool {
	there, err := scan(d.config.Dir)
	return err == nil && slices.ContainsFunc(there, func(c candidate) bool { return c.number == version })
}

// dirOf is the folder of the first of the versions that is there, else of the
// highest; empty: there is none.
func (d *distant) dirOf(versions []int64) string {
	if d.config.Dir == "" {
		return ""
	}
	there, err := scan(d.config.Dir)
	if err != nil {
		d.log.Warn("nothing is known of labels and preprocessing", "err", err)
	}
	for _, v := range versions {
		for _, c := range there {
			if c.number == v {
				return c.dir
			}
		}
	}
	if len(there) == 0 {
		return ""
	}
	return there[len(there)-1].dir
}
