package infer

import (
	"context"
	"errors"
	"fmt"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// A decoder turns encoded images into the model's input. It uses the operations behind
// Python's tf.io.decode_image and tf.image, so that answers are the same. Between decoding and
// resizing it does what those cannot: WebP with alpha and animated WebP, which Python refuses,
// and the orientation and background of a pixels.View.
//
// A fast decoder lets libjpeg leave out detail of a JPEG that is much larger than the input:
// see ratio.
type decoder struct {
	session *savedmodel.Session
	decode  [len(ratios)]*savedmodel.Function // contents → input, by ratio; nil: never used
	frame   pixels.Frame
	fast    bool
	view    pixels.View

	// The same in two steps, for images that are composed between them, and for a frame
	// whose placement depends on the image's size.
	rgb    [len(ratios)]*savedmodel.Function // contents → uint8 [height, width, 3], by ratio
	rgba   *savedmodel.Function              // contents → uint8 [height, width, 4]
	finish *savedmodel.Function              // uint8 [height, width, 3], and placementFeeds if the frame is not plain → input
}

// ratios are the factors by which libjpeg can decode to a smaller size, with its DCT alone. The
// next one, 8, would leave only the mean of each block.
var ratios = [...]int{1, 2, 4}

// newDecoder returns a decoder for inputs of this type. The caller closes it.
func newDecoder(p Preprocessing, dtype savedmodel.DataType, fast bool, o savedmodel.Options) (*decoder, error) {
	session, err := savedmodel.NewSession(decodeGraph(p, dtype, fast), o)
	if err != nil {
		return nil, err
	}
	d := &decoder{session: session, frame: p.frame(), fast: fast, view: p.view}
	var errs []error
	function := func(to string, from ...string) *savedmodel.Function {
		feeds := make([]string, len(from))
		for i, name := range from {
			feeds[i] = name + ":0"
		}
		f, err := session.Function(feeds, []string{to + ":0"})
		errs = append(errs, err)
		return f
	}
	plain := d.frame.Plain()
	for i := range ratios {
		if i > 0 && !fast {
			break
		}
		d.rgb[i] = function(decodedName(i), "contents")
		if plain {
			d.decode[i] = function(pixelsName(i), "contents")
		}
	}
	d.rgba = function("rgba", "contents")
	feeds := []string{decodedName(0)}
	if !plain {
		feeds = append(feeds, placementFeeds[:]...)
	}
	d.finish = function(pixelsName(0), feeds...)
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return d, nil
}

// margin is how many times as large as the input an image must still be after libjpeg has
// scaled it. Resizing picks single pixels of a large image. With less margin they are means of
// so many pixels that scores change: see TestFastDecode.
const margin = 2

// ratio returns the index of the largest ratio that leaves this margin, in both directions, for
// the part of the image that the frame takes.
func (d *decoder) ratio(h Header) int {
	best := 0
	if !d.fast || h.Format != "jpeg" {
		return best
	}
	p := d.frame.Place(h.Width, h.Height)
	for i, r := range ratios[1:] {
		if p.From.Dy() >= margin*r*p.To.Dy() && p.From.Dx() >= margin*r*p.To.Dx() {
			best = i + 1
		}
	}
	return best
}

// pixels returns the input for one image, a tensor with a batch of 1, which the caller closes.
// The error is an *InputError if TensorFlow refuses the image.
func (d *decoder) pixels(ctx context.Context, image []byte, h Header) (*savedmodel.Tensor, error) {
	plan, err := d.view.Plan(image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
	if err != nil {
		return nil, &InputError{ReasonUndecodable, fmt.Errorf("%s: %w", h.Format, err)}
	}
	contents, err := savedmodel.NewStringTensor([][]byte{plan.Image})
	if err != nil {
		return nil, err
	}
	defer contents.Close()
	if plan.Turned() {
		h.Width, h.Height = h.Height, h.Width
	}
	ratio := d.ratio(h)
	if plan.Plain() && d.frame.Plain() {
		return decodeOne(ctx, d.decode[ratio], contents)
	}
	var picture *savedmodel.Tensor
	if plan.Plain() {
		picture, err = decodeOne(ctx, d.rgb[ratio], contents)
	} else {
		picture, err = d.compose(ctx, plan, ratio, contents)
	}
	if err != nil {
		return nil, err
	}
	defer picture.Close()
	return d.place(ctx, picture)
}

// place returns the input for a picture, uint8 [height, width, 3].
func (d *decoder) place(ctx context.Context, picture *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	if d.frame.Plain() {
		return decodeOne(ctx, d.finish, picture)
	}
	shape := picture.Shape()
	where, err := placementTensors(d.frame.Place(int(shape[1]), int(shape[0])), d.frame)
	defer func() { closeTensors(where) }()
	if err != nil {
		return nil, err
	}
	return decodeOne(ctx, d.finish, append([]*savedmodel.Tensor{picture}, where...)...)
}

// compose decodes an image and composes its picture, uint8 [height, width, 3].
func (d *decoder) compose(ctx context.Context, plan pixels.Plan, ratio int, contents *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	decode, channels := d.rgb[ratio], 3
	if plan.Alpha {
		decode, channels = d.rgba, 4
	}
	decoded, err := decodeOne(ctx, decode, contents)
	if err != nil {
		return nil, err
	}
	defer decoded.Close()
	if ratio > 0 {
		shape := decoded.Shape()
		plan = plan.Scaled(int(shape[1]), int(shape[0]))
	}
	width, height := plan.Size()
	picture, err := savedmodel.NewTensor(savedmodel.UInt8, int64(height), int64(width), 3)
	if err != nil {
		return nil, err
	}
	if err := plan.Compose(picture.Bytes(), decoded.Bytes(), channels); err != nil {
		picture.Close()
		return nil, &InputError{ReasonUndecodable, err}
	}
	return picture, nil
}

// textured returns the input for a made-up picture.
func (d *decoder) textured() (*savedmodel.Tensor, error) {
	width, height := d.frame.Width, d.frame.Height
	picture, err := savedmodel.NewTensor(savedmodel.UInt8, int64(height), int64(width), 3)
	if err != nil {
		return nil, err
	}
	defer picture.Close()
	at := texture(width, height)
	to := picture.Bytes()
	for i := range to {
		to[i] = at(i/3%width, i/3/width, i%3)
	}
	return d.place(context.Background(), picture)
}

// decodeOne runs one step of decoding. If TensorFlow refuses the input, the error blames the
// image.
func decodeOne(ctx context.Context, f *savedmodel.Function, in ...*savedmodel.Tensor) (*savedmodel.Tensor, error) {
	out, err := f.Run(ctx, in...)
	if err != nil {
		return nil, blameInput(err, ReasonUndecodable)
	}
	return out[0], nil
}

// item returns the pixels of an image as an item, which owns them.
func (d *decoder) item(ctx context.Context, image []byte, h Header) (item, error) {
	p, err := d.pixels(ctx, image, h)
	return item{pixels: p}, err
}

func (d *decoder) close() error { return d.session.Close() }

// blameInput returns an *InputError with this reason if TensorFlow blames the input, one with
// ReasonNotFinite if the outputs are not finite, and any other error unchanged.
func blameInput(err error, reason string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, savedmodel.ErrNotFinite) {
		return &InputError{Reason: ReasonNotFinite, Err: err}
	}
	var status *savedmodel.Error
	if errors.As(err, &status) && status.Code == savedmodel.InvalidArgument {
		return &InputError{Reason: reason, Err: err}
	}
	return err
}
