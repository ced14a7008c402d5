package infer

import (
	"encoding/hex"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/model/pixels"
)

// view returns how an image is turned and what is behind it. Its error names the keys.
func (s Spec) view() (v pixels.View, err error) {
	var errs []error
	in := s.Input
	switch in.Orientation {
	case "":
	case "exif":
		v.Upright = true
	default:
		errs = append(errs, s.errorAt("input.orientation", "%q is not exif: leave the key out to take images as they are stored", in.Orientation))
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
			errs = append(errs, s.errorAt("input.background", "%q is neither white, black nor #rrggbb", in.Background))
			break
		}
		v.Background = (*[3]byte)(rgb)
	}
	return v, errors.Join(errs...)
}

// decodingKey returns a key that only makes sense if images are decoded here; empty: none is set.
// Keys such as size, which complete a signature of pixels, do not count: a version may have
// signatures of pixels and of strings.
func (in Input) decodingKey() string {
	for _, key := range []struct {
		name string
		set  bool
	}{
		{"orientation", in.Orientation != ""}, {"background", in.Background != ""},
		{"crop", in.Crop != nil}, {"fit", in.Fit != ""}, {"channels", in.Channels != ""},
		{"mean", in.Mean != nil}, {"std", in.Std != nil},
	} {
		if key.set {
			return "input." + key.name
		}
	}
	return ""
}

// emptyBackground tells whether a spec has the key without a value: a colour without quotes is a
// comment in YAML.
func emptyBackground(b []byte) bool {
	var written struct {
		Input struct{ Background yaml.Node }
	}
	err := yaml.Unmarshal(b, &written)
	return err == nil && written.Input.Background.ShortTag() == "!!null" && !written.Input.Background.IsZero()
}
