package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"inceptor/model/pixels"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
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
	sig, err := b.sig.bind(m.Signatures, b.content)
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
	b.note(dir, d.log)
	d.log.Info("model server has what is wanted", "version", numberOr(b.info.Version, "not told"), "wanted", numberOr(want, "any"), "encoded", b.decode == nil, "output", remote.OneLine(b.output))
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
	info, err := savedmodel.Inspect(dir)
	if err != nil {
		return remote.Metadata{}, err
	}
	tags := d.config.Session.Tags
	if len(tags) == 0 {
		tags = []string{"serve"}
	}
	graph, ok := info.Graph(tags...)
	if !ok {
		return remote.Metadata{}, fmt.Errorf("%w: so a version in model.dir must tell what the model takes, and %s has no graph with the tags %q", why, dir, tags)
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
	sig, err := bindRemote(spec, m.Signatures, d.config.Content, len(labels))
	if err != nil {
		return nil, errors.New(remote.OneLine(err.Error())) // it has the server's keys
	}
	if labels != nil && sig.classes > 0 && len(labels) != sig.classes {
		return nil, fmt.Errorf("%d labels for %d classes", len(labels), sig.classes)
	}
	b := &binding{want: want, sig: sig, assumed: assumed, answerer: answerer{
		info: Info{Model: d.config.Name, Version: m.Version}, backend: BackendRemote,
		content: sig.content, output: sig.Output, labels: labels, topK: sig.TopK,
		maxPixels: d.config.MaxPixels, decoding: d.decoding,
	}}
	switch {
	case sig.content == Rows:
		b.decode = newRowReader(sig.feeds).item
	case sig.dtype != savedmodel.String:
		p, contradiction := sig.preprocessing(m.Signatures, d.graph(m.Version, want))
		if contradiction != "" {
			d.log.Warn("inceptor.yaml contradicts the model, and holds: scores are wrong if the model is right",
				"model", d.config.Name, "version", numberOr(m.Version, "not told"), "contradiction", contradiction)
		}
		if err := b.convert(p, d.config); err != nil {
			return nil, fmt.Errorf("decoder: %w", err)
		}
	}
	batch := d.config.Batch
	if sig.maxBatch > 0 {
		batch.Max = min(batch.Max, sig.maxBatch)
	}
	b.leased = newLeased(b.close)
	b.batcher = newBatcher(d.run(sig, want, len(labels), assumed), d.lanes, false, batch, unwatched{})
	return b, nil
}

// convert makes pixels for the server as p says. No image may be under way.
func (b *binding) convert(p Preprocessing, c Config) error {
	b.pixels = &p
	if savedmodel.LibraryPath() == "" {
		b.decode, b.perPixel = decodeInGo(p, b.sig.dtype), goPixel
		return nil
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
func bindRemote(spec Spec, signatures map[string]savedmodel.Signature, c Content, labels int) (signature, error) {
	_, ok := signatures[bytesSignature]
	if !ok || !c.image() {
		return spec.bindServer(signatures, c, labels)
	}
	encoded := spec
	encoded.Signature = bytesSignature
	sig, err := encoded.bindServer(signatures, c, labels)
	if err == nil && sig.dtype == savedmodel.String {
		return sig, nil
	}
	sig, other := spec.bindServer(signatures, c, labels)
	switch {
	case other == nil:
		return sig, nil
	case err == nil:
		return sig, other
	}
	return sig, fmt.Errorf("%w; %w", err, other)
}

// bindServer is bind for what a server has. The names of outputs are given when
// a model is exported, so the same network may have others there: where the
// spec's is missing, the only output that fits is taken.
func (s Spec) bindServer(signatures map[string]savedmodel.Signature, c Content, labels int) (signature, error) {
	outputs := signatures[s.Signature].Outputs
	if _, ok := outputs[s.Output]; !ok {
		var fit []string
		for key := range outputs {
			out := signature{Spec: Spec{Output: key}, content: c}
			if out.bindOutput(outputs) == nil && (labels == 0 || out.classes == 0 || out.classes == labels) {
				fit = append(fit, key)
			}
		}
		if len(fit) == 1 {
			s.Output = fit[0]
		}
	}
	return s.bind(signatures, c)
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
// of the highest one there; nil: there is none, or it cannot be read.
func (d *distant) graph(versions ...int64) *savedmodel.Graph {
	dir := d.dirOf(versions)
	if dir == "" {
		return nil
	}
	g, err := savedmodel.ReadGraph(dir, d.config.Session.Tags...)
	if err != nil {
		d.log.Warn("graph cannot be read: what it says of preprocessing is not known", "version directory", dir, "err", err)
		return nil
	}
	return g
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

// run sends batches to the server.
func (d *distant) run(sig signature, want int64, classes int, assumed bool) batchFunc {
	return func(items []item) (scored, error) {
		inputs, err := message(sig, items)
		if err != nil {
			return scored{}, err
		}
		answer, err := d.client.Predict(context.Background(), remote.Batch{
			Signature: sig.Signature, Inputs: inputs, Output: sig.Output, AllOutputs: assumed, Blank: sig.content.blank(),
			Version: want, Classes: classes,
		})
		switch remote.KindOf(err) {
		case remote.KindInput:
			err = &InputError{ReasonModelRefused, err}
		case remote.KindTooLarge:
			err = &InputError{ReasonServerTooLarge, err}
		}
		return scored{answer.Scores, answer.Version, answer.Server}, err
	}
}

// blank is what every model of images takes; nil: of other contents, none is
// known.
func (c Content) blank() []byte {
	if c.image() {
		return usualSamples()[0].bytes
	}
	return nil
}

// message makes the inputs of a batch, as they are sent.
func message(sig signature, items []item) (map[string]*tfpb.TensorProto, error) {
	if sig.content == Rows {
		return rowMessage(sig.feeds, items)
	}
	parts := make([][]byte, len(items))
	for i, it := range items {
		switch {
		case it.pixels != nil:
			parts[i] = it.pixels.Bytes()
		case it.plain != nil:
			parts[i] = it.plain
		default:
			parts[i] = it.encoded
		}
	}
	if sig.dtype == savedmodel.String {
		return map[string]*tfpb.TensorProto{sig.inputKey: remote.Strings(nil, parts...)}, nil
	}
	pixels, err := remote.Numbers(sig.dtype, savedmodel.Shape{int64(sig.Input.Size[0]), int64(sig.Input.Size[1]), 3}, parts...)
	return map[string]*tfpb.TensorProto{sig.inputKey: pixels}, err
}

func rowMessage(feeds []feed, items []item) (map[string]*tfpb.TensorProto, error) {
	inputs := map[string]*tfpb.TensorProto{}
	for _, f := range feeds {
		var parts [][]byte
		for _, it := range items {
			parts = append(parts, f.values(it.row)...)
		}
		if f.dtype == savedmodel.String {
			inputs[f.key] = remote.Strings(f.shape, parts...)
			continue
		}
		t, err := remote.Numbers(f.dtype, f.shape, parts...)
		if err != nil {
			return nil, err
		}
		inputs[f.key] = t
	}
	return inputs, nil
}

// decodeInGo does what a decoder does, without TensorFlow and nearly the same.
func decodeInGo(p Preprocessing, dtype savedmodel.DataType) func(context.Context, []byte, Header) (item, error) {
	recipe := pixels.Recipe{
		View: p.view, Height: p.Size[0], Width: p.Size[1],
		Area: p.Resize == "area", AlignCorners: p.AlignCorners, HalfPixelCenters: p.HalfPixelCenters,
		Scale: float32(p.Scale), Offset: float32(p.Offset), DType: dtype,
	}
	return func(_ context.Context, image []byte, h Header) (item, error) {
		plain, err := recipe.Append(nil, image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
		if err != nil {
			return item{}, &InputError{ReasonUndecodable, err}
		}
		return item{plain: plain}, nil
	}
}
