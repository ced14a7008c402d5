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
	s, want := out.Shape, b.scoreShapes()
	switch {
	case out.Encoding != "":
		return fmt.Errorf("output %q is %v; scores must be one dense tensor: export the signature with that", key, out)
	case holdsClasses(out) && (out.DType == savedmodel.String || named(classNames, key)):
		return fmt.Errorf("output %q, %v, gives classes without their scores: export the scores as well, float32 %s", key, out, want)
	case out.DType != savedmodel.Float32 && isNumber(out):
		return fmt.Errorf("output %q is %v; scores must be float32: export the signature with tf.cast(%s, tf.float32)", key, out, argument(key))
	case out.DType != savedmodel.Float32:
		return fmt.Errorf("output %q is %v, not scores: export the scores, float32 %s", key, out, want)
	case len(s) == 1:
		return fmt.Errorf("output %q has the shape %v; want %s: export the signature with tf.reshape(%s, [-1, 1])", key, s, want, argument(key))
	case len(s) > 2 && s[0] < 0:
		row, ok := s[1:].Elements()
		if ok && (!b.content.image() || row == slices.Max(s[1:])) {
			return fmt.Errorf("output %q has the shape %v; want %s: export the signature with tf.reshape(%s, [-1, %d])", key, s, want, argument(key), row)
		}
	}
	return fmt.Errorf("output %q has the shape %v; want %s: export a signature with the scores of each record", key, s, want)
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
