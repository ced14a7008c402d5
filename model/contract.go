package model

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"inceptor/savedmodel"
)

// A look is what can be told of a version from its files.
type look struct {
	dir    string
	spec   Spec
	labels []string
	graph  *savedmodel.Graph
	digest string // by loader.look
}

// Given is what a person says of a version before its inceptor.yaml is written; the
// zero value says nothing.
type Given struct {
	Signature string
	Size      [2]int // height and width of the pixels that the model takes
	Output    string // key of the scores
}

func (g Given) apply(s *Spec) {
	s.Signature = cmp.Or(g.Signature, s.Signature)
	s.Input.Size = cmp.Or(g.Size, s.Input.Size)
	if g.Output != "" {
		s.Output = Output{Scores: g.Output}
	}
}

// lookInto reads what a version's files say of how it is to be run. Where they do not say
// which graph is, it is that with the tags; nil: it is found. Its error is a *GateError.
func lookInto(dir string, tags []string, given Given) (look, error) {
	seen := look{dir: dir}
	var err error
	if seen.spec, err = readSpec(dir); err != nil {
		return look{}, atGate(GateSignature, err)
	}
	given.apply(&seen.spec)
	if seen.labels, err = readLabels(dir, seen.spec.Labels); err != nil {
		return look{}, atGate(GateSignature, err)
	}
	if seen.graph, err = seen.spec.readGraph(dir, tags); err != nil {
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			return look{}, atGate(GateRead, err)
		}
		return look{}, atGate(GateSignature, err)
	}
	return seen, nil
}

// A contract is how records are answered by a version: what its load sets up, and what Explain tells.
type contract struct {
	signature
	pixels        *Preprocessing // nil: the model takes other things than pixels
	contradiction string         // between inceptor.yaml and the model; empty: none
	training      []string       // operations that only training should run; nil: none, or not known
}

// readGraph reads the graph of the version in dir that has the spec's tags or, where those are
// not said, these; see savedmodel.Options. An error about tags says which line names a graph.
func (s Spec) readGraph(dir string, tags []string) (*savedmodel.Graph, error) {
	if s.Tags != nil {
		tags = s.Tags
	}
	g, err := savedmodel.ReadGraph(dir, tags)
	wrong := (*savedmodel.TagsError)(nil)
	if !errors.As(err, &wrong) || len(wrong.Instead) == 0 {
		return g, err
	}
	mend := look{dir: dir}.offer().write("tags: " + yamlWords(wrong.Instead[0]))
	switch {
	case wrong.Training:
		mend += ", if it is for serving all the same"
	case len(wrong.Instead) > 1:
		mend += ", or the tags of another one"
	}
	err = fmt.Errorf("%w; %s", err, mend)
	if s.Tags != nil {
		err = fmt.Errorf("%s: %s: %w", look{dir: dir}.offer().where(), s.at("tags"), err)
	}
	return nil, err
}

// asInTraining is told of a version with operations of training.
const asInTraining = "the model runs as in training: an image's answer differs from run to run, or with the others in its batch; export it with training=False"

// offer is one of nothing yet: it knows where a person writes what is missing.
func (seen look) offer() offer { return offer{file: filepath.Join(seen.dir, specFile)} }

// contract decides how a version with these signatures is run.
func (seen look) contract(signatures map[string]savedmodel.Signature, c Content) (contract, error) {
	o := seen.offer()
	o.signatures, o.use, o.labels = signatures, seen.graph.Input, len(seen.labels)
	sig, err := seen.spec.bind(o, c)
	if err != nil {
		return contract{}, err
	}
	if lost := seen.graph.Unrestored(sig.Signature); len(lost) > 0 {
		return contract{}, fmt.Errorf("signature %q: %w", sig.Signature, errLost(lost[0]))
	}
	p := contract{signature: sig, training: seen.graph.TrainingOps(sig.Signature)}
	if c != Rows && sig.dtype != savedmodel.String {
		made, contradiction := sig.preprocessing(signatures, seen.graph)
		p.pixels, p.contradiction = &made, contradiction
	}
	return p, nil
}
