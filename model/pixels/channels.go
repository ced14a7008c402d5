package pixels

// A Layout is the order of an input's dimensions.
type Layout string

// The layouts.
const (
	ChannelsLast  Layout = "nhwc" // [N, height, width, channels]
	ChannelsFirst Layout = "nchw" // [N, channels, height, width]
)

// Channels are what each pixel of the input has, in that order.
type Channels string

// The channels.
const (
	RGB  Channels = "rgb"
	BGR  Channels = "bgr"
	Gray Channels = "gray" // one, by the weights of tf.image.rgb_to_grayscale
)

// Count is how many they are.
func (c Channels) Count() int {
	if c == Gray {
		return 1
	}
	return 3
}
