package infer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ReasonFormatNotTaken says that a record is an image of a format that the model's graph does not
// decode.
const ReasonFormatNotTaken = "format-not-taken-by-model"

// animatedGIF is a GIF of more than one frame.
const animatedGIF = "animated gif"

// decoderFormats lists the formats that the operations of TensorFlow 2.21 decode, as measured. All
// but DecodeImage and DecodeWebP return WebP with an extra dimension, which no graph expects.
var decoderFormats = map[string][]string{
	"DecodeJpeg":        {"jpeg", "png", "gif"},
	"DecodePng":         {"jpeg", "png", "gif"},
	"DecodeGif":         {"jpeg", "png", "gif", animatedGIF},
	"DecodeBmp":         {"bmp"},
	"DecodeAndCropJpeg": {"jpeg"},
	"DecodeImage":       {"jpeg", "png", "gif", animatedGIF, "bmp", "webp"},
	"DecodeWebP":        {"jpeg", "png", "webp"},
}

// formatsOf returns the formats that a graph's decoders take; nil: any, since there are no
// decoders, or one is not known.
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

// checkFormat makes sure that the model's graph decodes images of this format. They are never
// converted, since the model was not exported for the result.
func (a *pipeline) checkFormat(h Header) error {
	format := h.Format
	if format == "gif" && h.Frames > 1 {
		format = animatedGIF
	}
	if a.sig.formats == nil || slices.Contains(a.sig.formats, format) {
		return nil
	}
	return &InputError{ReasonFormatNotTaken, fmt.Errorf("%s: the model decodes images with %s, which takes %s; send one of these, or export the model with decode_image",
		format, strings.Join(a.sig.decoders, ", "), strings.Join(a.sig.formats, ", "))}
}

var errAnimatedWebP = errors.New("the model takes encoded images, and TensorFlow may crash on an animated WebP: " +
	"send its first frame, or a model that takes pixels")
