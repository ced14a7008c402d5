package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ReasonFormatNotTaken says that a record is an image of a format that the
// operations in the model's graph do not decode.
const ReasonFormatNotTaken = "format-not-taken-by-model"

// animatedGIF is a GIF of more than one frame.
const animatedGIF = "animated gif"

// decoderFormats are the formats that TensorFlow 2.21's operations decode to a
// picture, measured. WebP comes out of all but DecodeImage and DecodeWebP with a
// dimension too many, for which no graph is made.
var decoderFormats = map[string][]string{
	"DecodeJpeg":        {"jpeg", "png", "gif"},
	"DecodePng":         {"jpeg", "png", "gif"},
	"DecodeGif":         {"jpeg", "png", "gif", animatedGIF},
	"DecodeBmp":         {"bmp"},
	"DecodeAndCropJpeg": {"jpeg"},
	"DecodeImage":       {"jpeg", "png", "gif", animatedGIF, "bmp", "webp"},
	"DecodeWebP":        {"jpeg", "png", "webp"},
}

// formatsOf are what one of the decoders of a graph takes; nil: anything, since
// there are none, or one is not known.
func formatsOf(decoders []string) []string {
	var all []string
	for _, op := range decoders {
		formats, ok := decoderFormats[op]
		if !ok {
			return nil
		}
		all = append(all, formats...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// takes makes sure that the model's graph decodes such an image. It is never
// converted: the model was not exported for what would come out.
func (a *answerer) takes(h Header) error {
	format := h.Format
	if format == "gif" && h.Frames > 1 {
		format = animatedGIF
	}
	if a.formats == nil || slices.Contains(a.formats, format) {
		return nil
	}
	return &InputError{ReasonFormatNotTaken, fmt.Errorf("%s: the model decodes images with %s, which takes %s; send one of these, or export the model with decode_image",
		format, strings.Join(a.decoders, ", "), strings.Join(a.formats, ", "))}
}

var errAnimatedWebP = errors.New("the model takes encoded images, and TensorFlow may crash on an animated WebP: " +
	"send its first frame, or a model that takes pixels")
