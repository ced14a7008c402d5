package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"inceptor/savedmodel"
)

// An Explanation says how the service runs a version, by its files: how a record becomes the input,
// and the output an answer.
type Explanation struct {
	Content Content `json:"content"` // what records hold: "image", "tensor-json" or "example"

	// Refused says why the service would refuse the version, and what to do; empty: nothing is
	// known against it. If it is not empty, all that follows is.
	Refused string `json:"refused,omitempty"`

	Tags      []string         `json:"tags"` // of the graph to run; empty: it has none
	Signature string           `json:"signature"`
	Method    string           `json:"method"`
	Inputs    []ExplainedInput `json:"inputs"` // by Key
	// Formats are the image formats that the model's graph decodes, with its Decoders; empty: the
	// model takes pixels, or no images.
	Formats  []string `json:"formats,omitempty"`
	Decoders []string `json:"decoders,omitempty"`
	// Preprocessing says how pixels are made; nil: the model takes none.
	Preprocessing *Preprocessing `json:"preprocessing,omitempty"`
	// Golden is the number of golden images by which a load finds out which pixels the model
	// takes; 0: it need not.
	Golden int `json:"golden,omitempty"`

	Scores  string          `json:"scores"`  // key of the output; empty: there are only Outputs
	Values  bool            `json:"values"`  // an answer has the scores unchanged
	Classes int             `json:"classes"` // 0: not known before the model runs
	Labels  ExplainedLabels `json:"labels"`
	TopK    int             `json:"top_k"`
	// Activation turns the scores into probabilities; empty: they stay as they are.
	Activation string `json:"activation,omitempty"`
	// Pair tells that the only score is for the second label.
	Pair bool `json:"pair,omitempty"`
	// Outputs are those that an answer returns as arrays.
	Outputs []ExplainedOutput `json:"outputs,omitempty"`

	// Int8 describes the version's ranges for int8; nil: it brings none that can be used.
	Int8 *ExplainedRanges `json:"int8,omitempty"`

	// Notes say what is assumed or missing, each with what to write into which file.
	Notes []string `json:"notes"`
}

// ExplainedRanges describe a Calibration.
type ExplainedRanges struct {
	Layers  int    `json:"layers"`
	Records int    `json:"records"` // with which they were measured
	Method  Method `json:"method"`
}

// An ExplainedInput is an input of the signature.
type ExplainedInput struct {
	Key   string              `json:"key"`
	DType savedmodel.DataType `json:"dtype"`
	Shape savedmodel.Shape    `json:"shape"`
	From  string              `json:"from"` // FromPixels, or one of the constants after it
	// Feature is the feature of a tf.Example that takes the image.
	Feature string `json:"feature,omitempty"`
	// Base64 tells that the encoded image is fed in web-safe base64.
	Base64 bool `json:"base64,omitempty"`
	// Returned is the key of the output that returns the input.
	Returned string `json:"returned,omitempty"`
}

// An ExplainedOutput is an output that an answer returns as an array.
type ExplainedOutput struct {
	Key   string              `json:"key"`
	DType savedmodel.DataType `json:"dtype"`
	Shape savedmodel.Shape    `json:"shape"`
}

// What an input is fed from.
const (
	FromPixels  = "pixels"        // the pixels of the image
	FromImage   = "image"         // the encoded image, unchanged
	FromExample = "example"       // a tf.Example made of the image
	FromRecord  = "record"        // the record, or a part of it
	FromKey     = "key"           // the record's number in its batch, which an output returns
	FromFile    = "inceptor.yaml" // a value of that file
	FromDefault = "default"       // the graph's default
)

// ExplainedLabels says where the labels of classes come from.
type ExplainedLabels struct {
	Output string `json:"output,omitempty"` // key of the output with each score's class
	Words  bool   `json:"words,omitempty"`  // that output has the labels themselves, not numbers
	File   string `json:"file,omitempty"`   // with the labels, as inceptor.yaml names it
	Path   string `json:"path,omitempty"`   // of that file, below the version's directory
	Offset int    `json:"offset,omitempty"` // class of the file's first label
}

// Explain says how the service runs the version in dir, a directory with a saved_model.pb; o
// replaces parts of its spec. It decides by the same code as a load, and needs no TensorFlow, so it
// leaves open what a load finds out by running the model. It reads all files that SHA256SUMS lists,
// and the golden images.
func Explain(dir string, c Content, o SpecOverrides) Explanation {
	e := Explanation{Content: cmp.Or(c, Images), Tags: []string{}, Inputs: []ExplainedInput{}, Notes: []string{}}
	if err := e.explain(dir, o); err != nil {
		e.Refused = err.Error()
		if gate := (*GateError)(nil); errors.As(err, &gate) {
			e.Refused = gate.Err.Error()
		}
	}
	return e
}

func (e *Explanation) explain(dir string, o SpecOverrides) error {
	if err := checkSums(context.Background(), dir); err != nil {
		return err
	}
	c, err := readContract(dir, nil, o, e.Content)
	if err != nil {
		return err
	}
	golden, err := readGolden(dir)
	if err != nil {
		return err
	}
	if len(golden) > 0 && c.Output.Scores == "" {
		return errGoldenNeedsScores(dir)
	}
	for _, g := range golden {
		if _, err := g.read(dir); err != nil {
			return err
		}
	}
	sig := c.graph.Signatures[c.Signature]
	e.Tags, e.Signature, e.Method = c.graph.Tags, c.Signature, sig.Method
	for _, key := range keys(sig.Inputs) {
		e.Inputs = append(e.Inputs, c.explainInput(key, sig.Inputs[key]))
	}
	e.Formats, e.Decoders, e.Preprocessing = c.formats, c.decoders, c.pixels
	e.Scores, e.Values, e.Classes, e.TopK = c.Output.Scores, c.values, c.classes, c.TopK
	e.Labels = c.explainLabels()
	e.Activation, e.Pair = c.Activation, c.pair && c.classes > 0
	for _, key := range c.Outputs {
		e.Outputs = append(e.Outputs, ExplainedOutput{key, sig.Outputs[key].DType, sig.Outputs[key].Shape})
	}
	e.note(c, len(golden))
	e.explainRanges(c)
	return nil
}

// explainRanges describes the version's ranges for int8, or adds a note why they cannot be used.
func (e *Explanation) explainRanges(c contract) {
	ranges, err := ReadCalibration(c.dir)
	if ranges == nil && err == nil {
		return
	}
	if err == nil {
		err = ranges.checkWeights(context.Background(), c.dir)
	}
	if err == nil && e.Golden == 0 { // else a load finds out how pixels are made
		err = ranges.checkPixels(c.pixels)
	}
	if err != nil {
		e.Notes = append(e.Notes, fmt.Sprintf("it cannot run in int8: %v", err))
		return
	}
	e.Int8 = &ExplainedRanges{len(ranges.Layers), ranges.Records, ranges.Method}
}

// explainLabels says where the labels of classes come from.
func (c contract) explainLabels() ExplainedLabels {
	l := ExplainedLabels{Output: c.Output.Classes, Words: c.words}
	if c.labels != nil && !c.words && c.Output.Scores != "" {
		l.File, l.Offset = c.Labels.File, c.Labels.Offset
		l.Path = filepath.ToSlash(labelsPath(c.dir, c.Labels.File))
	}
	return l
}

// explainInput says what an input is fed from.
func (c contract) explainInput(key string, info savedmodel.TensorInfo) ExplainedInput {
	in := ExplainedInput{Key: key, DType: info.DType, Shape: info.Shape, From: FromDefault}
	i := slices.IndexFunc(c.feeds, func(f feed) bool { return f.key == key })
	if i < 0 {
		return in
	}
	switch f := c.feeds[i]; {
	case f.from == fromFile:
		in.From = FromFile
	case f.from == fromIndex:
		in.From = FromKey
	case f.from == fromRow, !c.content.Image():
		in.From = FromRecord
	case f.feature != "":
		in.From, in.Feature = FromExample, f.feature
	case f.dtype == savedmodel.String:
		in.From, in.Base64 = FromImage, f.base64
	default:
		in.From = FromPixels
	}
	for _, r := range c.returned {
		if r.feed == i {
			in.Returned = r.output
		}
	}
	return in
}

// note adds what is assumed or missing, for a version with so many golden images.
func (e *Explanation) note(c contract, golden int) {
	note := func(format string, args ...any) { e.Notes = append(e.Notes, fmt.Sprintf(format, args...)) }
	if e.Labels.File != "" && onlyIDs(c.labels) {
		named := c.Labels
		named.Names = "FILE"
		note("the labels are WordNet ids: %s, to name a file that has their words", c.suggest(named.yamlLine()))
	}
	if c.training != nil {
		note("%s (%s)", asInTraining, strings.Join(c.training, ", "))
	}
	if c.batch > 1 {
		note("every run takes %d records: fewer are filled up with copies and take as long; "+
			"export the model with a batch of None if records come one by one", c.batch)
	}
	if c.contradiction != "" {
		note("%s: inceptor.yaml decides; scores are wrong if the model is right", c.contradiction)
	}
	if c.pixels != nil {
		p := *c.pixels
		if p.ScaleFrom == OriginAssumed && golden > 0 {
			e.Golden = golden
			p.ScaleFrom = OriginMeasured // by the load
		}
		if text := p.note(c.dir); text != "" {
			note("%s", text)
		}
	}
	if e.Content.Image() && e.Scores != "" && !e.Values && !e.Labels.Words && e.Labels.File == "" {
		note("the classes have no labels: answers have only their numbers; write a line for each class into %s",
			filepath.Join(c.dir, "assets", cmp.Or(c.Labels.File, defaultLabels)))
	}
}
