package infer

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// A signature is a signature of the model with the spec of the version, completed: what each input
// is fed from, and what each output means.
type signature struct {
	Spec
	content Content
	batch   int // records that each run takes, no more and no fewer; 0: any number

	// Inputs.
	feeds    []feed
	inputKey string              // the feed that takes the record; empty: rows may feed all of them
	dtype    savedmodel.DataType // of that input: one of pixelTypes, or string
	layout   pixels.Layout       // of that input, if it takes pixels; empty: channels last
	channels pixels.Channels     // of that input, by its shape; empty: three, in any order
	decoders []string            // the operations of the graph that decode images
	formats  []string            // that they take; nil: all, or the graph decodes no images
	returned []returned

	// Outputs, besides those of the Spec.
	words  bool // the output of classes has words, not numbers
	values bool // an answer has the scores unchanged
	// classesHint is what to write if the output of classes, a guess, turns out to have none;
	// empty: it is not a guess.
	classesHint string
	pair        bool   // the only score is for the second of two classes
	pairHint    string // what to write if that score is not a probability
	classes     int    // 0: not known, or the model names its own classes, or there are none
}

// A returned is an output that returns an input unchanged.
type returned struct {
	output string
	feed   int // index of the input in feeds
}

// inputs returns the keys of the feeds, in their order.
func (bound signature) inputs() []string { return keysOf(bound.feeds) }

// outputs returns the keys to fetch, each once: the arrays of an answer, the scores and their
// classes if there are any, and the returned inputs.
func (bound signature) outputs() []string {
	keys := slices.Clone(bound.Outputs)
	for _, key := range []string{bound.Output.Scores, bound.Output.Classes} {
		if key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for _, r := range bound.returned {
		keys = append(keys, r.output)
	}
	return keys
}

// A modelMetadata is what is known of a model when a spec is bound to it.
type modelMetadata struct {
	signatures map[string]savedmodel.Signature
	// inputUse returns what the graph does with an input. Nil: there is no graph.
	inputUse func(signature, key string) (savedmodel.InputUse, error)
	server   bool   // a model server runs it: every input must be sent
	labels   int    // how many there are; 0: no file has any
	file     string // path of inceptor.yaml; empty: there is no local version
}

// errNotShown is the error of modelMetadata.inputUse for a signature that the graph does not have.
var errNotShown = errors.New("no graph shows this signature")

// A binder completes a signature.
type binder struct {
	signature
	modelMetadata
	sig      savedmodel.Signature
	uses     map[string]savedmodel.InputUse // by key of the input
	hasGraph bool                           // uses are what a graph does with the inputs
}

// bind completes the spec with the signature that it names, and checks one against the other.
func (s Spec) bind(o modelMetadata, c Content) (signature, error) {
	b := binder{signature: signature{Spec: s, content: c}, modelMetadata: o}
	if err := b.bind(); err != nil {
		return signature{}, err
	}
	return b.signature, nil
}

func (b *binder) bind() error {
	if all := keys(b.signatures); len(all) == 1 && b.Signature == defaultSignature {
		b.Signature = all[0] // the only one
	}
	sig, ok := b.signatures[b.Signature]
	if !ok {
		if len(b.signatures) == 0 {
			return errors.New(`the model has no signatures: export it with one that is called "serving_default"`)
		}
		return fmt.Errorf("no signature %q, only %q: %s", b.Signature, keys(b.signatures), b.suggest("signature: "+yamlWord(first(b.signatures))))
	}
	b.sig = sig
	// An object detector is refused first: its inputs are not what is wrong with it.
	for _, step := range []func() error{b.refuseDetector, b.inspectInputs, b.bindInputs, b.checkInput, b.bindOutputs, b.checkRows} {
		if err := step(); err != nil {
			return fmt.Errorf("signature %q: %w", b.Signature, err)
		}
	}
	return nil
}

// takesPixels tells whether the input takes the pixels of images.
func (bound signature) takesPixels() bool {
	return bound.content != Rows && bound.dtype != savedmodel.String
}

// checkInput checks the spec of the input against what the input turned out to take.
func (b *binder) checkInput() error {
	if b.takesPixels() {
		return b.checkChannels()
	}
	if key := b.Input.decodingKey(); key != "" {
		return fmt.Errorf("%s: the input does not take pixels, so no image is decoded for it; "+
			"leave the key out, or name a signature that takes pixels", b.at(key))
	}
	return nil
}

// inspectInputs asks the graph what it does with each input. Without a graph, an input with the
// name of a key is taken to be returned by the output with the same name, type and shape.
func (b *binder) inspectInputs() error {
	b.uses, b.hasGraph = map[string]savedmodel.InputUse{}, b.inputUse != nil
	for key := range b.sig.Inputs {
		if !b.hasGraph {
			break
		}
		use, err := b.inputUse(b.Signature, key)
		if errors.Is(err, errNotShown) {
			b.hasGraph = false
		} else if err != nil {
			return fmt.Errorf("input %q: %w", key, err)
		}
		if use.Computed {
			use.Returned = nil // the answer depends on it, so it is more than a key
		}
		b.uses[key] = use
	}
	for key, in := range b.sig.Inputs {
		if out, ok := b.sig.Outputs[key]; ok && !b.hasGraph && isKey(in) && named(recordKeys, key) && in.DType == out.DType && sameShape(in.Shape, out.Shape) {
			b.uses[key] = savedmodel.InputUse{Returned: []string{key}}
		}
	}
	return nil
}

// recordKeys are names, in lower case, of inputs that only tell records apart. They count where no
// graph shows what the input is for.
var recordKeys = []string{"key", "keys", "id", "ids", "uuid", "image_id", "image_key", "record_id", "example_id", "instance_id", "row_key"}

// isKey tells whether an input can take a key for each record.
func isKey(in savedmodel.TensorInfo) bool {
	return (in.DType == savedmodel.String || in.DType == savedmodel.Int64) && len(in.Shape) == 1 && in.Encoding == ""
}

// bindInputs finds what each input is fed from.
func (b *binder) bindInputs() error {
	if len(b.sig.Inputs) == 0 {
		return errors.New("it has no inputs: name a signature that takes the content of records")
	}
	for _, key := range keys(b.Inputs) {
		if !has(b.sig.Inputs, key) {
			return fmt.Errorf("%s: inputs: the signature has no input %q, only %q", b.fileName(), key, keys(b.sig.Inputs))
		}
	}
	bindRecord := b.bindRow
	if b.content != Rows {
		key, err := b.recordInput()
		if err != nil {
			return err
		}
		bindRecord = b.bindImage
		if b.content == Examples {
			bindRecord = b.bindExample
		}
		b.inputKey = key
	}
	var missing []string
	for _, key := range keys(b.sig.Inputs) {
		in, use := b.sig.Inputs[key], b.uses[key]
		value, fixed := b.Inputs[key]
		var err error
		switch {
		case fixed:
			err = b.bindFixed(key, in, value)
		case key == b.inputKey || b.content == Rows:
			err = bindRecord(key, in)
		case len(use.Returned) > 0 && isKey(in):
			for _, output := range use.Returned {
				b.returned = append(b.returned, returned{output, len(b.feeds)})
			}
			b.feeds = append(b.feeds, feed{key: key, dtype: in.DType, shape: savedmodel.Shape{}, from: fromIndex})
			err = b.bindBatch(key, in.Shape)
		case use.HasDefault && !b.server:
		default:
			missing = append(missing, key)
		}
		if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return b.missingInputsError(missing)
	}
	return b.checkBatch()
}

// recordInput returns the key of the input that takes the record.
func (b *binder) recordInput() (string, error) {
	if key := b.Input.Key; key != "" {
		switch _, fixed := b.Inputs[key]; {
		case !has(b.sig.Inputs, key):
			return "", fmt.Errorf("%s: input.key: the signature has no input %q, only %q", b.fileName(), key, keys(b.sig.Inputs))
		case fixed:
			return "", fmt.Errorf("%s: the input %q is input.key, but also has a value in inputs: leave one out", b.fileName(), key)
		}
		return key, nil
	}
	var open, fit []string // inputs that nothing else feeds, and those that certainly take records
	for _, key := range keys(b.sig.Inputs) {
		_, fixed := b.Inputs[key]
		use := b.uses[key]
		if fixed {
			continue
		}
		if !use.HasDefault && len(use.Returned) == 0 {
			open = append(open, key)
		}
		if b.takesRecord(key) {
			fit = append(fit, key)
		}
	}
	if both := slices.DeleteFunc(slices.Clone(fit), func(key string) bool { return !slices.Contains(open, key) }); len(both) > 0 {
		fit = both
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return "", fmt.Errorf("each of the inputs %q could take the image: %s, or the one that does", fit, b.suggest("input: {key: "+yamlWord(fit[0])+"}"))
	case len(open) > 1 && b.content.Image() && !slices.ContainsFunc(keys(b.sig.Inputs), func(key string) bool { return mayHoldImages(b.sig.Inputs[key]) }):
		return "", fmt.Errorf("none of its inputs takes images, all take numbers: it has %s; set --input.format tensor-json", describe(b.sig.Inputs))
	case len(open) != 1:
		return "", fmt.Errorf("none of its inputs certainly takes an image: it has %s; %s, if it takes images",
			describe(b.sig.Inputs), b.suggest("input: {key: "+yamlWord(first(b.sig.Inputs))+"}"))
	case b.content.Image() && b.sig.Inputs[open[0]].DType == savedmodel.String:
		return "", b.stringsError(open[0])
	}
	return open[0], nil // if it does not fit, its binding says why
}

// stringsError says why an input of strings is not taken for one of encoded images.
func (b *binder) stringsError(key string) error {
	hint := b.suggest("input: {key: " + yamlWord(key) + "}")
	use, method := b.uses[key], b.sig.Method
	switch {
	case use.Features != nil:
		return fmt.Errorf("input %q takes tf.Examples, and the graph decodes no image from their features %q: "+
			"set --input.format example, if the records are tf.Examples", key, keys(use.Features))
	case !b.hasGraph && (method == methodClassify || method == methodRegress):
		return fmt.Errorf("input %q takes tf.Examples, and no version in model.dir shows which feature is the image: put the version there, "+
			"or name a signature of the method predict", key)
	case !b.hasGraph:
		return fmt.Errorf("input %q takes strings, and no version in model.dir shows whether they are encoded images: %s, if they are", key, hint)
	}
	return fmt.Errorf("input %q takes strings, and the graph decodes no images from them: %s, if they are encoded images all the same; "+
		"for texts, set --input.format tensor-json", key, hint)
}

// bytesSignature is the key of the signature that takes encoded images, by TensorFlow Serving's
// convention. Others that take strings may want tf.Examples.
const bytesSignature = "serving_bytes"

// imageKeys are names, in lower case, of inputs that take encoded images: those of TensorFlow
// Serving's Inception, its ResNet, AutoML and the Cloud's prediction service. They count where no
// graph shows what the input is for.
var imageKeys = []string{"image_bytes", "images", "image", "encoded_image", "encoded_images", "encoded_image_string_tensor", "jpeg", "jpegs"}

// mayHoldImages tells whether an input has a type and shape that images of some kind have.
func mayHoldImages(in savedmodel.TensorInfo) bool {
	return in.DType == savedmodel.String || in.Shape == nil || len(in.Shape) > 2 || len(in.Shape) == 2 && flatSide(in.Shape[1], 3) > 0
}

// takesRecord tells whether an input certainly takes the content of records.
func (b *binder) takesRecord(key string) bool {
	in, use := b.sig.Inputs[key], b.uses[key]
	switch {
	case b.content == Examples:
		return in.DType == savedmodel.String && (use.Features != nil || !b.hasGraph && len(use.Returned) == 0)
	case in.DType != savedmodel.String:
		return slices.Contains(pixelTypes, in.DType) && len(in.Shape) == 4
	case !b.hasGraph:
		return (b.Signature == bytesSignature || named(imageKeys, key)) && len(use.Returned) == 0 && b.sig.Method != methodClassify && b.sig.Method != methodRegress
	}
	return len(use.Decoders) > 0 || len(imageFeatures(use)) > 0
}

// imageFeatures returns the features of tf.Examples that are encoded images.
func imageFeatures(use savedmodel.InputUse) (names []string) {
	for _, name := range keys(use.Features) {
		if len(use.Features[name].Decoders) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// bindImage feeds an input with images: as pixels, encoded, or in a tf.Example.
func (b *binder) bindImage(key string, in savedmodel.TensorInfo) error {
	use := b.uses[key]
	f := feed{key: key, dtype: in.DType, from: fromImage}
	switch in.DType {
	case savedmodel.String:
		var err error
		if f.shape, err = stringShape(key, in.Shape); err != nil {
			return err
		}
		b.decoders, f.base64 = use.Decoders, use.Base64
		if use.Features != nil {
			if f.feature, b.decoders, err = exampleFeature(key, use); err != nil {
				return err
			}
		}
		b.formats = formatsOf(b.decoders)
	default:
		var err error
		if f.shape, err = b.bindPixels(key, in); err != nil {
			return err
		}
	}
	b.dtype, b.feeds = in.DType, append(b.feeds, f)
	return b.bindBatch(key, in.Shape)
}

// bindExample feeds an input with records that are tf.Examples.
func (b *binder) bindExample(key string, in savedmodel.TensorInfo) error {
	if in.DType != savedmodel.String {
		return fmt.Errorf("input %q is %v, and tf.Examples are strings: set --input.format tensor-json, or name a signature that takes tf.Examples", key, in)
	}
	shape, err := stringShape(key, in.Shape)
	if err != nil {
		return err
	}
	b.dtype, b.feeds = in.DType, append(b.feeds, feed{key: key, dtype: in.DType, shape: shape, from: fromImage})
	return b.bindBatch(key, in.Shape)
}

// stringShape returns the shape of one record in an input with one string a record: [] or [1].
func stringShape(key string, shape savedmodel.Shape) (savedmodel.Shape, error) {
	if shape == nil {
		return savedmodel.Shape{}, nil
	}
	if len(shape) == 0 {
		return nil, fmt.Errorf("input %q takes one string and no batch: export the signature with strings of shape [N], by tf.map_fn", key)
	}
	if n, ok := shape[1:].Elements(); !ok || n != 1 {
		return nil, fmt.Errorf("input %q takes strings of the shape %v, want [N] or [N, 1]: export a signature that takes [N] and reshapes", key, shape)
	}
	return shape[1:], nil
}

// exampleFeature returns the feature that takes the image, and the operations that decode it.
func exampleFeature(key string, use savedmodel.InputUse) (string, []string, error) {
	names := imageFeatures(use)
	if len(names) != 1 {
		return "", nil, fmt.Errorf("input %q takes tf.Examples with the features %q, of which %d hold an image: "+
			"an Example is made of an image only if exactly one does; set --input.format example and send whole tf.Examples", key, keys(use.Features), len(names))
	}
	var missing []string
	for _, name := range keys(use.Features) {
		if name != names[0] && use.Features[name].Required {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "", nil, fmt.Errorf("input %q takes tf.Examples that also need the features %q, which no image has: "+
			"set --input.format example and send whole tf.Examples, or export the features with defaults", key, missing)
	}
	return names[0], use.Features[names[0]].Decoders, nil
}

// bindRow feeds an input with a part of each row. JSON must have its type, and its shape the size
// of a row.
func (b *binder) bindRow(key string, in savedmodel.TensorInfo) error {
	if !slices.Contains(rowTypes, in.DType) {
		return fmt.Errorf("input %q is %v; rows can have %s: export a signature that takes one of these and casts", key, in, commaList(rowTypes))
	}
	if len(in.Shape) == 0 {
		return fmt.Errorf("input %q is %v; rows need [N, …]: export it with a batch of None", key, in)
	}
	n, ok := in.Shape[1:].Elements()
	if !ok || n < 1 {
		return fmt.Errorf("input %q has the shape %v, which does not tell the size of a row: export it with fixed sizes except for the batch", key, in.Shape)
	}
	numbers, words, total := 0, 0, min(n, maxRowElements+1)
	for _, f := range rowFeeds(b.feeds) {
		total += int64(f.count)
		numbers += f.size()
		if f.dtype == savedmodel.String {
			words += f.count
		}
	}
	if total > maxRowElements {
		return fmt.Errorf("input %q has the shape %v, with which a row has over %d elements: export a smaller one", key, in.Shape, maxRowElements)
	}
	f := feed{key: key, dtype: in.DType, shape: in.Shape[1:], count: int(n), offset: numbers}
	if f.dtype == savedmodel.String {
		f.offset = words
	}
	b.feeds = append(b.feeds, f)
	return b.bindBatch(key, in.Shape)
}

// maxRowElements bounds the elements of a row, in all inputs together.
const maxRowElements = 1 << 24

// sameShape tells whether two shapes are declared equal. A shape of unknown rank equals none.
func sameShape(a, b savedmodel.Shape) bool { return a != nil && b != nil && slices.Equal(a, b) }

// mayBeShape tells whether tensors with these declared shapes can have the same shape.
func mayBeShape(a, b savedmodel.Shape) bool {
	if a == nil || b == nil {
		return true
	}
	return slices.EqualFunc(a, b, func(x, y int64) bool { return x == y || x < 0 || y < 0 })
}

func keys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func first[T any](m map[string]T) string { return keys(m)[0] }

func has[T any](m map[string]T, key string) bool {
	_, ok := m[key]
	return ok
}
