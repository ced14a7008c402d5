package model

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

// An Explanation tells what the service does with a version, by what its files
// say: how a record becomes its input, and its output an answer.
type Explanation struct {
	Content Content `json:"content"` // what records hold: "image", "tensor-json" or "example"

	// Refused tells why the service would not take the version, and what to do;
	// empty: nothing is known that speaks against it. Then all that follows is empty.
	Refused string `json:"refused,omitempty"`

	Tags      []string         `json:"tags"` // of the graph that is run; empty: it has none
	Signature string           `json:"signature"`
	Method    string           `json:"method"`
	Inputs    []ExplainedInput `json:"inputs"` // by Key
	// Formats are those of the images that the model's graph decodes with its
	// Decoders; empty: it takes pixels, or no image.
	Formats  []string `json:"formats,omitempty"`
	Decoders []string `json:"decoders,omitempty"`
	// Preprocessing is how pixels are made, for a model that takes pixels.
	Preprocessing *Preprocessing `json:"preprocessing,omitempty"`
	// Golden is the number of golden images with which a load measures what pixels
	// the model takes, since nothing says it.
	Golden int `json:"golden,omitempty"`

	Scores  string        `json:"scores"`  // key of the output; empty: there are none, but Outputs
	Values  bool          `json:"values"`  // an answer has the scores as they are
	Classes int           `json:"classes"` // 0: known once the model runs
	Labels  ExplainedFrom `json:"labels"`
	TopK    int           `json:"top_k"`
	// Activation is what makes probabilities of the scores; empty: they stay as they are.
	Activation string `json:"activation,omitempty"`
	// Pair tells that the only score is that of the second label.
	Pair bool `json:"pair,omitempty"`
	// Outputs are those that an answer has as arrays.
	Outputs []ExplainedOutput `json:"outputs,omitempty"`

	// Notes tell what is assumed or missing, each with what to write into which file.
	Notes []string `json:"notes"`
}

// An ExplainedInput is an input of the signature.
type ExplainedInput struct {
	Key   string              `json:"key"`
	DType savedmodel.DataType `json:"dtype"`
	Shape savedmodel.Shape    `json:"shape"`
	From  string              `json:"from"` // one of the words below
	// Feature is that of a tf.Example which the image is put into.
	Feature string `json:"feature,omitempty"`
	// Base64: the encoded image is put into web-safe base64.
	Base64 bool `json:"base64,omitempty"`
	// Returned is the key of the output that gives the input back.
	Returned string `json:"returned,omitempty"`
}

// An ExplainedOutput is an output that an answer has as an array.
type ExplainedOutput struct {
	Key   string              `json:"key"`
	DType savedmodel.DataType `json:"dtype"`
	Shape savedmodel.Shape    `json:"shape"`
}

// What an input takes.
const (
	FromPixels  = "pixels"        // of the image
	FromImage   = "image"         // the encoded image as it came
	FromExample = "example"       // a tf.Example made of the image
	FromRecord  = "record"        // the record, or a part of it
	FromKey     = "key"           // a number for each record of a batch, which comes back
	FromFile    = "inceptor.yaml" // a value that is written there
	FromDefault = "default"       // what the graph has for it
)

// ExplainedFrom says where the words of classes come from.
type ExplainedFrom struct {
	Output string `json:"output,omitempty"` // key of the output with each score's class
	Words  bool   `json:"words,omitempty"`  // that output has the words themselves, not numbers
	File   string `json:"file,omitempty"`   // with the words, as inceptor.yaml names it
	Path   string `json:"path,omitempty"`   // of that file, below the version's directory
	Offset int    `json:"offset,omitempty"` // class of the file's first label
}

// Explain tells what the service does with the version in dir, a directory that
// holds a saved_model.pb. It needs no TensorFlow: it decides by the same code as a
// load. It reads all files that SHA256SUMS lists, and the golden images. What a load finds out by
// running the model it does not know.
func Explain(dir string, c Content) Explanation { return ExplainGiven(dir, c, Given{}) }

// ExplainGiven is Explain with what a person says besides.
func ExplainGiven(dir string, c Content, given Given) Explanation {
	e := Explanation{Content: cmp.Or(c, Images), Tags: []string{}, Inputs: []ExplainedInput{}, Notes: []string{}}
	if err := e.explain(dir, given); err != nil {
		e.Refused = err.Error()
		if gate := (*GateError)(nil); errors.As(err, &gate) {
			e.Refused = gate.Err.Error()
		}
	}
	return e
}

func (e *Explanation) explain(dir string, given Given) error {
	if err := checkSums(context.Background(), dir); err != nil {
		return err
	}
	seen, err := lookInto(dir, nil, given)
	if err != nil {
		return err
	}
	p, err := seen.contract(seen.graph.Signatures, e.Content)
	if err != nil {
		return err
	}
	golden, err := readGolden(dir)
	if err != nil {
		return err
	}
	if len(golden) > 0 && p.Output.Scores == "" {
		return noGolden(dir)
	}
	for _, g := range golden {
		if _, err := g.read(dir); err != nil {
			return err
		}
	}
	sig := seen.graph.Signatures[p.Signature]
	e.Tags, e.Signature, e.Method = seen.graph.Tags, p.Signature, sig.Method
	for _, key := range keys(sig.Inputs) {
		e.Inputs = append(e.Inputs, p.explainInput(key, sig.Inputs[key]))
	}
	e.Formats, e.Decoders, e.Preprocessing = p.formats, p.decoders, p.pixels
	e.Scores, e.Values, e.Classes, e.TopK = p.Output.Scores, p.values, p.classes, p.TopK
	e.Labels = ExplainedFrom{Output: p.Output.Classes, Words: p.words}
	if seen.labels != nil && !p.words && e.Scores != "" {
		e.Labels.File, e.Labels.Offset = p.Labels.File, p.Labels.Offset
		e.Labels.Path = filepath.ToSlash(labelsPath(dir, p.Labels.File))
		if onlyIDs(seen.labels) {
			named := p.Labels
			named.Names = "FILE"
			e.Notes = append(e.Notes, fmt.Sprintf("the labels are WordNet ids: %s, with a file that has their words", seen.offer().write(named.line())))
		}
	}
	e.Activation, e.Pair = p.Activation, p.pair && p.classes > 0
	for _, key := range p.Outputs {
		e.Outputs = append(e.Outputs, ExplainedOutput{key, sig.Outputs[key].DType, sig.Outputs[key].Shape})
	}
	e.note(seen, p, len(golden))
	return nil
}

// explainInput tells what an input takes.
func (p contract) explainInput(key string, info savedmodel.TensorInfo) ExplainedInput {
	in := ExplainedInput{Key: key, DType: info.DType, Shape: info.Shape, From: FromDefault}
	i := slices.IndexFunc(p.feeds, func(f feed) bool { return f.key == key })
	if i < 0 {
		return in
	}
	switch f := p.feeds[i]; {
	case f.from == fromFile:
		in.From = FromFile
	case f.from == fromPlace:
		in.From = FromKey
	case f.from == fromRow, !p.content.image():
		in.From = FromRecord
	case f.feature != "":
		in.From, in.Feature = FromExample, f.feature
	case f.dtype == savedmodel.String:
		in.From, in.Base64 = FromImage, f.base64
	default:
		in.From = FromPixels
	}
	for _, r := range p.returned {
		if r.feed == i {
			in.Returned = r.output
		}
	}
	return in
}

// note collects what is assumed or missing of a version with so many golden images.
func (e *Explanation) note(seen look, p contract, golden int) {
	if p.training != nil {
		e.Notes = append(e.Notes, fmt.Sprintf("%s (%s)", asInTraining, strings.Join(p.training, ", ")))
	}
	if p.batch > 1 {
		e.Notes = append(e.Notes, fmt.Sprintf("every run takes %d records: fewer are filled up with copies, and take as long; "+
			"export the model with a batch of None if records come one by one", p.batch))
	}
	if p.contradiction != "" {
		e.Notes = append(e.Notes, p.contradiction+": inceptor.yaml holds; scores are wrong if the model is right")
	}
	if p.pixels != nil {
		told := *p.pixels
		if told.ScaleFrom == OriginAssumed && golden > 0 {
			e.Golden = golden
			told.ScaleFrom = OriginMeasured // by the load
		}
		if note := told.note(seen.dir); note != "" {
			e.Notes = append(e.Notes, note)
		}
	}
	if e.Content.image() && e.Scores != "" && !e.Values && !e.Labels.Words && e.Labels.File == "" {
		e.Notes = append(e.Notes, fmt.Sprintf("no words for the classes: answers have their numbers alone; write a line for each class into %s",
			filepath.Join(seen.dir, "assets", cmp.Or(p.Labels.File, usualLabels))))
	}
}
