package model

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/model/pixels"
)

// view is what a model is to see of a picture. Its error names the keys.
func (in Input) view() (v pixels.View, err error) {
	var errs []error
	switch in.Orientation {
	case "":
	case "exif":
		v.Upright = true
	default:
		errs = append(errs, fmt.Errorf("input.orientation: %q is not exif; leave it out for pictures as they are stored", in.Orientation))
	}
	switch in.Background {
	case "":
	case "white":
		v.Background = &[3]byte{255, 255, 255}
	case "black":
		v.Background = &[3]byte{}
	default:
		rgb, err := hex.DecodeString(strings.TrimPrefix(in.Background, "#"))
		if err != nil || len(rgb) != 3 || in.Background[0] != '#' {
			errs = append(errs, fmt.Errorf("input.background: %q is neither white, black nor #rrggbb", in.Background))
			break
		}
		v.Background = (*[3]byte)(rgb)
	}
	return v, errors.Join(errs...)
}

// decides is the key by which a spec asks for more than TensorFlow's decoding;
// empty: it does not.
func (in Input) decides() string {
	switch {
	case in.Orientation != "":
		return "input.orientation"
	case in.Background != "":
		return "input.background"
	}
	return ""
}

// emptyBackground tells whether a spec has the key without a value: a colour
// that is not quoted is a comment.
func emptyBackground(b []byte) bool {
	var written struct {
		Input struct{ Background yaml.Node }
	}
	err := yaml.Unmarshal(b, &written)
	return err == nil && written.Input.Background.ShortTag() == "!!null" && !written.Input.Background.IsZero()
}
