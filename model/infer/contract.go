package infer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"inceptor/savedmodel"
)

// SpecOverrides replace parts of a version's spec, for a person who has not written its
// inceptor.yaml yet. Zero fields replace nothing.
type SpecOverrides struct {
	Signature string
	Size      [2]int // height and width of the pixels that the model takes
	Output    string // key of the scores
}

func (o SpecOverrides) apply(s *Spec) {
	s.Signature = cmp.Or(o.Signature, s.Signature)
	s.Input.Size = cmp.Or(o.Size, s.Input.Size)
	if o.Output != "" {
		s.Output = Output{Scores: o.Output}
	}
}

// A contract is how a version answers records, by its files. A load sets it up, and Explain
// describes it.
type contract struct {
	signature
	dir    string
	graph  *savedmodel.Graph
	labels []string
	pixels *Preprocessing // nil: the model does not take pixels
	// contradiction says how inceptor.yaml and the model differ; empty: they do not.
	contradiction string
	// training are operations that should only run in training; nil: none, or not known.
	training []string
	digest   string // of the files; only a load needs it
}

// asInTraining is the warning about a version with operations of training.
const asInTraining = "the model runs as in training: an image's answer differs from run to run, or with the others in its batch; export it with training=False"

// readContract works out how the version in dir answers records of the content. Tags are those of
// the graph to run if inceptor.yaml names none; nil: the graph is found. Its error is a *GateError.
func readContract(dir string, tags []string, o SpecOverrides, content Content) (contract, error) {
	spec, err := readSpec(dir)
	if err != nil {
		return contract{}, AtGate(GateSignature, err)
	}
	o.apply(&spec)
	c := contract{dir: dir}
	if c.labels, err = readLabels(dir, spec.Labels); err != nil {
		return contract{}, AtGate(GateSignature, err)
	}
	if c.graph, err = spec.readGraph(dir, tags); err != nil {
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			return contract{}, AtGate(GateRead, err)
		}
		return contract{}, AtGate(GateSignature, err)
	}
	known := modelMetadata{signatures: c.graph.Signatures, inputUse: c.graph.Input, labels: len(c.labels), file: specPath(dir)}
	if c.signature, err = spec.bind(known, content); err != nil {
		return contract{}, AtGate(GateSignature, err)
	}
	if lost := c.graph.Unrestored(c.Signature); len(lost) > 0 {
		return contract{}, AtGate(GateSignature, fmt.Errorf("signature %q: %w", c.Signature, errLost(lost[0])))
	}
	c.training = c.graph.TrainingOps(c.Signature)
	if c.takesPixels() {
		var made Preprocessing
		made, c.contradiction = c.preprocessing(c.graph.Signatures, c.graph)
		c.pixels = &made
	}
	return c, nil
}

// suggest says to write a line into the version's inceptor.yaml.
func (c contract) suggest(line string) string { return suggest(specPath(c.dir), line) }

// readGraph reads the graph of the version in dir that has the spec's tags or, if it names none,
// these; see savedmodel.Options. An error about tags says which line names a graph.
func (s Spec) readGraph(dir string, tags []string) (*savedmodel.Graph, error) {
	if s.Tags != nil {
		tags = s.Tags
	}
	g, err := savedmodel.ReadGraph(dir, tags)
	wrong := (*savedmodel.TagsError)(nil)
	if !errors.As(err, &wrong) || len(wrong.Choices) == 0 {
		return g, err
	}
	hint := suggest(specPath(dir), "tags: "+yamlWords(wrong.Choices[0]))
	switch {
	case wrong.Training:
		hint += ", if it is for serving all the same"
	case len(wrong.Choices) > 1:
		hint += ", or the tags of another one"
	}
	err = fmt.Errorf("%w; %s", err, hint)
	if s.Tags != nil {
		err = fmt.Errorf("%s: %s: %w", specPath(dir), s.at("tags"), err)
	}
	return nil, err
}

// specPath returns the path of the inceptor.yaml of the version in dir.
func specPath(dir string) string { return filepath.Join(dir, SpecFile) }
