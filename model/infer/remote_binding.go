package infer

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// newBinding compares the server's signatures with the files of a local version, if there
// is one.
func (d *RemoteModel) newBinding(m remote.Metadata, want int64, assumed bool) (*binding, error) {
	spec, labels, err := d.spec(m.Version, want)
	if err != nil {
		return nil, err
	}
	graph := d.graph(spec, m.Version, want)
	o := d.metadata(m, want, graph, len(labels))
	sig, err := bindRemote(spec, o, d.options.Content)
	if err != nil {
		return nil, errors.New(remote.OneLine(err.Error())) // the text has keys from the server
	}
	b := &binding{want: want, metadata: o, assumed: assumed, pipeline: pipeline{
		options: d.options, info: Info{Model: d.options.Model, Version: m.Version}, backend: BackendRemote,
		sig: sig, labels: labels, decodeLimits: d.decodeLimits,
	}}
	switch {
	case sig.content == Rows:
		b.decode = newRowReader(sig.feeds).item
	case sig.dtype != savedmodel.String:
		p, contradiction := sig.preprocessing(m.Signatures, graph)
		if contradiction != "" {
			d.log.Warn("inceptor.yaml contradicts the model and is followed: scores are wrong if the model is right",
				"model", d.options.Model, "version", versionText(m.Version, "unknown"), "contradiction", contradiction)
		}
		if err := b.setPreprocessing(p); err != nil {
			return nil, fmt.Errorf("decoder: %w", err)
		}
	}
	b.refCounted = newRefCounted(func() { _ = b.close() }) // the error has no consequence
	b.batcher = newBatcher(d.batchFunc(sig, want, len(labels), assumed), d.lanes, false, sig.batchConfig(d.options.Batch), unobservedRuns{})
	return b, nil
}

// bindRemote prefers the signature that takes encoded images: they are smaller than pixels,
// and the server has the processors to decode them.
func bindRemote(spec Spec, o modelMetadata, c Content) (signature, error) {
	_, ok := o.signatures[bytesSignature]
	if !ok || !c.Image() {
		sig, err := spec.bindServer(o, c)
		if err != nil && o.file == "" && c.Image() {
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

// onlyFit returns the only signature of a server that surely takes images, where no local
// version names one; false: there is none, or several.
func onlyFit(spec Spec, o modelMetadata, c Content) (fit signature, ok bool) {
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

// bindServer is bind for a server's signatures. The export of a model names its outputs, so
// the server may have other names for the same network. If the output of the local version
// is missing, the scores are found as if none were named. Arrays are never guessed.
func (s Spec) bindServer(o modelMetadata, c Content) (signature, error) {
	if len(s.Outputs) == 0 && !has(o.signatures[s.Signature].Outputs, s.Output.Scores) {
		s.Output = Output{}
	}
	return s.bind(o, c)
}

// metadata returns the server's signatures, and what a local version adds: what its graph
// shows of signatures with the same inputs, and the file in which a person adds what is
// missing.
func (d *RemoteModel) metadata(m remote.Metadata, want int64, graph *savedmodel.Graph, labels int) modelMetadata {
	o := modelMetadata{signatures: m.Signatures, server: true, labels: labels}
	if dir := d.dirOf([]int64{m.Version, want}); dir != "" {
		o.file = filepath.Join(dir, SpecFile)
	}
	if graph == nil {
		return o
	}
	o.inputUse = func(signature, key string) (savedmodel.InputUse, error) {
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

// spec returns the inceptor.yaml and the labels of the local version that dirOf finds; without
// one, the defaults and no labels.
func (d *RemoteModel) spec(versions ...int64) (Spec, []string, error) {
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

// graph returns the graph of the local version that dirOf finds, which has this spec; nil:
// there is none, or it cannot be read.
func (d *RemoteModel) graph(spec Spec, versions ...int64) *savedmodel.Graph {
	dir := d.dirOf(versions)
	if dir == "" {
		return nil
	}
	g, err := spec.readGraph(dir, d.options.Session.Tags)
	if err != nil {
		d.log.Warn("cannot read the graph of a local version; what it shows of the inputs is unknown", "dir", dir, "err", err)
		return nil
	}
	return g
}

// hasVersion reports whether a version is in this machine's directory.
func (d *RemoteModel) hasVersion(version int64) bool {
	there, err := d.folders()
	return err == nil && slices.ContainsFunc(there, func(c Folder) bool { return c.Version == version })
}

// dirOf returns the folder of the first of these versions that is in this machine's
// directory, else that of the highest one there; empty: there is none.
func (d *RemoteModel) dirOf(versions []int64) string {
	there, err := d.folders()
	if err != nil {
		d.log.Warn("cannot list local versions; labels and preprocessing are unknown", "err", err)
	}
	for _, v := range versions {
		for _, c := range there {
			if c.Version == v {
				return c.Dir
			}
		}
	}
	if len(there) == 0 {
		return ""
	}
	return there[len(there)-1].Dir
}

// assume returns the metadata of a local version, the wanted one or the highest, for a server
// that reports none.
func (d *RemoteModel) assume(want int64, why error) (remote.Metadata, error) {
	dir := d.dirOf([]int64{want})
	if dir == "" {
		return remote.Metadata{}, fmt.Errorf("%w: so put a version into model.dir, to say what the model takes", why)
	}
	spec, err := readSpec(dir)
	if err != nil {
		return remote.Metadata{}, err
	}
	graph, err := spec.readGraph(dir, d.options.Session.Tags)
	if err != nil {
		return remote.Metadata{}, fmt.Errorf("%w: so a version in model.dir must say what the model takes: %w", why, err)
	}
	return remote.Metadata{Version: remote.NoVersion, Signatures: graph.Signatures}, nil
}
