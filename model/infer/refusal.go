package infer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// pythonName returns the name of an input or output for a line of Python.
func pythonName(key string) string {
	if plainName.MatchString(key) {
		return key
	}
	return "x"
}

// scoresError says why an output cannot have the scores, and what to do about it.
func (b outputBinder) scoresError(key string, out savedmodel.TensorInfo) error {
	s, want, arrays := out.Shape, b.scoreShapes(), b.arraysHint(key)
	switch {
	case out.Encoding != "":
		return fmt.Errorf("output %q is %v; scores must be one dense tensor: export the signature with that", key, out)
	case holdsClasses(out) && (out.DType == savedmodel.String || named(classNames, key)):
		return fmt.Errorf("output %q, %v, has classes without their scores: export the scores as well, float32 %s%s", key, out, want, arrays)
	case !out.DType.IsNumber():
		return fmt.Errorf("output %q is %v, not scores: export the scores, float32 %s%s", key, out, want, arrays)
	case out.DType.IsInteger() && (s == nil || isRow(s)):
		return fmt.Errorf("output %q is %v, which may be scores or classes: %s, if it has scores%s", key, out, b.suggest("output: "+yamlWord(key)), arrays)
	case len(s) > 2 && s[0] < 0:
		row, ok := s[1:].Elements()
		if ok && !b.content.Image() {
			return fmt.Errorf("output %q has the shape %v; want %s: export the signature with tf.reshape(%s, [-1, %d])%s", key, s, want, pythonName(key), row, arrays)
		}
		if isRow(s) {
			return fmt.Errorf("output %q has the shape %v; want %s: %s, if all unknown dimensions but one are 1%s",
				key, s, want, b.suggest("output: "+yamlWord(key)), arrays)
		}
	}
	return fmt.Errorf("output %q has the shape %v; want %s: export a signature with the scores of each record%s", key, s, want, arrays)
}

// arraysHint says what to write to have outputs in an answer as arrays; empty: they cannot be.
func (b outputBinder) arraysHint(all ...string) string {
	fit := slices.DeleteFunc(slices.Clone(all), func(key string) bool {
		out := b.sig.Outputs[key]
		row := out.Shape[min(1, len(out.Shape)):]
		n, _ := row.Elements()
		return out.Encoding != "" || !canBeArray(out.DType) || out.Shape != nil && len(out.Shape) == 0 || n > maxOutputSize
	})
	if len(fit) == 0 {
		return ""
	}
	return fmt.Sprintf("; or %s, without output, for answers with arrays and without classes", b.suggest("outputs: "+yamlWords(fit)))
}

// commaList lists words between commas.
func commaList[T any](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = fmt.Sprint(w)
	}
	return strings.Join(texts, ", ")
}

// missingInputsError says which inputs have no value, and the whole line that gives them one.
func (b *binder) missingInputsError(missing []string) error {
	var line []string
	noun, it, why := "input", "it", "the graph has no default for "
	if len(missing) > 1 {
		noun, it = "inputs", "them"
	}
	if !slices.ContainsFunc(missing, func(key string) bool { return !b.uses[key].HasDefault }) {
		why = "a model server does not know the graph's default for "
	}
	for _, key := range keys(b.sig.Inputs) {
		if _, fixed := b.Inputs[key]; fixed || slices.Contains(missing, key) {
			line = append(line, yamlWord(key)+": VALUE")
		}
	}
	return fmt.Errorf("the model also needs the %s %s, and %s%s: %s", noun, describe(subset(b.sig.Inputs, missing)), why, it,
		b.suggest("inputs: {"+strings.Join(line, ", ")+"}"))
}

// suggest says to write a line into inceptor.yaml. Its path is empty if there is no local version.
func suggest(path, line string) string {
	return fmt.Sprintf("write %q into %s", line, cmp.Or(path, SpecFile+" of a version in model.dir"))
}

// suggest says to write a line into inceptor.yaml.
func (m modelMetadata) suggest(line string) string { return suggest(m.file, line) }

// fileName returns the path of inceptor.yaml, or its name if there is no local version.
func (m modelMetadata) fileName() string { return cmp.Or(m.file, SpecFile) }

// at returns a key with its file and line, to begin an error with.
func (b *binder) at(key string) string { return b.fileName() + ": " + b.Spec.at(key) }

// checkChannels checks the channels and numbers that inceptor.yaml states against the input.
func (b *binder) checkChannels() error {
	in := b.Input
	gray := b.channels == pixels.Gray
	if stated := pixels.Channels(in.Channels); stated != "" && (stated == pixels.Gray) != gray {
		has := "three channels"
		if gray {
			has = "one channel"
		}
		return fmt.Errorf("%s: %s: the input %q has %s: leave the key out", b.at("input.channels"), stated, b.inputKey, has)
	}
	if key := in.perChannelKey(); gray && key != "" {
		return fmt.Errorf("%s: the input %q has one channel: write one number", b.at("input."+key), b.inputKey)
	}
	if set := in.conversionKeys(); len(set) > 0 {
		if err := in.conversion(cmp.Or(b.channels, pixels.Channels(in.Channels))).checkType(b.dtype); err != nil {
			return fmt.Errorf("%s: %w: leave the key out, or export the model with an input of float32", b.at("input."+set[0].key), err)
		}
	}
	return nil
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var plainWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*$`)

// yamlWord returns a word as YAML takes it, in quotes if need be.
func yamlWord(key string) string {
	if plainWord.MatchString(key) {
		return key
	}
	return "'" + strings.ReplaceAll(key, "'", "''") + "'"
}

// yamlWords returns words as a YAML list, such as [a, 'b c'].
func yamlWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = yamlWord(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// subset returns the inputs or outputs with these keys.
func subset(infos map[string]savedmodel.TensorInfo, keys []string) map[string]savedmodel.TensorInfo {
	some := make(map[string]savedmodel.TensorInfo, len(keys))
	for _, key := range keys {
		some[key] = infos[key]
	}
	return some
}

// describe lists inputs or outputs with their types and shapes.
func describe(infos map[string]savedmodel.TensorInfo) string {
	var list []string
	for _, key := range keys(infos) {
		list = append(list, fmt.Sprintf("%q %v", key, infos[key]))
	}
	return strings.Join(list, ", ")
}
