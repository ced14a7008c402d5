package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// An Output says which outputs of a signature are read. In inceptor.yaml it is
// the key of the scores alone, or {scores: KEY, classes: KEY}.
type Output struct {
	// Scores is the key of a float32 output of shape [N, classes]; of a model of
	// rows also [N]. Empty: it is found.
	Scores string
	// Classes is the key of an output of the scores' shape with the class of each
	// score: strings are the classes' words, integers their indices. Empty: such
	// an output is found, and where there is none, a score's place is its class.
	Classes string

	whole bool // both are told: there are no classes where Classes is empty
}

// UnmarshalYAML takes both forms.
func (o *Output) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	*o = Output{}
	if node.Kind == yaml.ScalarNode && node.Value != "" {
		o.Scores = node.Value
		return nil
	}
	wrong := func(at *yaml.Node) error {
		return fmt.Errorf("line %d: output: want the key of an output, or {scores: KEY, classes: KEY}", at.Line)
	}
	if node.Kind != yaml.MappingNode {
		return wrong(node)
	}
	o.whole = true
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if value.Kind != yaml.ScalarNode || value.Value == "" {
			return wrong(value)
		}
		switch name.Value {
		case "scores":
			o.Scores = value.Value
		case "classes":
			o.Classes = value.Value
		default:
			return wrong(name)
		}
	}
	if o.Scores == "" {
		return wrong(node)
	}
	return nil
}

// The methods of signatures that say what their outputs are
// (tensorflow/cc/saved_model/signature_constants.h).
const (
	methodClassify = "tensorflow/serving/classify"
	methodRegress  = "tensorflow/serving/regress"
)

// Names of outputs whose meaning is known, in lower case.
var (
	scoreNames = []string{"scores", "score", "probabilities", "probability", "probs", "predictions", "softmax"}
	logitNames = []string{"logits", "logistic"}
	classNames = []string{"classes", "class", "labels", "label", "class_names", "all_classes", "class_ids", "all_class_ids", "indices"}
)

func named(names []string, key string) bool { return slices.Contains(names, strings.ToLower(key)) }

// bindOutputs finds the outputs with the scores and their classes. What is not
// certain is refused: a place among the best five is no class.
func (b *binder) bindOutputs() error {
	outputs := maps.Clone(b.sig.Outputs)
	for _, r := range b.returned {
		delete(outputs, r.output)
	}
	if err := b.bindScores(outputs); err != nil {
		return err
	}
	if err := b.bindClasses(outputs); err != nil {
		return err
	}
	b.values = !b.content.image() || b.sig.Method == methodRegress
	shape := outputs[b.Output.Scores].Shape
	switch {
	case b.Output.Classes != "":
		return nil // how many there are is not known
	case len(shape) == 2 && shape[1] > 0:
		b.classes = int(shape[1])
	case len(shape) == 1:
		b.classes = 1
	}
	if err := checkLabels(b.labels, b.classes); err != nil {
		return fmt.Errorf("output %q: %w", b.Output.Scores, b.Labels.mend(err, b.write))
	}
	return nil
}

func isDetection(key string) bool {
	return strings.HasPrefix(key, "detection_") || key == "num_detections"
}

// bindScores finds the output with the scores.
func (b *binder) bindScores(outputs map[string]savedmodel.TensorInfo) error {
	key := b.Output.Scores
	if key == "" {
		switch {
		case b.sig.Method == methodRegress && has(outputs, "outputs"):
			key = "outputs"
		case b.sig.Method == methodClassify && has(outputs, "scores"):
			key = "scores"
		default:
			var err error
			if key, err = b.chooseScores(outputs); err != nil {
				return err
			}
		}
	}
	out, ok := outputs[key]
	if !ok {
		return fmt.Errorf("it has no output %q, only %q: %s", key, keys(outputs), b.write("output: "+yamlWord(b.likeliest(outputs))))
	}
	if !b.holdsScores(out, outputs) {
		return b.notScores(key, out)
	}
	b.Output.Scores = key
	return nil
}

func (b *binder) scoreShapes() string {
	if b.content.image() {
		return "[N, classes]"
	}
	return "[N, n] or [N]"
}

// holdsScores tells whether an output has the type and shape of scores. Of an
// image, [N] are scores where they are a regression's, or each has its class.
func (b *binder) holdsScores(out savedmodel.TensorInfo, outputs map[string]savedmodel.TensorInfo) bool {
	if out.DType != savedmodel.Float32 || out.Encoding != "" {
		return false
	}
	switch len(out.Shape) {
	case 0:
		return out.Shape == nil
	case 1:
		words := func(key string) bool {
			other := outputs[key]
			return other.DType == savedmodel.String && len(other.Shape) == 1 && (named(classNames, key) || key == b.Output.Classes)
		}
		return !b.content.image() || b.sig.Method == methodRegress || slices.ContainsFunc(keys(outputs), words)
	}
	return len(out.Shape) == 2
}

// chooseScores picks from several outputs, where shapes, labels or names decide.
func (b *binder) chooseScores(outputs map[string]savedmodel.TensorInfo) (string, error) {
	var fit, labelled []string
	for _, key := range keys(outputs) {
		out := outputs[key]
		if !b.holdsScores(out, outputs) {
			continue
		}
		fit = append(fit, key)
		if n := int64(b.labels); n > 0 && len(out.Shape) == 2 && out.Shape[1] == n {
			labelled = append(labelled, key)
		}
	}
	switch {
	case len(outputs) == 1:
		return keys(outputs)[0], nil // which is told why, if it does not fit
	case len(fit) == 0:
		return "", fmt.Errorf("none of its outputs is float32 %s: it has %s; export the scores so", b.scoreShapes(), describe(outputs))
	case len(labelled) == 1:
		return labelled[0], nil
	case len(labelled) > 1:
		fit = labelled
	}
	var scores, others []string
	for _, key := range fit {
		switch {
		case named(scoreNames, key):
			scores = append(scores, key)
		case !named(logitNames, key):
			others = append(others, key)
		}
	}
	if len(others) == 0 && len(scores) == 1 {
		return scores[0], nil
	}
	// Alone it may still be an embedding; not where the other outputs are known.
	known := func(key string) bool {
		return slices.Contains(fit, key) || named(classNames, key) && !isFloat(outputs[key])
	}
	if len(fit) == 1 && !isInner(fit[0]) && (named(logitNames, fit[0]) || !slices.ContainsFunc(keys(outputs), func(key string) bool { return !known(key) })) {
		return fit[0], nil
	}
	return "", fmt.Errorf("its outputs do not tell which one has the scores: it has %s; %s, or whichever has them",
		describe(outputs), b.write("output: "+yamlWord(b.likeliest(only(outputs, fit)))))
}

// likeliest is the output to name first where a person must say which one has the
// scores: one as wide as there are labels, one that is called so, or a softmax's.
func (b *binder) likeliest(outputs map[string]savedmodel.TensorInfo) string {
	points := func(key string) (n int) {
		out, lower := outputs[key], strings.ToLower(key)
		if b.holdsScores(out, outputs) {
			n += 16
		}
		if width := int64(b.labels); width > 0 && len(out.Shape) == 2 && out.Shape[1] == width {
			n += 32
		}
		switch {
		case named(scoreNames, key):
			n += 8
		case slices.ContainsFunc(scoreNames, func(name string) bool { return strings.Contains(lower, name) }):
			n += 4
		case strings.Contains(strings.ToLower(out.Name), "softmax"):
			n += 2
		case named(logitNames, key):
			n++
		}
		return n
	}
	return slices.MaxFunc(keys(outputs), func(x, y string) int { return points(x) - points(y) }) // the first of several
}

func isNumber(t savedmodel.TensorInfo) bool {
	return isFloat(t) || holdsClasses(t) && t.DType != savedmodel.String
}

// isInner tells whether an output's name is that of what a model computes on its way
// to the scores.
func isInner(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc([]string{"embed", "feature", "hidden", "pool", "representation", "bottleneck"}, func(part string) bool {
		return strings.Contains(key, part)
	})
}

func isFloat(t savedmodel.TensorInfo) bool {
	switch t.DType {
	case savedmodel.Float16, savedmodel.BFloat16, savedmodel.Float32, savedmodel.Float64:
		return true
	}
	return false
}

// bindClasses finds the output that says of what class each score is.
func (b *binder) bindClasses(outputs map[string]savedmodel.TensorInfo) error {
	scores := outputs[b.Output.Scores]
	if key := b.Output.Classes; key != "" {
		out, ok := outputs[key]
		switch {
		case !ok:
			return fmt.Errorf("it has no output %q, only %q: %s", key, keys(outputs), b.write("output: "+yamlWord(b.Output.Scores)))
		case !holdsClasses(out) || !mayBeShape(out.Shape, scores.Shape):
			return fmt.Errorf("output %q is %v and cannot have the classes of %q: want string, int64 or int32 of its shape %v; %s",
				key, out, b.Output.Scores, scores.Shape, b.write("output: "+yamlWord(b.Output.Scores)))
		}
		b.setClasses(key, out)
		return nil
	}
	if b.Output.whole {
		return nil // a person says that none has them
	}
	if b.sig.Method == methodClassify && b.Output.Scores == "scores" && holdsClasses(outputs["classes"]) {
		b.setClasses("classes", outputs["classes"])
		return nil
	}
	var words, likely, numbers, perhaps []string // of the scores' shape, or perhaps of it
	for _, key := range keys(outputs) {
		out := outputs[key]
		same, known := sameShape(out.Shape, scores.Shape), named(classNames, key)
		switch {
		case key == b.Output.Scores || out.Encoding != "":
		case same && known && isFloat(out):
			return fmt.Errorf("output %q seems to have the classes of the scores %q, but is %v: export it as int64 or string",
				key, b.Output.Scores, out.DType)
		case !holdsClasses(out) || !mayBeShape(out.Shape, scores.Shape) || !known && !b.content.image():
		case same && out.DType == savedmodel.String:
			words = append(words, key)
		case known && out.DType == savedmodel.String:
			likely = append(likely, key)
		case same:
			numbers = append(numbers, key)
		default:
			perhaps = append(perhaps, key)
		}
	}
	// Of two classes, 0 and 1 may also tell which one is it.
	if shape := scores.Shape; len(words)+len(likely) == 0 && len(shape) == 2 && shape[1] == 2 {
		numbers, perhaps = nil, append(perhaps, numbers...)
	}
	for _, found := range [][]string{words, likely, numbers} {
		if len(found) == 1 {
			b.setClasses(found[0], outputs[found[0]])
			if !b.words || !named(classNames, found[0]) {
				b.doubt = b.write("output: {scores: " + yamlWord(b.Output.Scores) + "}")
			}
			return nil
		}
		perhaps = append(perhaps, found...)
	}
	if len(perhaps) == 0 {
		return nil
	}
	line := fmt.Sprintf("output: {scores: %s, classes: %s}", yamlWord(b.Output.Scores), yamlWord(perhaps[len(perhaps)-1]))
	return fmt.Errorf("its outputs do not tell which one has the classes of the scores %q: it has %s; %s, or without classes if none has",
		b.Output.Scores, describe(outputs), b.write(line))
}

func holdsClasses(out savedmodel.TensorInfo) bool {
	return out.Encoding == "" && (out.DType == savedmodel.String || out.DType == savedmodel.Int64 || out.DType == savedmodel.Int32)
}

func (b *binder) setClasses(key string, out savedmodel.TensorInfo) {
	b.Output.Classes = key
	b.words = out.DType == savedmodel.String
}
