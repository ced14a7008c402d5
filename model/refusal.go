package model

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// notPixels says why an input cannot take the pixels of images, and how to export one
// that can; nil: its type and shape are those of pixels.
func notPixels(key string, in savedmodel.TensorInfo) error {
	wrong := func(kind, mend string) error {
		return fmt.Errorf("input %q takes %v%s; inceptor gives [N, height, width, 3]: %s", key, in, kind, mend)
	}
	rows := "set --input.format tensor-json"
	s := in.Shape
	switch {
	case in.Encoding != "":
		return fmt.Errorf("input %q takes %v; inceptor gives one dense tensor: export a signature that takes it", key, in)
	case s == nil:
		return wrong("", "export it with the shape [None, HEIGHT, WIDTH, 3]")
	case len(s) == 0:
		return wrong(", one value", "name a signature that takes images")
	case len(s) == 1:
		return fmt.Errorf("input %q takes %v, a number for each record, not images: %s", key, in, rows)
	case len(s) == 2:
		if side := flatSide(s[1]); side > 0 {
			return wrong(fmt.Sprintf(", perhaps flat images of %d×%d×3", side, side),
				fmt.Sprintf("export a signature that flattens them with tf.reshape(%s, [-1, %d]); if it takes rows of numbers, %s", argument(key), s[1], rows))
		}
		if s[1] < 0 {
			return fmt.Errorf("input %q takes %v, rows of numbers, not images: %s", key, in, rows)
		}
		return fmt.Errorf("input %q takes rows of %d numbers, not images: %s", key, s[1], rows)
	case len(s) == 3 && (s[2] == 3 || s[0] >= 0):
		return wrong(", one image without a batch", "export a signature with a batch, by tf.map_fn")
	case len(s) == 3:
		return wrong(", gray images without a channel", fmt.Sprintf("export a signature that takes tf.image.rgb_to_grayscale(%s)[..., 0]", argument(key)))
	case len(s) > 4:
		return wrong(fmt.Sprintf(", with %d dimensions", len(s)), "export a signature that takes images")
	case s[3] != 3 && s[1] == 3: // with an unknown last dimension, too: no image has a height of 3
		return wrong(", channels first", fmt.Sprintf("export a signature that transposes, with tf.transpose(%s, [0, 3, 1, 2])", argument(key)))
	case s[3] == 1:
		return wrong(", gray images", fmt.Sprintf("export a signature that makes them gray, with tf.image.rgb_to_grayscale(%s)", argument(key)))
	case s[3] != 3 && s[1] == 1:
		return wrong(", gray images, channels first",
			fmt.Sprintf("export a signature that takes tf.transpose(tf.image.rgb_to_grayscale(%s), [0, 3, 1, 2])", argument(key)))
	case s[3] != 3 && s[3] >= 0:
		return wrong(fmt.Sprintf(", images of %d channels", s[3]), "export a signature that takes 3")
	case in.DType != savedmodel.Float32 && in.DType != savedmodel.UInt8:
		return fmt.Errorf("input %q takes %v; inceptor makes float32 and uint8 pixels: export a signature that takes float32 and casts, with tf.cast(%s, tf.%v)",
			key, in, argument(key), in.DType)
	}
	return nil
}

// argument is what an input or output is called in a line of Python.
func argument(key string) string {
	if plainName.MatchString(key) {
		return key
	}
	return "x"
}

// flatSide is the side of the square RGB image that has so many numbers; 0: none has.
func flatSide(n int64) int64 {
	side := int64(math.Sqrt(float64(max(n, 0) / 3)))
	if side < 8 || 3*side*side != n {
		return 0
	}
	return side
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

// yamlWords is a list of words as YAML takes it.
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
