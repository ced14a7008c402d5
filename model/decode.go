package model

import (
	"context"
	"errors"
	"fmt"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// A decoder turns encoded images into the model's input, with the operations
// that Python's tf.io.decode_image, tf.image and image resizing are made of, so that
// answers are the same. What those do not do, it does between decoding and
// resizing: WebP with alpha and animated WebP, which Python refuses, and the
// orientation and background that a version asks for. See pixels.View.
//
// A fast one lets libjpeg leave out detail of a JPEG far larger than the input:
// see ratio.
type decoder struct {
	session *savedmodel.Session
	decode  [len(ratios)]*savedmodel.Function // contents → input, by ratio; nil: never used
	frame   pixels.Frame
	fast    bool
	view    pixels.View

	// The same in two steps, for images that are composed between them, and for a
	// frame that takes another part of each.
	rgb    [len(ratios)]*savedmodel.Function // contents → uint8 [height, width, 3], by ratio
	rgba   *savedmodel.Function              // contents → uint8 [height, width, 4]
	finish *savedmodel.Function              // uint8 [height, width, 3], and placementFeeds if the frame is not plain → input
}

// ratios are those of sizes at which libjpeg can decode, by its DCT alone. The
// next one, 8, would leave nothing but each block's mean.
var ratios = [...]int{1, 2, 4}

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

// margin is how many times larger than the input an image must still be after
// its decoder has scaled it. Resizing picks single pixels of a large image; with
// less margin they are means of so many that scores change: TestFastDecode.
const margin = 2

// ratio is the index of the largest ratio at which the part of the image that is
// taken is still that much larger than what it is resized to, in both directions.
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

// pixels makes the input of one image, a tensor with a batch of 1, which the caller
// closes. An image that TensorFlow refuses is an *InputError.
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

// place makes the input of a picture, uint8 [height, width, 3].
func (d *decoder) place(ctx context.Context, picture *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	if d.frame.Plain() {
		return decodeOne(ctx, d.finish, picture)
	}
	shape := picture.Shape()
	where, err := placementTensors(d.frame.Place(int(shape[1]), int(shape[0])), d.frame)
	defer func() {
		for _, t := range where {
			t.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	return decodeOne(ctx, d.finish, append([]*savedmodel.Tensor{picture}, where...)...)
}

// compose decodes and composes a picture, uint8 [height, width, 3].
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

// textured makes the input of a made-up picture.
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

// decodeOne runs a step of decoding, whose refusal blames the image.
func decodeOne(ctx context.Context, f *savedmodel.Function, in ...*savedmodel.Tensor) (*savedmodel.Tensor, error) {
	out, err := f.Run(ctx, in...)
	if err != nil {
		return nil, blame(err, ReasonUndecodable)
	}
	return out[0], nil
}

// item is pixels as an item of a batch, which owns them.
func (d *decoder) item(ctx context.Context, image []byte, h Header) (item, error) {
	p, err := d.pixels(ctx, image, h)
	return item{pixels: p}, err
}

func (d *decoder) Close() error { return d.session.Close() }

// blame makes an *InputError of an error by which TensorFlow says that the
// input is at fault, or of one about what the model makes of it; other errors
// stay what they are.
func blame(err error, reason string) error {
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
