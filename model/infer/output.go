package infer

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// An Output says which outputs of a signature have scores and classes. In inceptor.yaml it is the
// key of the scores alone, or {scores: KEY, classes: KEY}.
type Output struct {
	// Scores is the key of an output of numbers, of shape [N, classes], [N] or
	// [N, 1, 1, classes]. Empty: it is found, or there are only arrays.
	Scores string
	// Classes is the key of an output of the scores' shape with the class of each score, by its
	// label or by its index. Empty: such an output is found; without one, a score's index is its
	// class.
	Classes string

	whole bool // both were written as keys: if Classes is empty, no output has classes
}

// UnmarshalYAML takes both forms.
func (o *Output) UnmarshalYAML(node *yaml.Node) error {
	const want = "output: want the key of an output, or {scores: KEY, classes: KEY}"
	scalars, err := scalarOrKeys(node, want, "scores", "classes")
	if err != nil {
		return err
	}
	*o = Output{Scores: scalars["scores"].Value, whole: resolve(node).Kind == yaml.MappingNode}
	if o.Scores == "" {
		return fmt.Errorf("line %d: %s", resolve(node).Line, want)
	}
	if classes := scalars["classes"]; classes != nil {
		o.Classes = classes.Value
	}
	return nil
}

// The methods of signatures that define what their outputs are
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

// bindOutputs finds the outputs with arrays, scores and classes. If inceptor.yaml lists outputs for
// arrays, there are scores only if it names them too.
func (b *binder) bindOutputs() error {
	o := outputBinder{b, maps.Clone(b.sig.Outputs)}
	for _, r := range b.returned {
		delete(o.available, r.output)
	}
	if err := o.bindArrays(); err != nil {
		return err
	}
	switch {
	case len(b.Outputs) == 0 || b.Output.Scores != "":
		return o.bindScoresAndClasses()
	case b.Activation != "":
		return fmt.Errorf("%s: it is for scores, and with outputs alone there are none: name the output of the scores, with output, or leave it out", b.at("activation"))
	}
	return nil
}

// An outputBinder finds what the outputs of a signature have.
type outputBinder struct {
	*binder
	available map[string]savedmodel.TensorInfo // the outputs, without those that return inputs
}

// bindScoresAndClasses finds the outputs with the scores and their classes. It refuses what is not
// certain: a rank among the best five is not a class.
func (b outputBinder) bindScoresAndClasses() error {
	if err := b.bindScores(); err != nil {
		return err
	}
	if err := b.bindClasses(); err != nil {
		return err
	}
	b.values = !b.content.Image() || b.sig.Method == methodRegress
	width := widthOf(b.available[b.Output.Scores].Shape)
	if err := b.checkActivation(width); err != nil {
		return err
	}
	if b.Output.Classes != "" {
		return nil // their number is not known
	}
	b.classes = width
	if b.labels == 2 && width <= 1 && b.sig.Method != methodRegress {
		b.pair, b.pairHint = true, b.suggest("activation: "+sigmoid)+", if it is a logit"
		b.classes *= 2
	}
	if err := checkLabels(b.labels, b.classes); err != nil {
		return fmt.Errorf("output %q: %w", b.Output.Scores, b.Labels.addHint(err, b.suggest))
	}
	return nil
}

// checkActivation refuses an activation that makes no sense for so many scores; 0: their number is
// not known.
func (b outputBinder) checkActivation(width int) error {
	switch {
	case b.Activation != softmax:
		return nil
	case width == 1:
		return fmt.Errorf("%s: the softmax of one score is always 1: write %q", b.at("activation"), "activation: "+sigmoid)
	case b.Output.Classes != "":
		hint := "leave the key out"
		if !b.Output.whole { // that these are the classes is a guess
			hint = fmt.Sprintf("leave the key out; if %q does not have classes, %s", b.Output.Classes, b.suggest("output: {scores: "+yamlWord(b.Output.Scores)+"}"))
		}
		return fmt.Errorf("%s: softmax needs the scores of all classes, and with the classes in %q there may be only the best: "+
			"export the scores with their softmax, or %s", b.at("activation"), b.Output.Classes, hint)
	}
	return nil
}

// bindArrays checks the outputs that an answer returns as arrays.
func (b outputBinder) bindArrays() error {
	total := int64(0)
	for _, key := range b.Outputs {
		out, ok := b.available[key]
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("%s: %q is %v, "+format, append([]any{b.at("outputs"), key, out}, args...)...)
		}
		switch {
		case !ok:
			return fmt.Errorf("%s: the signature has no output %q, only %q", b.at("outputs"), key, keys(b.available))
		case out.Encoding != "":
			return wrong("and an answer has only dense tensors: leave it out, or export it as one")
		case !canBeArray(out.DType):
			return wrong("and an answer has only numbers, bools and strings: leave it out, or export it with a cast")
		case out.Shape == nil:
			continue
		case len(out.Shape) == 0 || out.Shape[0] >= 0 && out.Shape[0] != int64(b.batch):
			return wrong("whose first dimension is not the batch: leave it out, or export it with a value for each record")
		}
		n, known := out.Shape[1:].Elements()
		if known && countLists(out.Shape[1:]) > maxOutputSize {
			return wrong("with which an answer has over %d lists: let the graph reshape or cut it, or leave it out", maxOutputSize)
		}
		if total += min(n, maxOutputSize+1); total > maxOutputSize {
			return wrong("with which an answer has over %d values: let the graph pool or cut it, as tf.reduce_mean(%s, [1, 2]) does, or leave it out",
				maxOutputSize, pythonName(key))
		}
	}
	return nil
}

// refuseDetector refuses the scores of an object detector: they are not for the classes of a whole
// image.
func (b *binder) refuseDetector() error {
	all := keys(b.sig.Outputs)
	unsaid := b.Output.Scores == "" && len(b.Outputs) == 0
	if !slices.ContainsFunc(all, isDetection) || !unsaid && !isDetection(b.Output.Scores) {
		return nil
	}
	detected := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !isDetection(key) })
	return fmt.Errorf("the outputs %q are those of an object detector, which has no scores for the classes of a whole image: %s, without output, "+
		"for answers with them as arrays", all, b.suggest("outputs: "+yamlWords(detected)))
}

func isDetection(key string) bool {
	return slices.Contains([]string{"detection_boxes", "detection_classes", "detection_scores", "num_detections"}, key)
}

// bindScores finds the output with the scores.
func (b outputBinder) bindScores() error {
	key, least := b.Output.Scores, fitsIfNamed
	if key == "" {
		switch {
		case b.sig.Method == methodRegress && has(b.available, "outputs"):
			key = "outputs"
		case b.sig.Method == methodClassify && has(b.available, "scores"):
			key = "scores"
		default:
			var err error
			if key, err = b.chooseScores(); err != nil {
				return err
			}
			least = fitsAlone
		}
	}
	out, ok := b.available[key]
	if !ok {
		return fmt.Errorf("it has no output %q, only %q: %s", key, keys(b.available), b.suggest("output: "+yamlWord(b.likeliest(keys(b.available)))))
	}
	if b.fitOf(key) < least {
		return b.scoresError(key, out)
	}
	b.Output.Scores = key
	return nil
}

func (b outputBinder) scoreShapes() string {
	if b.content.Image() {
		return "[N, classes]"
	}
	return "[N, n] or [N]"
}

// A fitLevel ranks how well the type and shape of an output fit scores.
type fitLevel int

const (
	fitsNot     fitLevel = iota
	fitsIfNamed          // integers may be classes, and an output of unknown dimensions a map
	fitsAlone            // if no other output fits better
	fitsWell             // float32 [N, classes]
)

// fitOf returns how well an output fits scores. For images, [N] certainly are scores if they are a
// regression's, or if each has its class.
func (b outputBinder) fitOf(key string) fitLevel {
	out := b.available[key]
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
			other := b.available[key]
			return other.DType == savedmodel.String && len(other.Shape) == 1 && (named(classNames, key) || key == b.Output.Classes)
		}
		if b.content.Image() && b.sig.Method != methodRegress && !slices.ContainsFunc(keys(b.available), words) {
			return min(best, fitsAlone)
		}
	case 0, 2:
	default:
		if ones := len(slices.DeleteFunc(slices.Clone(out.Shape[1:]), func(d int64) bool { return d != 1 })); ones < len(out.Shape)-2 {
			return fitsIfNamed // mostly a map
		}
		return min(best, fitsAlone)
	}
	return best
}

// isRow tells whether a shape is, or may be, one row for each record: [N], [N, n] or [N, 1, 1, n].
func isRow(shape savedmodel.Shape) bool {
	wide := 0
	for _, d := range shape[min(1, len(shape)):] {
		if d != 1 && d >= 0 {
			wide++
		}
	}
	return len(shape) > 0 && wide <= 1
}

// widthOf returns how many scores a shape has for a record; 0: it does not tell.
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

// chooseScores picks the output with the scores, if shapes, labels or names decide.
func (b outputBinder) chooseScores() (string, error) {
	if all := keys(b.available); len(all) == 1 {
		key := all[0]
		if b.content.Image() && isIntermediate(key) && b.fitOf(key) >= fitsAlone && (b.labels == 0 || widthOf(b.available[key].Shape) != b.labels) {
			return "", fmt.Errorf("the output %q may have features instead of scores: %s, without output, for answers with arrays and without classes; "+
				"or %s, if it has scores", key, b.suggest("outputs: ["+yamlWord(key)+"]"), b.suggest("output: "+yamlWord(key)))
		}
		return key, nil // if it does not fit, bindScores says why
	}
	var fit, labelled []string
	for _, least := range []fitLevel{fitsWell, fitsAlone} {
		for _, key := range keys(b.available) {
			if b.fitOf(key) < least {
				continue
			}
			fit = append(fit, key)
			if n := widthOf(b.available[key].Shape); n > 0 && n == b.labels {
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
			b.scoreShapes(), describe(b.available), b.arraysHint(keys(b.available)...))
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
	// The only one that fits may still be an embedding, unless all other outputs are known.
	known := func(key string) bool {
		return slices.Contains(fit, key) || named(classNames, key) && !b.available[key].DType.IsFloat()
	}
	if len(fit) == 1 && !isIntermediate(fit[0]) && (named(logitNames, fit[0]) || !slices.ContainsFunc(keys(b.available), func(key string) bool { return !known(key) })) {
		return fit[0], nil
	}
	arrays := ""
	if !slices.ContainsFunc(fit, func(key string) bool { return !isIntermediate(key) }) {
		arrays = b.arraysHint(keys(b.available)...)
	}
	return "", fmt.Errorf("it is not clear which output has the scores: it has %s; %s, or the one that does%s",
		describe(b.available), b.suggest("output: "+yamlWord(b.likeliest(fit))), arrays)
}

// likeliest returns the output to suggest if a person must say which one has the scores: one as
// wide as there are labels, one with the name of scores, or a softmax's; the first of several.
func (b outputBinder) likeliest(among []string) string {
	points := func(key string) (n int) {
		out, lower := b.available[key], strings.ToLower(key)
		if b.fitOf(key) >= fitsAlone {
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
	return slices.MaxFunc(among, func(x, y string) int { return points(x) - points(y) })
}

// isIntermediate tells whether an output has the name of something that a model computes on its way
// to the scores.
func isIntermediate(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc([]string{"embed", "feature", "hidden", "pool", "representation", "bottleneck"}, func(part string) bool {
		return strings.Contains(key, part)
	})
}

// bindClasses finds the output that says which class each score is for.
func (b outputBinder) bindClasses() error {
	scores := b.available[b.Output.Scores]
	if key := b.Output.Classes; key != "" {
		out, ok := b.available[key]
		switch {
		case !ok:
			return fmt.Errorf("it has no output %q, only %q: %s", key, keys(b.available), b.suggest("output: "+yamlWord(b.Output.Scores)))
		case !holdsClasses(out) || !mayBeShape(out.Shape, scores.Shape):
			return fmt.Errorf("output %q is %v and cannot have the classes of %q: want string, int64 or int32 of its shape %v; %s",
				key, out, b.Output.Scores, scores.Shape, b.suggest("output: "+yamlWord(b.Output.Scores)))
		}
		b.setClasses(key, out)
		return nil
	}
	if b.Output.whole {
		return nil // inceptor.yaml says that there is none
	}
	if b.sig.Method == methodClassify && b.Output.Scores == "scores" && holdsClasses(b.available["classes"]) {
		b.setClasses("classes", b.available["classes"])
		return nil
	}
	return b.guessClasses()
}

// guessClasses finds the output with the classes by names, types and shapes. There may be none.
func (b outputBinder) guessClasses() error {
	scores := b.available[b.Output.Scores]
	// Words and numbers have the scores' shape; the others may have it.
	var words, likely, numbers, perhaps []string
	for _, key := range keys(b.available) {
		out := b.available[key]
		same, known := sameShape(out.Shape, scores.Shape), named(classNames, key)
		switch {
		case key == b.Output.Scores || out.Encoding != "":
		case same && known && out.DType.IsFloat():
			return fmt.Errorf("output %q seems to have the classes of the scores %q, but is %v: export it as int64 or string",
				key, b.Output.Scores, out.DType)
		case !holdsClasses(out) || !mayBeShape(out.Shape, scores.Shape) || !known && !b.content.Image():
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
	// With one or two scores, the numbers 0 and 1 may also be a decision for a class.
	if width := widthOf(scores.Shape); len(words)+len(likely) == 0 && (width == 1 || width == 2) {
		numbers, perhaps = nil, append(perhaps, numbers...)
	}
	for _, found := range [][]string{words, likely, numbers} {
		if len(found) == 1 {
			b.setClasses(found[0], b.available[found[0]])
			if !b.words || !named(classNames, found[0]) {
				b.classesHint = b.suggest("output: {scores: " + yamlWord(b.Output.Scores) + "}")
			}
			return nil
		}
		perhaps = append(perhaps, found...)
	}
	if len(perhaps) == 0 {
		return nil
	}
	line := fmt.Sprintf("output: {scores: %s, classes: %s}", yamlWord(b.Output.Scores), yamlWord(perhaps[len(perhaps)-1]))
	return fmt.Errorf("it is not clear which output has the classes of the scores %q: it has %s; %s, or without classes if none does",
		b.Output.Scores, describe(b.available), b.suggest(line))
}

func holdsClasses(out savedmodel.TensorInfo) bool {
	return out.Encoding == "" && (out.DType == savedmodel.String || out.DType == savedmodel.Int64 || out.DType == savedmodel.Int32)
}

func (b outputBinder) setClasses(key string, out savedmodel.TensorInfo) {
	b.Output.Classes = key
	b.words = out.DType == savedmodel.String
}
