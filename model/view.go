package model

import (
	"encoding/hex"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/model/pixels"
)

// view is what a model is to see of a picture. Its error names the keys.
func (s Spec) view() (v pixels.View, err error) {
	var errs []error
	in := s.Input
	switch in.Orientation {
	case "":
	case "exif":
		v.Upright = true
	default:
		errs = append(errs, s.wrong("input.orientation", "%q is not exif; leave it out for pictures as they are stored", in.Orientation))
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
			errs = append(errs, s.wrong("input.background", "%q is neither white, black nor #rrggbb", in.Background))
			break
		}
		v.Background = (*[3]byte)(rgb)
	}
	return v, errors.Join(errs...)
}

// decides is the key by which a spec says how images are decoded and converted here;
// empty: none does. Those that say what a signature of pixels leaves open are not
// among them: a version may have signatures of both kinds.
func (in Input) decides() string {
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

// emptyBackground tells whether a spec has the key without a value: a colour
// that is not quoted is a comment.
func emptyBackground(b []byte) bool {
	var written struct {
		Input struct{ Background yaml.Node }
	}
	err := yaml.Unmarshal(b, &written)
	return err == nil && written.Input.Background.ShortTag() == "!!null" && !written.Input.Background.IsZero()
}
