package pixels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"io"
	"strings"
)

// decodeGIF decodes the first frame, on black. TensorFlow ignores the screen that the file
// declares, so Go's decoder gets the largest one; it allocates nothing for it.
func decodeGIF(b []byte, h Header) (picture, error) {
	const screen = 10
	width, height, err := frameSize(b)
	if err != nil {
		return picture{}, err
	}
	if width > h.Width || height > h.Height {
		return picture{}, fmt.Errorf("the frame is %d×%d, the header allows %d×%d", width, height, h.Width, h.Height)
	}
	head := "GIF89a\xff\xff\xff\xff" // TensorFlow accepts any version, Go two of them
	img, err := gif.Decode(io.MultiReader(strings.NewReader(head), bytes.NewReader(b[screen:])))
	if err != nil {
		return picture{}, err
	}
	frame, ok := img.(*image.Paletted)
	if !ok {
		return picture{}, fmt.Errorf("unexpected pixels %T", img)
	}
	p := newPicture(h.Width, h.Height)
	p.draw(frame, frame.Bounds().Min)
	return p, nil
}

// frameSize reads the size of the frame that Go's decoder takes for the first. It refuses
// extensions whose end Go's decoder may find elsewhere: that would allocate memory for a
// frame of unchecked size.
func frameSize(b []byte) (width, height int, err error) {
	const screen, descriptor = 13, 9
	if len(b) < screen {
		return 0, 0, io.ErrUnexpectedEOF
	}
	at := screen
	if packed := b[10]; packed&0x80 != 0 { // colours of the screen
		at += 3 << (packed&7 + 1)
	}
	for at+descriptor < len(b) {
		switch b[at] {
		case 0x2c:
			return int(binary.LittleEndian.Uint16(b[at+5:])), int(binary.LittleEndian.Uint16(b[at+7:])), nil
		case 0x21: // an extension: its label, then blocks until an empty one
			const plainText = 0x01 // Go's decoder skips 12 bytes, whatever the block's size
			label, size := b[at+1], b[at+2]
			if size == 0 || label == plainText && size != 12 {
				return 0, 0, fmt.Errorf("extension %#02x begins with a block of %d bytes", label, size)
			}
			for at += 2; at < len(b) && b[at] != 0; {
				at += 1 + int(b[at])
			}
			at++
		default:
			return 0, 0, errors.New("no frame")
		}
	}
	return 0, 0, io.ErrUnexpectedEOF
}
