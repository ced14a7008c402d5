package model

import (
	"testing"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// The blank image, by which a model server is asked whether a record is to blame, is as large as the
// model's input.
func TestBlankItemFits(t *testing.T) {
	for channels, count := range map[pixels.Channels]int64{"": 3, pixels.RGB: 3, pixels.Gray: 1} {
		for _, layout := range []pixels.Layout{pixels.ChannelsLast, pixels.ChannelsFirst} {
			shape := savedmodel.Shape{5, 7, count}
			if layout == pixels.ChannelsFirst {
				shape = savedmodel.Shape{count, 5, 7}
			}
			sig := signature{dtype: savedmodel.Float16, layout: layout, channels: channels}
			sig.Input.Size = [2]int{5, 7}
			sig.feeds = []feed{{key: "images", dtype: sig.dtype, shape: shape, from: fromImage}}
			if _, err := message(sig.feeds, []item{blankItem(sig)}, false); err != nil {
				t.Errorf("channels %q, %s: %v", channels, layout, err)
			}
		}
	}
}
