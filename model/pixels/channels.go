package pixels

// A Layout is the order of the dimensions of an input.
type Layout string

// The layouts.
const (
	ChannelsLast  Layout = "nhwc" // [N, height, width, channels]
	ChannelsFirst Layout = "nchw" // [N, channels, height, width]
)

// Channels are those of each pixel of the input, in their order.
type Channels string

// The channels.
const (
	RGB  Channels = "rgb"
	BGR  Channels = "bgr"
	Gray Channels = "gray" // one, by the weights of tf.image.rgb_to_grayscale
)

// Count returns how many channels a pixel has.
func (c Channels) Count() int {
	if c == Gray {
		return 1
	}
	return 3
}
