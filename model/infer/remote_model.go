package infer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// A RemoteModel answers records with a model on a model server. It asks the server once what
// each wanted version takes. Safe for concurrent use.
type RemoteModel struct {
	// Set once.
	options      Options
	folders      func() ([]Folder, error) // versions in this machine's directory, the highest last
	client       *remote.Client
	lanes        int // batches at a time
	decodeLimits *DecodeLimits
	log          *slog.Logger

	// Safe for concurrent use.
	asking singleflight.Group // by wanted version

	// Guarded by mu.
	mu      sync.Mutex
	binding *binding // nil: not asked yet, or the server has changed
}

// NewRemoteModel returns the model of a model server. It connects to nothing yet. The versions
// in folders say what the server's metadata do not, such as labels and preprocessing.
func NewRemoteModel(o Options, folders func() ([]Folder, error), c remote.Config, limits *DecodeLimits,
	log *slog.Logger, observer remote.Observer,
) (*RemoteModel, error) {
	client, err := remote.New(c, log, observer)
	if err != nil {
		return nil, err
	}
	return &RemoteModel{
		options: o, folders: folders, client: client, lanes: c.Concurrency, decodeLimits: limits, log: log,
	}, nil
}

// A binding is how records go to the server while this version is wanted.
type binding struct {
	*refCounted
	pipeline
	want     int64
	metadata modelMetadata // that the signature was made from
	assumed  bool          // the signature is that of a local version: the server does not report its own
	answered atomic.Bool   // a record
}

// maxAnswerTries is how often a record is answered again because the server has changed to
// another version. One change takes two tries. A server with several replicas may have more
// than one version while they change.
const maxAnswerTries = 4

// Classify answers a record, if possible with the wanted version. Labels and preprocessing
// are those of the version that has answered.
func (d *RemoteModel) Classify(ctx context.Context, content []byte, want int64) (Prediction, error) {
	var expected, answered int64
	for range maxAnswerTries {
		b, err := d.bind(ctx, want)
		if err != nil {
			return Prediction{}, err
		}
		p, err := b.Classify(ctx, content)
		if guilty := new(InputError); errors.As(err, &guilty) && guilty.Reason == ReasonModelRefused && !b.sig.content.Image() {
			if changed := d.checkUnchanged(ctx, b); changed != nil {
				d.forget(b)
				err = fmt.Errorf("%v; %w", err, changed) //nolint:errorlint // the record is no longer to blame
			}
		}
		if err == nil {
			b.answered.Store(true)
		}
		expected, answered = b.info.Version, p.Version
		moved := err == nil && answered != expected && expected != remote.NoVersion
		if k := remote.KindOf(err); moved || k == remote.KindRefused || k == remote.KindAnswer {
			d.forget(b) // labels, preprocessing and signature may have changed
		}
		b.Release()
		if moved {
			continue
		}
		if err == nil && want != remote.NoVersion && answered != want {
			p.Wanted = &want
		}
		return p, err
	}
	return Prediction{}, fmt.Errorf("the model server reports version %d, and answers with version %d", expected, answered)
}

// checkUnchanged asks the server again what it takes. If that has not changed, a refused
// record is to blame; unlike for images, no blank record is known to try in its place. If the
// server does not report what it takes, it must have answered another record.
func (d *RemoteModel) checkUnchanged(ctx context.Context, b *binding) error {
	m, err := d.client.Metadata(ctx, b.want, "")
	if b.assumed && remote.Unimplemented(err) && b.answered.Load() {
		return nil
	}
	if err != nil {
		return err
	}
	o := b.metadata
	o.signatures = m.Signatures
	sig, err := b.sig.bind(o, b.sig.content)
	if err != nil {
		return errors.New(remote.OneLine(err.Error())) // the text has keys from the server
	}
	if !reflect.DeepEqual(sig, b.sig) {
		return errors.New("the model server takes something else now")
	}
	return nil
}

// retain returns the binding for the wanted version, if there is one. The caller releases it.
func (d *RemoteModel) retain(want int64) (*binding, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.binding == nil || d.binding.want != want || !d.binding.Retain() {
		return nil, false
	}
	return d.binding, true
}

// forget makes the next record ask the server again.
func (d *RemoteModel) forget(b *binding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.binding == b {
		d.binding = nil
		b.Release()
	}
}

// current returns the last binding; nil: there is none.
func (d *RemoteModel) current() *binding {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.binding
}

// DecodeLimits returns the limits that it decodes within.
func (d *RemoteModel) DecodeLimits() *DecodeLimits { return d.decodeLimits }

// Close closes the connection, and waits for the records under way.
func (d *RemoteModel) Close() {
	_ = d.client.Close() // the error has no consequence
	if b := d.current(); b != nil {
		d.forget(b)
		<-b.freed
	}
}

// Info returns what answers; false: the server has not been found to have the wanted version.
func (d *RemoteModel) Info(want int64) (Info, bool) {
	b := d.current()
	if b == nil || b.want != want {
		return Info{}, false
	}
	return b.info, true
}

// Unreachable returns why the server is not called now; empty: it is called.
func (d *RemoteModel) Unreachable() string {
	if d.client.BreakerOpen() {
		return d.client.LastFailure()
	}
	return ""
}

// Assumed returns what of the preprocessing for the server is assumed, and how to state it;
// empty: nothing, or the server has not been asked yet.
func (d *RemoteModel) Assumed() string {
	if b := d.current(); b != nil {
		return b.assumption
	}
	return ""
}

// MaxBatch returns how many records one call of the server takes at most.
func (d *RemoteModel) MaxBatch() int {
	if b := d.current(); b != nil {
		return b.MaxBatch()
	}
	return d.options.Batch.Max
}

// Check has the server classify a made-up picture with the wanted version, and returns which
// version has answered. Of a model for other content it asks only what that takes.
func (d *RemoteModel) Check(ctx context.Context, want int64) (Info, error) {
	if !d.options.Content.Image() {
		return d.Load(ctx, want)
	}
	p, err := d.Classify(ctx, sampleFor(d.options.MaxPixels), want)
	return p.Info, err
}

// Load asks the server what the wanted version takes, unless that is known, and returns which
// version it has.
func (d *RemoteModel) Load(ctx context.Context, want int64) (Info, error) {
	b, err := d.bind(ctx, want)
	if err != nil {
		return Info{}, err
	}
	defer b.Release()
	return b.info, nil
}

// bind returns the binding for the wanted version, and makes it if necessary. The caller
// releases it.
func (d *RemoteModel) bind(ctx context.Context, want int64) (*binding, error) {
	for {
		if b, ok := d.retain(want); ok {
			return b, nil
		}
		// Callers that arrive meanwhile share the result, even an error.
		asked := d.asking.DoChan(strconv.FormatInt(want, 10), func() (any, error) {
			return nil, recoverPanic(func() error { return d.ask(context.WithoutCancel(ctx), want) })
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

// ask makes the binding for the wanted version.
func (d *RemoteModel) ask(ctx context.Context, want int64) error {
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
		return fmt.Errorf("the model on the server does not fit: %w", err)
	}
	dir := d.dirOf([]int64{metadata.Version, want})
	if assumed {
		err = b.try(ctx)
	}
	if err == nil && dir != "" && b.preprocessing != nil && b.preprocessing.ScaleFrom == OriginAssumed {
		err = b.passGolden(ctx, dir)
	}
	if err != nil {
		b.Release()
		return err
	}
	d.reportBinding(b, metadata.Version, dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.binding != nil {
		d.binding.Release()
	}
	d.binding = b
	return nil
}

// reportBinding logs what the server takes. The version is the one of its metadata.
func (d *RemoteModel) reportBinding(b *binding, version int64, dir string) {
	log := d.log.With("version", versionText(b.info.Version, "unknown"), "wanted", versionText(b.want, "any"))
	if b.assumed {
		log.Warn("model server reports neither metadata nor its version; " +
			"assuming the signature, preprocessing and labels of a local version")
	}
	p := b.preprocessing
	if p != nil && p.ScaleFrom == OriginGraph && b.sig.dtype != savedmodel.UInt8 && !d.hasVersion(version) {
		p.ScaleFrom = OriginAssumed // the graph is that of another version
	}
	b.reportPreprocessing(dir, d.log)
	log.Info("model server has the model", "encoded", b.decode == nil,
		"output", remote.OneLine(strings.Join(b.sig.outputs(), ", ")))
}

// try has the server classify a made-up picture, if the model is for images, and sets the
// version that has answered.
func (b *binding) try(ctx context.Context) error {
	if !b.sig.content.Image() {
		return nil
	}
	p, err := b.Classify(ctx, sampleFor(b.options.MaxPixels))
	b.info.Version = p.Version
	return err
}
