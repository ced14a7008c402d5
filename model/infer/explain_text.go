package infer

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"inceptor/savedmodel"
)

// WriteText writes the Explanation for a person. It quotes names that come from the model.
func (e Explanation) WriteText(w io.Writer) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "\nserving    with --input.format %s\n", e.Content)
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "  "+name+"\t"+format+"\n", args...) }
	if e.Refused != "" {
		line("REFUSED", "%s", printed(e.Refused))
	} else {
		e.writeLines(line)
	}
	for _, note := range e.Notes {
		line("note", "%s", printed(note))
	}
	_ = t.Flush() // to a buffer
	_, err := w.Write(out.Bytes())
	return err
}

func (e Explanation) writeLines(line func(name, format string, args ...any)) {
	line("tags", "%s", e.tags())
	line("signature", "%q%s", e.Signature, inBrackets(e.Method))
	for _, in := range e.Inputs {
		line("input", "%q %v takes %s", in.Key, savedmodel.TensorInfo{DType: in.DType, Shape: in.Shape}, in.takes())
	}
	if e.Formats != nil {
		line("images", "%s; decoded in the graph by %s", strings.Join(e.Formats, ", "), strings.Join(e.Decoders, ", "))
	}
	if p := e.Preprocessing; p != nil {
		line("size", "%d×%d", p.Size[0], p.Size[1])
		if steps := p.steps(); steps != nil {
			line("picture", "%s", strings.Join(steps, ", "))
		}
		line("resize", "%s: %s", p.sampling(), stated(p.ResizeFrom))
		if e.Golden > 0 {
			line("pixels", "measured with %d golden images when the version is loaded", e.Golden)
		} else {
			line("pixels", "%v, by pixel × %s + %s: %s", p.conversion(), p.Scale.String(), p.Offset.String(), stated(p.ScaleFrom))
		}
	}
	if e.Scores != "" {
		e.writeScores(line)
	}
	for _, out := range e.Outputs {
		line("output", "%q %v, in the answer as an array", out.Key, savedmodel.TensorInfo{DType: out.DType, Shape: out.Shape})
	}
	if e.Scores == "" {
		line("answer", "arrays, and no classes")
	}
	if r := e.Int8; r != nil {
		line("int8", "ranges of %d layers, measured with %d records, by %s", r.Layers, r.Records, r.Method)
	}
}

func (e Explanation) writeScores(line func(name, format string, args ...any)) {
	classes := "of an unknown number of classes"
	switch {
	case e.Pair:
		classes = "of the second label; the first one has 1 minus that"
	case e.Classes == 1:
		classes = "of one class"
	case e.Classes > 0:
		classes = fmt.Sprintf("of %d classes", e.Classes)
	}
	if e.Activation != "" {
		classes += ", after " + e.Activation
	}
	if e.Values {
		classes += ", unchanged"
	}
	line("scores", "%q, %s", e.Scores, classes)
	line("labels", "%s", printed(e.Labels.String()))
	line("answer", "the best %d classes", e.TopK)
}

func (e Explanation) tags() string {
	if len(e.Tags) == 0 {
		return "none"
	}
	quoted := make([]string, len(e.Tags))
	for i, tag := range e.Tags {
		quoted[i] = strconv.Quote(tag)
	}
	return strings.Join(quoted, ", ")
}

// stated says where a value comes from.
func stated(from Origin) string {
	switch from {
	case OriginFile:
		return "stated by " + SpecFile
	case OriginGraph:
		return "stated by the graph"
	case OriginMeasured:
		return "measured with the golden images"
	}
	return "assumed, not stated by the model"
}

// takes says what an input is fed from.
func (in ExplainedInput) takes() string {
	switch in.From {
	case FromPixels:
		return "the image's pixels"
	case FromImage:
		if in.Base64 {
			return "the encoded image in base64"
		}
		return "the encoded image"
	case FromExample:
		return fmt.Sprintf("a tf.Example with the encoded image as its feature %q", in.Feature)
	case FromRecord:
		return "the content of the record"
	case FromKey:
		return fmt.Sprintf("a number for each record, which is returned as %q", in.Returned)
	case FromFile:
		return "the value in " + SpecFile
	}
	return "its default"
}

// String says where the labels of classes come from.
func (l ExplainedLabels) String() string {
	file := l.Path
	if l.Offset != 0 {
		file += fmt.Sprintf(", whose first label is that of class %d", l.Offset)
	}
	switch {
	case l.Words:
		return fmt.Sprintf("the words in the output %q", l.Output)
	case l.Output != "" && l.File != "":
		return fmt.Sprintf("of the numbers in the output %q, in %s", l.Output, file)
	case l.Output != "":
		return fmt.Sprintf("none; the numbers in the output %q", l.Output)
	case l.File != "":
		return file
	}
	return "none"
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + printed(s) + ")"
}

// printed returns text of the model's on one line, without control characters.
func printed(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '�'
		}
		return r
	}, s)
}
