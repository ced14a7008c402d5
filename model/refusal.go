package model

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// argument is what an input or output is called in a line of Python.
func argument(key string) string {
	if plainName.MatchString(key) {
		return key
	}
	return "x"
}

// notScores says why an output cannot have the scores, and how to export it.
func (b *binder) notScores(key string, out savedmodel.TensorInfo) error {
	s, want, arrays := out.Shape, b.scoreShapes(), b.orArrays(key)
	switch {
	case out.Encoding != "":
		return fmt.Errorf("output %q is %v; scores must be one dense tensor: export the signature with that", key, out)
	case holdsClasses(out) && (out.DType == savedmodel.String || named(classNames, key)):
		return fmt.Errorf("output %q, %v, gives classes without their scores: export the scores as well, float32 %s%s", key, out, want, arrays)
	case !out.DType.IsNumber():
		return fmt.Errorf("output %q is %v, not scores: export the scores, float32 %s%s", key, out, want, arrays)
	case out.DType.IsInteger() && (s == nil || isRow(s)):
		return fmt.Errorf("output %q is %v, which may be scores or classes: %s, if it has scores%s", key, out, b.write("output: "+yamlWord(key)), arrays)
	case len(s) > 2 && s[0] < 0:
		row, ok := s[1:].Elements()
		if ok && !b.content.image() {
			return fmt.Errorf("output %q has the shape %v; want %s: export the signature with tf.reshape(%s, [-1, %d])%s", key, s, want, argument(key), row, arrays)
		}
		if isRow(s) {
			return fmt.Errorf("output %q has the shape %v; want %s: %s, if all but one of the unknown dimensions are 1%s",
				key, s, want, b.write("output: "+yamlWord(key)), arrays)
		}
	}
	return fmt.Errorf("output %q has the shape %v; want %s: export a signature with the scores of each record%s", key, s, want, arrays)
}

// orArrays says how outputs can be in an answer without being scores; empty: they cannot.
func (b *binder) orArrays(all ...string) string {
	fit := slices.DeleteFunc(slices.Clone(all), func(key string) bool {
		out := b.sig.Outputs[key]
		row := out.Shape[min(1, len(out.Shape)):]
		n, _ := row.Elements()
		return out.Encoding != "" || !canBeArray(out.DType) || out.Shape != nil && len(out.Shape) == 0 || n > maxOutputSize
	})
	if len(fit) == 0 {
		return ""
	}
	return fmt.Sprintf("; or %s, without output, for answers with arrays and no classes", b.write("outputs: "+yamlWords(fit)))
}

// list is words as people list them.
func list[T any](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = fmt.Sprint(w)
	}
	return strings.Join(texts, ", ")
}

// needs says that inputs are missing, and the whole line that gives them values.
func (b *binder) needs(missing []string) error {
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
	return fmt.Errorf("the model also needs the %s %s, and %s%s: %s", noun, describe(only(b.sig.Inputs, missing)), why, it,
		b.write("inputs: {"+strings.Join(line, ", ")+"}"))
}

// write says which line a person writes, and where.
func (o offer) write(line string) string {
	if o.file == "" {
		return fmt.Sprintf("write %q into %s of a version in model.dir", line, specFile)
	}
	return fmt.Sprintf("write %q into %s", line, o.file)
}

// where is the file that a refusal speaks of.
func (o offer) where() string { return cmp.Or(o.file, specFile) }

// at is a key of that file with its line.
func (b *binder) at(key string) string { return b.where() + ": " + b.Spec.at(key) }

// checkChannels says why the input does not take what inceptor.yaml makes of the
// channels; nil: it does.
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
	if key := in.colours(); gray && key != "" {
		return fmt.Errorf("%s: the input %q has one channel: write one number", b.at("input."+key), b.inputKey)
	}
	if set := in.numbers(); len(set) > 0 {
		if err := in.conversion(cmp.Or(b.channels, pixels.Channels(in.Channels))).fits(b.dtype); err != nil {
			return fmt.Errorf("%s: %w: leave the key out, or export the model with an input of float32", b.at("input."+set[0].key), err)
		}
	}
	return nil
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var plainWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*$`)

// yamlWord is a key as YAML takes it.
func yamlWord(key string) string {
	if plainWord.MatchString(key) {
		return key
	}
	return "'" + strings.ReplaceAll(key, "'", "''") + "'"
}

// yamlWords returns words as a list in YAML, such as [a, 'b c'].
func yamlWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = yamlWord(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// only are the inputs or outputs with these keys.
func only(infos map[string]savedmodel.TensorInfo, keys []string) map[string]savedmodel.TensorInfo {
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
