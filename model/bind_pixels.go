package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// pixelTypes are the types that pixels may have. They are calculated in float32, and cast.
var pixelTypes = []savedmodel.DataType{
	savedmodel.Float16, savedmodel.BFloat16, savedmodel.Float32, savedmodel.Float64,
	savedmodel.Int8, savedmodel.Int16, savedmodel.Int32, savedmodel.Int64,
	savedmodel.UInt8, savedmodel.UInt16, savedmodel.UInt32, savedmodel.UInt64,
}

// bindPixels finds how the pixels of an image lie in an input, and returns the shape
// of one image there.
func (b *binder) bindPixels(key string, in savedmodel.TensorInfo) (savedmodel.Shape, error) {
	if err := b.notPixels(key, in); err != nil {
		return nil, err
	}
	if err := b.bindLayout(key, in.Shape); err != nil {
		return nil, err
	}
	if err := b.bindSize(key, in.Shape); err != nil {
		return nil, err
	}
	h, w, c := int64(b.Input.Size[0]), int64(b.Input.Size[1]), int64(b.channels.Count())
	switch {
	case len(in.Shape) == 2:
		return savedmodel.Shape{h * w * c}, nil
	case len(in.Shape) == 3:
		return savedmodel.Shape{h, w}, nil
	case b.layout == pixels.ChannelsFirst:
		return savedmodel.Shape{c, h, w}, nil
	}
	return savedmodel.Shape{h, w, c}, nil
}

// notPixels says why an input cannot take the pixels of images, and how to export one
// that can, or what to write; nil: its type and shape may be those of pixels.
func (b *binder) notPixels(key string, in savedmodel.TensorInfo) error {
	wrong := func(kind, mend string) error {
		return fmt.Errorf("input %q takes %v%s; inceptor gives [N, height, width, channels]: %s", key, in, kind, mend)
	}
	const rows = "set --input.format tensor-json"
	s := in.Shape
	switch {
	case in.Encoding != "":
		return fmt.Errorf("input %q takes %v; inceptor gives one dense tensor: export a signature that takes it", key, in)
	case s != nil && len(s) == 0:
		return wrong(", one value", "name a signature that takes images")
	case len(s) == 1:
		return fmt.Errorf("input %q takes %v, a number for each record, not images: %s", key, in, rows)
	case len(s) == 2 && b.flatChannels(s[1]) == 0:
		return b.notFlat(key, in)
	case len(s) == 3 && (s[2] == 3 || s[2] == 1 || s[0] >= 0 && pixels.Channels(b.Input.Channels) != pixels.Gray):
		return wrong(", one image without a batch", "export a signature with a batch, by tf.map_fn")
	case len(s) == 3 && pixels.Channels(b.Input.Channels) != pixels.Gray:
		return fmt.Errorf("input %q takes %v, perhaps gray images without a channel: %s, if so", key, in, b.write("input: {channels: gray}"))
	case len(s) > 4:
		return wrong(fmt.Sprintf(", with %d dimensions", len(s)), "export a signature that takes images")
	case len(s) == 4 && s[1] < 0 && channelsFit(s[3]) == 0 && b.Input.Layout == "":
		return fmt.Errorf("input %q takes %v: images of %d channels are not made; %s, if channels come first", key, in, s[3], b.write("input: {layout: nchw}"))
	case len(s) == 4 && channelsFit(s[1]) == 0 && channelsFit(s[3]) == 0:
		return wrong(fmt.Sprintf(", images of %d channels", s[3]), "export a signature that takes 3, or 1")
	case !slices.Contains(pixelTypes, in.DType):
		return fmt.Errorf("input %q takes %v; pixels can be %s: export a signature that takes one of these and casts, with tf.cast(%s, tf.%v)",
			key, in, list(pixelTypes), argument(key), in.DType)
	}
	return nil
}

// notFlat says why an input of shape [N, n] takes no images, or what to write if it
// takes flat ones.
func (b *binder) notFlat(key string, in savedmodel.TensorInfo) error {
	const rows = "set --input.format tensor-json"
	n := in.Shape[1]
	h, w, c := b.Input.Size[0], b.Input.Size[1], 3
	side := flatSide(n, c)
	if side == 0 {
		c = 1
		side = flatSide(n, c)
	}
	switch {
	case n < 0:
		return fmt.Errorf("input %q takes %v, rows of numbers, not images: %s", key, in, rows)
	case h > 0 && w > 0:
		return fmt.Errorf("%s: [%d, %d] is not the size of flat images in the input %q, which has the shape %v: "+
			"height × width × channels must be %d", b.at("input.size"), h, w, key, in.Shape, n)
	case side > 0:
		return fmt.Errorf("input %q takes %v, perhaps flat images of %d×%d×%d: %s, if so; if it takes rows of numbers, %s",
			key, in, side, side, c, b.write(fmt.Sprintf("input: {size: [%d, %d]}", side, side)), rows)
	}
	return fmt.Errorf("input %q takes rows of %d numbers, not images: %s", key, n, rows)
}

// flatSide is the side of the square image of so many channels that has n numbers; 0:
// none has.
func flatSide(n int64, channels int) int64 {
	side := int64(math.Sqrt(float64(max(n, 0) / int64(channels))))
	if side < 8 || int64(channels)*side*side != n {
		return 0
	}
	return side
}

// flatChannels is how many channels a flat image of n numbers has, by its size in
// inceptor.yaml; 0: it is none.
func (b *binder) flatChannels(n int64) int {
	size := int64(b.Input.Size[0]) * int64(b.Input.Size[1])
	for _, channels := range []int{3, 1} {
		if size > 0 && size*int64(channels) == n {
			return channels
		}
	}
	return 0
}

// channelsFit is how likely a dimension is that of channels; 0: it is not.
func channelsFit(dim int64) int {
	switch {
	case dim == 3:
		return 3
	case dim == 1:
		return 2
	case dim < 0:
		return 1
	}
	return 0
}

// bindLayout finds layout and channels. What the shape does not tell is as inceptor.yaml
// says, else channels last, and three of them.
func (b *binder) bindLayout(key string, s savedmodel.Shape) error {
	stated := pixels.Layout(b.Input.Layout)
	b.layout = cmp.Or(stated, pixels.ChannelsLast)
	count := int64(-1)
	switch len(s) {
	case 2:
		count = int64(b.flatChannels(s[1]))
	case 3:
		count = 1
	case 4:
		last, first := channelsFit(s[3]), channelsFit(s[1])
		if stated == pixels.ChannelsLast && last == 0 || stated == pixels.ChannelsFirst && first == 0 {
			return fmt.Errorf("%s: %s is not the layout of the input %q, which has the shape %v: leave the key out",
				b.at("input.layout"), stated, key, s)
		}
		if stated == "" && first > last {
			b.layout = pixels.ChannelsFirst
		}
		if count = s[3]; b.layout == pixels.ChannelsFirst {
			count = s[1]
		}
	}
	b.channels = ""
	if count == 1 || count < 0 && pixels.Channels(b.Input.Channels) == pixels.Gray {
		b.channels = pixels.Gray
	}
	return nil
}

// bindSize takes the size of pixels from their shape, or from inceptor.yaml.
func (b *binder) bindSize(key string, shape savedmodel.Shape) error {
	dims := []int64{-1, -1} // height, width
	switch {
	case len(shape) == 4 && b.layout == pixels.ChannelsFirst:
		dims = shape[2:]
	case len(shape) > 2:
		dims = shape[1:3]
	}
	for i, dim := range dims {
		size := &b.Input.Size[i]
		switch dim := int(dim); {
		case *size == 0 && dim > 0:
			*size = dim
		case *size <= 0:
			return b.noSize(key, shape)
		case dim > 0 && dim != *size:
			return fmt.Errorf("%s: [%d, %d] is not the size of the input %q, which has the shape %v: leave the key out",
				b.at("input.size"), b.Input.Size[0], b.Input.Size[1], key, shape)
		}
	}
	if h, w := b.Input.Size[0], b.Input.Size[1]; max(h, w) > maxInputSide || h*w > maxInputPixels {
		return fmt.Errorf("input %q has the size %d×%d, which is over %d on a side, or over %d pixels: export the model for smaller images",
			key, h, w, maxInputSide, maxInputPixels)
	}
	return nil
}

// noSize says what to write where nothing tells the size of images.
func (b *binder) noSize(key string, shape savedmodel.Shape) error {
	has := fmt.Sprintf("has the shape %v", shape)
	if shape == nil {
		has = "has an unknown shape"
	}
	line, also := "input: {size: [HEIGHT, WIDTH]}", ""
	switch open := shape == nil || len(shape) == 4 && shape[1] < 0 && shape[3] < 0; {
	case b.Input.Layout != "":
		line = fmt.Sprintf("input: {layout: %s, size: [HEIGHT, WIDTH]}", b.Input.Layout)
	case open:
		also = ", and layout: nchw if channels come first"
	}
	return fmt.Errorf("input %q %s, which does not tell height and width: %s%s", key, has, b.write(line), also)
}

// What a model may take of one image. A model server says what it takes, so that is
// bounded like everything from outside.
const (
	maxInputSide   = 16_384
	maxInputPixels = 1 << 26 // 800 MB in float32
)
