package model

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// An Output says which outputs of a signature are read. In inceptor.yaml it is
// the key of the scores alone, or {scores: KEY, classes: KEY}.
type Output struct {
	// Scores is the key of an output of numbers, of shape [N, classes], [N] or [N, 1, 1,
	// classes]. Empty: it is found, or there are only arrays.
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
// certain is refused: a place among the best five is no class. A person may list
// outputs that are arrays in the answer; then there are scores only if they are named.
func (b *binder) bindOutputs() error {
	outputs := maps.Clone(b.sig.Outputs)
	for _, r := range b.returned {
		delete(outputs, r.output)
	}
	if err := b.bindArrays(outputs); err != nil {
		return err
	}
	if len(b.Outputs) > 0 && b.Output.Scores == "" {
		if b.Activation != "" {
			return fmt.Errorf("%s: it is for the scores, and outputs alone has none: name their output, with output, or leave it out", b.at("activation"))
		}
		return nil
	}
	if err := b.bindScores(outputs); err != nil {
		return err
	}
	if err := b.bindClasses(outputs); err != nil {
		return err
	}
	b.values = !b.content.image() || b.sig.Method == methodRegress
	width := widthOf(outputs[b.Output.Scores].Shape)
	if err := b.checkActivation(width); err != nil {
		return err
	}
	if b.Output.Classes != "" {
		return nil // how many there are is not known
	}
	b.classes = width
	if b.labels == 2 && width <= 1 && b.sig.Method != methodRegress {
		b.pair, b.unlikely = true, b.write("activation: "+sigmoid)+", if it is a logit"
		b.classes *= 2
	}
	if err := checkLabels(b.labels, b.classes); err != nil {
		return fmt.Errorf("output %q: %w", b.Output.Scores, b.Labels.mend(err, b.write))
	}
	return nil
}

// checkActivation refuses what makes no sense of scores of a width; 0: it is not known.
func (b *binder) checkActivation(width int) error {
	switch {
	case b.Activation != softmax:
		return nil
	case width == 1:
		return fmt.Errorf("%s: the softmax of one score is always 1: write %q", b.at("activation"), "activation: "+sigmoid)
	case b.Output.Classes != "":
		mend := "leave the key out"
		if !b.Output.whole { // nobody says that these are the classes
			mend = fmt.Sprintf("leave the key out; if %q has something else, %s", b.Output.Classes, b.write("output: {scores: "+yamlWord(b.Output.Scores)+"}"))
		}
		return fmt.Errorf("%s: softmax needs the scores of all classes, and with the classes in %q these may be the best few: "+
			"export the scores with their softmax, or %s", b.at("activation"), b.Output.Classes, mend)
	}
	return nil
}

// bindArrays checks the outputs that an answer has as arrays.
func (b *binder) bindArrays(outputs map[string]savedmodel.TensorInfo) error {
	total := int64(0)
	for _, key := range b.Outputs {
		out, ok := outputs[key]
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("%s: %q is %v, "+format, append([]any{b.at("outputs"), key, out}, args...)...)
		}
		switch {
		case !ok:
			return fmt.Errorf("%s: the signature has no output %q, only %q", b.at("outputs"), key, keys(outputs))
		case out.Encoding != "":
			return wrong("and an answer has dense tensors: leave it out, or export it as one")
		case !canBeArray(out.DType):
			return wrong("and an answer has numbers, bools and strings: leave it out, or export it with a cast")
		case out.Shape == nil:
			continue
		case len(out.Shape) == 0 || out.Shape[0] >= 0 && out.Shape[0] != int64(b.batch):
			return wrong("whose first dimension is not the batch: leave it out, or export it with a value for each record")
		}
		n, known := out.Shape[1:].Elements()
		if known && innerLists(out.Shape[1:]) > maxOutputSize {
			return wrong("with which an answer has over %d lists: let the graph reshape or cut it, or leave it out", maxOutputSize)
		}
		if total += min(n, maxOutputSize+1); total > maxOutputSize {
			return wrong("with which an answer has over %d values: let the graph pool or cut it, as tf.reduce_mean(%s, [1, 2]) does, or leave it out",
				maxOutputSize, argument(key))
		}
	}
	return nil
}

// refuseDetector refuses the scores of an object detector: they are not those of the
// classes of a whole image.
func (b *binder) refuseDetector() error {
	all := keys(b.sig.Outputs)
	unsaid := b.Output.Scores == "" && len(b.Outputs) == 0
	if !slices.ContainsFunc(all, isDetection) || !unsaid && !isDetection(b.Output.Scores) {
		return nil
	}
	detected := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !isDetection(key) })
	return fmt.Errorf("the outputs %q are those of an object detector, which has no scores for the classes of a whole image: %s, without output, "+
		"for answers with them as arrays", all, b.write("outputs: "+yamlWords(detected)))
}

func isDetection(key string) bool {
	return slices.Contains([]string{"detection_boxes", "detection_classes", "detection_scores", "num_detections"}, key)
}

// bindScores finds the output with the scores.
func (b *binder) bindScores(outputs map[string]savedmodel.TensorInfo) error {
	key, least := b.Output.Scores, fitsIfNamed
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
			least = fitsAlone
		}
	}
	out, ok := outputs[key]
	if !ok {
		return fmt.Errorf("it has no output %q, only %q: %s", key, keys(outputs), b.write("output: "+yamlWord(b.likeliest(outputs))))
	}
	if b.fitOf(key, outputs) < least {
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

// A fitLevel says how well an output's type and shape are those of scores.
type fitLevel int

const (
	fitsNot     fitLevel = iota
	fitsIfNamed          // integers may be classes, and of unknown dimensions a map
	fitsAlone            // where no other output fits better
	fitsWell             // float32 [N, classes]
)

// fitOf is the fit of an output. Of an image, [N] are scores for certain where they are
// a regression's, or each has its class.
func (b *binder) fitOf(key string, outputs map[string]savedmodel.TensorInfo) fitLevel {
	out := outputs[key]
	best := fitsWell
	switch {
	case out.Encoding != "" || !out.DType.IsNumber() || out.Shape != nil && !isRow(out.Shape):
		return fitsNot
	case out.DType.IsInteger():
		best = fitsIfNamed
	case out.DType != savedmodel.Float32:
		best = fitsAlone
	}
	switch len(out.Shape) {
	case 1:
		words := func(key string) bool {
			other := outputs[key]
			return other.DType == savedmodel.String && len(other.Shape) == 1 && (named(classNames, key) || key == b.Output.Classes)
		}
		if b.content.image() && b.sig.Method != methodRegress && !slices.ContainsFunc(keys(outputs), words) {
			return min(best, fitsAlone)
		}
	case 0, 2:
	default:
		if ones := len(slices.DeleteFunc(slices.Clone(out.Shape[1:]), func(d int64) bool { return d != 1 })); ones < len(out.Shape)-2 {
			return fitsIfNamed // unknown dimensions are those of a map, mostly
		}
		return min(best, fitsAlone)
	}
	return best
}

// isRow tells whether a shape is, or may be, that of one row for each record: [N], [N, n],
// or [N, 1, 1, n].
func isRow(shape savedmodel.Shape) bool {
	wide := 0
	for _, d := range shape[min(1, len(shape)):] {
		if d != 1 && d >= 0 {
			wide++
		}
	}
	return len(shape) > 0 && wide <= 1
}

// widthOf is how many scores a shape has for a record; 0: it does not tell.
func widthOf(shape savedmodel.Shape) int {
	if len(shape) == 0 {
		return 0
	}
	n, ok := shape[1:].Elements()
	if !ok || n > math.MaxInt32 {
		return 0
	}
	return int(n)
}

// chooseScores picks from several outputs, where shapes, labels or names decide.
func (b *binder) chooseScores(outputs map[string]savedmodel.TensorInfo) (string, error) {
	if all := keys(outputs); len(all) == 1 {
		key := all[0]
		if b.content.image() && isInner(key) && b.fitOf(key, outputs) >= fitsAlone && (b.labels == 0 || widthOf(outputs[key].Shape) != b.labels) {
			return "", fmt.Errorf("the output %q may have features, and no scores: %s, without output, for answers with arrays and no classes; "+
				"or %s, if it has scores", key, b.write("outputs: ["+yamlWord(key)+"]"), b.write("output: "+yamlWord(key)))
		}
		return key, nil // which is told why, if it does not fit
	}
	var fit, labelled []string
	for _, least := range []fitLevel{fitsWell, fitsAlone} {
		for _, key := range keys(outputs) {
			if b.fitOf(key, outputs) < least {
				continue
			}
			fit = append(fit, key)
			if n := widthOf(outputs[key].Shape); n > 0 && n == b.labels {
				labelled = append(labelled, key)
			}
		}
		if len(fit) > 0 {
			break
		}
	}
	switch {
	case len(fit) == 0:
		return "", fmt.Errorf("none of its outputs has the type and shape of scores, such as float32 %s: it has %s; export the scores so%s",
			b.scoreShapes(), describe(outputs), b.orArrays(keys(outputs)...))
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
		return slices.Contains(fit, key) || named(classNames, key) && !outputs[key].DType.IsFloat()
	}
	if len(fit) == 1 && !isInner(fit[0]) && (named(logitNames, fit[0]) || !slices.ContainsFunc(keys(outputs), func(key string) bool { return !known(key) })) {
		return fit[0], nil
	}
	arrays := ""
	if !slices.ContainsFunc(fit, func(key string) bool { return !isInner(key) }) {
		arrays = b.orArrays(keys(outputs)...)
	}
	return "", fmt.Errorf("its outputs do not tell which one has the scores: it has %s; %s, or whichever has them%s",
		describe(outputs), b.write("output: "+yamlWord(b.likeliest(only(outputs, fit)))), arrays)
}

// likeliest is the output to name first where a person must say which one has the
// scores: one as wide as there are labels, one that is called so, or a softmax's.
func (b *binder) likeliest(outputs map[string]savedmodel.TensorInfo) string {
	points := func(key string) (n int) {
		out, lower := outputs[key], strings.ToLower(key)
		if b.fitOf(key, outputs) >= fitsAlone {
			n += 16
		}
		if width := widthOf(out.Shape); width > 0 && width == b.labels {
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

// isInner tells whether an output's name is that of what a model computes on its way
// to the scores.
func isInner(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc([]string{"embed", "feature", "hidden", "pool", "representation", "bottleneck"}, func(part string) bool {
		return strings.Contains(key, part)
	})
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
		case same && known && out.DType.IsFloat():
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
	// Of two classes, and of one, 0 and 1 may also tell which one is it.
	if width := widthOf(scores.Shape); len(words)+len(likely) == 0 && (width == 1 || width == 2) {
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
