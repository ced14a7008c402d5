package infer

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

// bindPixels finds how an input takes the pixels of images, and returns the shape of one image in
// it.
func (b *binder) bindPixels(key string, in savedmodel.TensorInfo) (savedmodel.Shape, error) {
	if err := b.checkPixels(key, in); err != nil {
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

// checkPixels says why an input cannot take the pixels of images, and what to do about it; nil: its
// type and shape are possible.
func (b *binder) checkPixels(key string, in savedmodel.TensorInfo) error {
	wrong := func(kind, hint string) error {
		return fmt.Errorf("input %q takes %v%s; inceptor feeds [N, height, width, channels]: %s", key, in, kind, hint)
	}
	const rows = "set --input.format tensor-json"
	s := in.Shape
	switch {
	case in.Encoding != "":
		return fmt.Errorf("input %q takes %v; inceptor feeds one dense tensor: export a signature that takes one", key, in)
	case s != nil && len(s) == 0:
		return wrong(", one value", "name a signature that takes images")
	case len(s) == 1:
		return fmt.Errorf("input %q takes %v, a number for each record, not images: %s", key, in, rows)
	case len(s) == 2 && b.Input.flatChannels(s[1]) == 0:
		return b.flatError(key, in)
	case len(s) == 3 && (s[2] == 3 || s[2] == 1 || s[0] >= 0 && pixels.Channels(b.Input.Channels) != pixels.Gray):
		return wrong(", one image without a batch", "export a signature with a batch, by tf.map_fn")
	case len(s) == 3 && pixels.Channels(b.Input.Channels) != pixels.Gray:
		return fmt.Errorf("input %q takes %v, perhaps gray images without a channel: %s, if so", key, in, b.suggest("input: {channels: gray}"))
	case len(s) > 4:
		return wrong(fmt.Sprintf(", with %d dimensions", len(s)), "export a signature that takes images")
	case len(s) == 4 && s[1] < 0 && channelsFit(s[3]) == 0 && b.Input.Layout == "":
		return fmt.Errorf("input %q takes %v: inceptor does not make images of %d channels; %s, if channels come first", key, in, s[3], b.suggest("input: {layout: nchw}"))
	case len(s) == 4 && channelsFit(s[1]) == 0 && channelsFit(s[3]) == 0:
		return wrong(fmt.Sprintf(", images of %d channels", s[3]), "export a signature that takes 3, or 1")
	case !slices.Contains(pixelTypes, in.DType):
		return fmt.Errorf("input %q takes %v; pixels can be %s: export a signature that takes one of these and casts, with tf.cast(%s, tf.%v)",
			key, in, commaList(pixelTypes), pythonName(key), in.DType)
	}
	return nil
}

// flatError says why an input of shape [N, n] takes no images, or what to write if it takes flat
// ones.
func (b *binder) flatError(key string, in savedmodel.TensorInfo) error {
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
			key, in, side, side, c, b.suggest(fmt.Sprintf("input: {size: [%d, %d]}", side, side)), rows)
	}
	return fmt.Errorf("input %q takes rows of %d numbers, not images: %s", key, n, rows)
}

// flatSide returns the side of a square image that has n numbers, with so many channels; 0: there
// is none.
func flatSide(n int64, channels int) int64 {
	side := int64(math.Sqrt(float64(max(n, 0) / int64(channels))))
	if side < 8 || int64(channels)*side*side != n {
		return 0
	}
	return side
}

// flatChannels returns how many channels a flat image of n numbers has, by its size in
// inceptor.yaml; 0: n does not go with that size, or there is none.
func (in Input) flatChannels(n int64) int {
	size := int64(in.Size[0]) * int64(in.Size[1])
	for _, channels := range []int{3, 1} {
		if size > 0 && size*int64(channels) == n {
			return channels
		}
	}
	return 0
}

// channelsFit ranks how likely a dimension is that of channels; 0: it cannot be.
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

// bindLayout finds layout and channels, by the shape, else by inceptor.yaml. Else channels come
// last, and there are three.
func (b *binder) bindLayout(key string, s savedmodel.Shape) error {
	stated := pixels.Layout(b.Input.Layout)
	b.layout = cmp.Or(stated, pixels.ChannelsLast)
	count := int64(-1)
	switch len(s) {
	case 2:
		count = int64(b.Input.flatChannels(s[1]))
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

// bindSize finds height and width, by the shape or by inceptor.yaml.
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
			return b.sizeError(key, shape)
		case dim > 0 && dim != *size:
			return fmt.Errorf("%s: [%d, %d] is not the size of the input %q, which has the shape %v: leave the key out",
				b.at("input.size"), b.Input.Size[0], b.Input.Size[1], key, shape)
		}
	}
	if h, w := b.Input.Size[0], b.Input.Size[1]; max(h, w) > maxInputSide || h*w > maxInputPixels {
		return fmt.Errorf("input %q has the size %d×%d, which is over %d on a side or over %d pixels: export the model for smaller images",
			key, h, w, maxInputSide, maxInputPixels)
	}
	return nil
}

// sizeError says what to write if nothing tells the size of images.
func (b *binder) sizeError(key string, shape savedmodel.Shape) error {
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
	return fmt.Errorf("input %q %s, which does not tell height and width: %s%s", key, has, b.suggest(line), also)
}

// The largest input that a model may have. A model server says what its model takes, so these
// bounds are needed like those of everything from outside.
const (
	maxInputSide   = 16_384
	maxInputPixels = 1 << 26 // 800 MB in float32
)
