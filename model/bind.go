package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// A signature is what a version's signature takes and gives, with what
// inceptor.yaml says completed from it.
type signature struct {
	Spec
	content  Content
	feeds    []feed              // what is fed, in that order
	inputKey string              // of the feed that takes the record; empty: of rows, all may
	dtype    savedmodel.DataType // of that input: float32, uint8 or string
	layout   pixels.Layout       // of that input, if it takes pixels; empty: channels last
	channels pixels.Channels     // of that input, as its shape tells; empty: three, in the order of inceptor.yaml
	formats  []string            // of images that the graph's decoders take; nil: all, or none are decoded there
	decoders []string            // of the graph
	returned []returned
	words    bool   // the classes' output has words, not numbers
	values   bool   // an answer has the scores as they are
	doubt    string // what to write if the classes' output, which nobody named, has none; empty: it surely has them
	classes  int    // 0: not known, or the model brings classes of its own
	maxBatch int    // 0: any
}

// A returned is an output that gives an input back unchanged.
type returned struct {
	output string
	feed   int // index of the input in feeds
}

// inputs are the keys of what is fed, in that order.
func (bound signature) inputs() []string { return keysOf(bound.feeds) }

// outputs are the keys of what is fetched: the scores, their classes if there are
// any, and what comes back.
func (bound signature) outputs() []string {
	keys := []string{bound.Output.Scores}
	if bound.Output.Classes != "" {
		keys = append(keys, bound.Output.Classes)
	}
	for _, r := range bound.returned {
		keys = append(keys, r.output)
	}
	return keys
}

// An offer is what a model has to be bound to.
type offer struct {
	signatures map[string]savedmodel.Signature
	// use tells what the graph does with an input, or errNotShown. Nil: no graph is
	// there to look at.
	use    func(signature, key string) (savedmodel.InputUse, error)
	server bool   // a model server has it: every input must be sent
	labels int    // lines of the file of labels; 0: there is none
	file   string // where a person writes what is missing
}

var errNotShown = errors.New("no graph shows this signature")

// A binder completes a signature.
type binder struct {
	signature
	offer
	sig  savedmodel.Signature
	uses map[string]savedmodel.InputUse // by key of the input

	shown bool // by a graph: uses are what it does
}

// bind completes what inceptor.yaml says from the signature that it names, and
// checks the one against the other.
func (s Spec) bind(o offer, c Content) (signature, error) {
	b := binder{signature: signature{Spec: s, content: c}, offer: o}
	if err := b.bind(); err != nil {
		return signature{}, err
	}
	return b.signature, nil
}

func (b *binder) bind() error {
	if all := keys(b.signatures); len(all) == 1 && b.Signature == defaultSignature {
		b.Signature = all[0] // no other can be meant
	}
	sig, ok := b.signatures[b.Signature]
	if !ok {
		if len(b.signatures) == 0 {
			return errors.New(`the model has no signatures: export it with one that is called "serving_default"`)
		}
		return fmt.Errorf("no signature %q, only %q: %s", b.Signature, keys(b.signatures), b.write("signature: "+yamlWord(first(b.signatures))))
	}
	b.sig = sig
	if all := keys(sig.Outputs); slices.ContainsFunc(all, isDetection) {
		return fmt.Errorf("signature %q: the outputs %q are those of an object detector, and an answer has the classes of a whole image: export a classifier", b.Signature, all)
	}
	err := b.look()
	if err == nil {
		err = b.bindInputs()
	}
	if key := b.Input.decides(); err == nil && key != "" && (b.content == Rows || b.dtype == savedmodel.String) {
		err = fmt.Errorf("%s: the input is not pixels, so that no image is decoded for it here; "+
			"leave the key out, or name a signature that takes pixels", b.at(key))
	}
	if err == nil && b.content != Rows && b.dtype != savedmodel.String {
		err = b.checkChannels()
	}
	if err == nil {
		err = b.bindOutputs()
	}
	if err != nil {
		return fmt.Errorf("signature %q: %w", b.Signature, err)
	}
	return nil
}

// look asks the graph what it does with each input. Without one, an output of an
// input's name, type and shape is taken for that input, if it is a key's name.
func (b *binder) look() error {
	b.uses, b.shown = map[string]savedmodel.InputUse{}, b.use != nil
	for key := range b.sig.Inputs {
		if !b.shown {
			break
		}
		use, err := b.use(b.Signature, key)
		if errors.Is(err, errNotShown) {
			b.shown = false
		} else if err != nil {
			return fmt.Errorf("input %q: %w", key, err)
		}
		if use.Computed {
			use.Returned = nil // it is more than a key: what is fed would change the answer
		}
		b.uses[key] = use
	}
	for key, in := range b.sig.Inputs {
		if out, ok := b.sig.Outputs[key]; ok && !b.shown && isKey(in) && named(recordKeys, key) && in.DType == out.DType && sameShape(in.Shape, out.Shape) {
			b.uses[key] = savedmodel.InputUse{Returned: []string{key}}
		}
	}
	return nil
}

// recordKeys are inputs that only tell records apart where nothing but the name
// tells, in lower case.
var recordKeys = []string{"key", "keys", "id", "ids", "uuid", "image_id", "image_key", "record_id", "example_id", "instance_id", "row_key"}

// isKey tells whether an input can take a key for each record.
func isKey(in savedmodel.TensorInfo) bool {
	return (in.DType == savedmodel.String || in.DType == savedmodel.Int64) && len(in.Shape) == 1 && in.Encoding == ""
}

// bindInputs finds what each input is fed from.
func (b *binder) bindInputs() error {
	if len(b.sig.Inputs) == 0 {
		return errors.New("it has no inputs: name a signature that takes what records hold")
	}
	for _, key := range keys(b.Inputs) {
		if !has(b.sig.Inputs, key) {
			return fmt.Errorf("%s: inputs: the signature has no input %q, only %q", b.where(), key, keys(b.sig.Inputs))
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
			b.feeds = append(b.feeds, feed{key: key, dtype: in.DType, shape: savedmodel.Shape{}, from: fromPlace})
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
		return b.needs(missing)
	}
	return nil
}

// recordInput is the input that takes the record.
func (b *binder) recordInput() (string, error) {
	if key := b.Input.Key; key != "" {
		switch _, fixed := b.Inputs[key]; {
		case !has(b.sig.Inputs, key):
			return "", fmt.Errorf("%s: input.key: the signature has no input %q, only %q", b.where(), key, keys(b.sig.Inputs))
		case fixed:
			return "", fmt.Errorf("%s: the input %q is input.key and has a value in inputs: leave one out", b.where(), key)
		}
		return key, nil
	}
	var open, fit []string // inputs that nothing else is known for, and those that can take the record
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
		return "", fmt.Errorf("each of the inputs %q could take the image: %s, or whichever takes it", fit, b.write("input: {key: "+yamlWord(fit[0])+"}"))
	case len(open) > 1 && b.content.image() && !slices.ContainsFunc(keys(b.sig.Inputs), func(key string) bool { return mayHoldImages(b.sig.Inputs[key]) }):
		return "", fmt.Errorf("none of its inputs takes images, but numbers: it has %s; set --input.format tensor-json", describe(b.sig.Inputs))
	case len(open) != 1:
		return "", fmt.Errorf("none of its inputs takes an image for certain: it has %s; %s, if that takes it",
			describe(b.sig.Inputs), b.write("input: {key: "+yamlWord(first(b.sig.Inputs))+"}"))
	}
	key := open[0]
	in := b.sig.Inputs[key]
	if in.DType != savedmodel.String {
		return key, nil // which is told why, if it does not fit
	}
	if !b.content.image() {
		return key, nil
	}
	if use := b.uses[key]; use.Features != nil {
		return "", fmt.Errorf("input %q takes tf.Examples, and the graph decodes no image from their features %q: "+
			"set --input.format example, where the records are tf.Examples", key, keys(use.Features))
	}
	if m := b.sig.Method; !b.shown && (m == methodClassify || m == methodRegress) {
		return "", fmt.Errorf("input %q takes tf.Examples, and no version in model.dir shows which feature the image is: put the version there, "+
			"or name a signature of the method predict", key)
	}
	if !b.shown {
		return "", fmt.Errorf("input %q takes strings, and no version in model.dir shows whether they are encoded images: %s, if they are",
			key, b.write("input: {key: "+yamlWord(key)+"}"))
	}
	return "", fmt.Errorf("input %q takes strings, and the graph decodes no images from them: %s, if they are encoded images all the same; "+
		"texts are records of --input.format tensor-json", key, b.write("input: {key: "+yamlWord(key)+"}"))
}

// imageKeys are inputs that hold encoded images where nothing but the name tells:
// those of TensorFlow Serving's Inception, its ResNet, AutoML and the Cloud's
// prediction service, in lower case.
var imageKeys = []string{"image_bytes", "images", "image", "encoded_image", "encoded_images", "encoded_image_string_tensor", "jpeg", "jpegs"}

// mayHoldImages tells whether an input has a type and shape of images, of any kind.
func mayHoldImages(in savedmodel.TensorInfo) bool {
	return in.DType == savedmodel.String || in.Shape == nil || len(in.Shape) > 2 || len(in.Shape) == 2 && flatSide(in.Shape[1]) > 0
}

// takesRecord tells whether an input surely takes what records hold.
func (b *binder) takesRecord(key string) bool {
	in, use := b.sig.Inputs[key], b.uses[key]
	switch {
	case b.content == Examples:
		return in.DType == savedmodel.String && (use.Features != nil || !b.shown && len(use.Returned) == 0)
	case in.DType != savedmodel.String:
		return (in.DType == savedmodel.Float32 || in.DType == savedmodel.UInt8) && len(in.Shape) == 4
	case !b.shown:
		return (b.Signature == bytesSignature || named(imageKeys, key)) && len(use.Returned) == 0 && b.sig.Method != methodClassify && b.sig.Method != methodRegress
	}
	return len(use.Decoders) > 0 || len(imageFeatures(use)) > 0
}

// imageFeatures are the features of tf.Examples that hold encoded images.
func imageFeatures(use savedmodel.InputUse) (names []string) {
	for _, name := range keys(use.Features) {
		if len(use.Features[name].Decoders) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// bindImage is for images: as pixels, encoded, or in a tf.Example.
func (b *binder) bindImage(key string, in savedmodel.TensorInfo) error {
	use := b.uses[key]
	f := feed{key: key, dtype: in.DType, from: fromImage}
	switch in.DType {
	case savedmodel.String:
		if err := b.checkStrings(key, in.Shape); err != nil {
			return err
		}
		b.decoders = use.Decoders
		if use.Features != nil {
			var err error
			if f.feature, b.decoders, err = b.exampleFeature(key, use); err != nil {
				return err
			}
		}
		b.formats = formatsOf(b.decoders)
	default:
		if err := notPixels(key, in); err != nil {
			return err
		}
		if err := b.bindSize(key, in.Shape); err != nil {
			return err
		}
		f.shape = savedmodel.Shape{int64(b.Input.Size[0]), int64(b.Input.Size[1]), 3}
	}
	b.dtype, b.feeds = in.DType, append(b.feeds, f)
	return b.bindBatch(key, in.Shape)
}

// bindExample is for records that are tf.Examples.
func (b *binder) bindExample(key string, in savedmodel.TensorInfo) error {
	if in.DType != savedmodel.String {
		return fmt.Errorf("input %q is %v, and tf.Examples are strings: set --input.format tensor-json, or name a signature that takes tf.Examples", key, in)
	}
	if err := b.checkStrings(key, in.Shape); err != nil {
		return err
	}
	b.dtype, b.feeds = in.DType, append(b.feeds, feed{key: key, dtype: in.DType, from: fromImage})
	return b.bindBatch(key, in.Shape)
}

func (b *binder) checkStrings(key string, shape savedmodel.Shape) error {
	if shape == nil || len(shape) == 1 {
		return nil
	}
	if len(shape) == 0 {
		return fmt.Errorf("input %q takes one string and no batch: export the signature with strings of shape [N], by tf.map_fn", key)
	}
	return fmt.Errorf("input %q takes strings of the shape %v, want [N]: export a signature that takes [N] and reshapes", key, shape)
}

// exampleFeature is the feature that the image goes to, with what decodes it.
func (b *binder) exampleFeature(key string, use savedmodel.InputUse) (string, []string, error) {
	names := imageFeatures(use)
	if len(names) != 1 {
		return "", nil, fmt.Errorf("input %q takes tf.Examples with the features %q, of which %d hold an image: "+
			"an Example is made of an image only where one does; set --input.format example and send whole tf.Examples", key, keys(use.Features), len(names))
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

// bindSize takes the size of pixels from their shape, or from inceptor.yaml.
func (b *binder) bindSize(key string, shape savedmodel.Shape) error {
	for i := range b.Input.Size {
		size := &b.Input.Size[i]
		switch dim := int(shape[1+i]); {
		case *size == 0 && dim > 0:
			*size = dim
		case *size <= 0:
			return fmt.Errorf("input %q has the shape %v, which does not tell height and width: %s", key, shape, b.write("input: {size: [HEIGHT, WIDTH]}"))
		case dim > 0 && dim != *size:
			return fmt.Errorf("%s: input.size: [%d, %d] is not the size of the input %q, which has the shape %v: leave the key out",
				b.where(), b.Input.Size[0], b.Input.Size[1], key, shape)
		}
	}
	if h, w := b.Input.Size[0], b.Input.Size[1]; max(h, w) > maxInputSide || h*w > maxInputPixels {
		return fmt.Errorf("input %q has the size %d×%d, which is over %d on a side, or over %d pixels: export the model for smaller images",
			key, h, w, maxInputSide, maxInputPixels)
	}
	return nil
}

// What a model may take of one image. A model server says what it takes, so that is
// bounded like everything from outside.
const (
	maxInputSide   = 16_384
	maxInputPixels = 1 << 26 // 800 MB in float32
)

// bindRow takes any input of a type that JSON has, if its rows have one size.
func (b *binder) bindRow(key string, in savedmodel.TensorInfo) error {
	if !slices.Contains(rowTypes, in.DType) {
		return fmt.Errorf("input %q is %v; rows can have %s: export a signature that takes one of these and casts", key, in, list(rowTypes))
	}
	if len(in.Shape) == 0 {
		return fmt.Errorf("input %q is %v; rows need [N, …]: export it with a batch of None", key, in)
	}
	n, ok := in.Shape[1:].Elements()
	if !ok || n < 1 {
		return fmt.Errorf("input %q has the shape %v, which does not tell the size of a row: export it with fixed sizes, but for the batch", key, in.Shape)
	}
	numbers, words, total := 0, 0, min(n, maxRowElements+1)
	for _, f := range rowFeeds(b.feeds) {
		total += int64(f.n)
		numbers += f.size()
		if f.dtype == savedmodel.String {
			words += f.n
		}
	}
	if total > maxRowElements {
		return fmt.Errorf("input %q has the shape %v, with which a row has over %d elements: export a smaller one", key, in.Shape, maxRowElements)
	}
	f := feed{key: key, dtype: in.DType, shape: in.Shape[1:], n: int(n), at: numbers}
	if f.dtype == savedmodel.String {
		f.at = words
	}
	b.feeds = append(b.feeds, f)
	return b.bindBatch(key, in.Shape)
}

// maxRowElements is that of all inputs together.
const maxRowElements = 1 << 24

// bindBatch notes whether the first dimension is fixed.
func (b *binder) bindBatch(key string, shape savedmodel.Shape) error {
	if len(shape) == 0 || shape[0] <= 0 {
		return nil
	}
	if shape[0] != 1 {
		return fmt.Errorf("input %q takes batches of exactly %d: export it with a batch of None", key, shape[0])
	}
	b.maxBatch = 1
	return nil
}

// sameShape tells whether two shapes are declared alike; a shape of unknown rank
// is like none.
func sameShape(a, b savedmodel.Shape) bool { return a != nil && b != nil && slices.Equal(a, b) }

// mayBeShape tells whether tensors of two shapes can have the same one.
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
