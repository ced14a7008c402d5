// Package pixels decodes images without TensorFlow: for a model server that
// takes pixels, on a machine that has no library to make them with.
//
// It does what the decoder of package model does with TensorFlow's operations DecodeImage,
// ResizeBilinear, ResizeNearestNeighbor, ResizeBicubic, ResizeArea and Cast, step by step as they
// do it, so that a model sees the same picture: fancy upsampling and the integer colour conversion
// of libjpeg-turbo for JPEG, those of libwebp for WebP; alpha is dropped, not blended, but that of
// WebP, which lies on white; of 16 bits the upper 8 count; a GIF's first frame lies where it lies
// on black; an 8-bit BMP's indices are greys; EXIF plays no part. A View may ask for alpha on a
// background, and for the orientation that EXIF gives.
// TestPreprocessingEqualsPython compares all that is done after decoding with tf.image, Keras and
// TF-Slim in Python.
//
// A Plan is what both ways share: which bytes to decode, and what to make of
// the decoded pixels.
//
// PNG, GIF, BMP and WebP, and all the resizing, come out as in TensorFlow to
// the bit. A JPEG does not: DecodeImage takes the fast inverse transform of
// libjpeg, which cuts fractions off, Go the accurate one. TestPhotos measures
// that on 160 JPEGs: twenty photos, whole and three fifths of them, in the
// qualities 50 to 98, some enlarged. Pixels are 0.1 to 1.6 levels of 255 apart on
// the mean and 21 in one place at most; Inception's scores 0.0001 in the median,
// 0.021 at most, but 0.055 for one photo that it is undecided about. Other models
// and pictures may be further apart. From TensorFlow's accurate transform pixels
// are 0.05 apart on the mean.
//
// The header of a JPEG is read as libjpeg reads it: Motion-JPEG without Huffman
// tables, segments too short for their length, bytes between segments, and four
// colours without Adobe's marker are taken; missing tables are refused. What
// Go's decoders refuse beyond that is an error even where TensorFlow's would take
// it: a JPEG with arithmetic coding or 12 bits, sampling factors of 3 or of
// chroma finer than the luma, damage within the coded data, fewer rows than were
// announced; a GIF with more data than its frame has pixels.
package pixels
