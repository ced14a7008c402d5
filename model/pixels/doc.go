// Package pixels decodes images to a model's input without TensorFlow. It serves a model
// server that takes pixels, on a machine without TensorFlow's library.
//
// It repeats what the decoder of package infer does with the operations DecodeImage,
// ResizeBilinear, ResizeNearestNeighbor, ResizeBicubic, ResizeArea and Cast, step by step, so
// that a model sees the same picture:
//
//   - A JPEG has the fancy upsampling and the integer colour conversion of libjpeg-turbo, a
//     WebP those of libwebp.
//   - Alpha is dropped and not blended, except that a WebP is laid on white.
//   - Samples of 16 bits keep their upper 8.
//   - A GIF's first frame keeps its place, on black.
//   - The indices of an 8-bit BMP are greys.
//   - EXIF is ignored.
//
// A View can lay alpha on a background, and apply the orientation of EXIF.
// TestPreprocessingEqualsPython compares every step after decoding with tf.image, Keras and
// TF-Slim in Python.
//
// Both decoders share the Plan: which bytes to decode, and how to compose the picture from
// the decoded pixels.
//
// PNG, GIF, BMP, WebP and every resize are equal to TensorFlow's to the bit. A JPEG is not:
// DecodeImage uses libjpeg's fast inverse transform, which truncates, and Go the accurate
// one. TestPhotos measures the difference on 160 JPEGs: twenty photos, at full size and at
// three fifths of it, of quality 50 to 98, some enlarged. Pixels differ by 0.1 to 1.6 levels
// of 255 on average, and by 21 at most. Inception's scores differ by 0.0001 in the median and
// by 0.021 at most, but by 0.055 for one photo with two likely classes. Other models and
// pictures may differ more. From TensorFlow's accurate transform, pixels differ by 0.05 on
// average.
//
// The header of a JPEG is read as libjpeg reads it. Motion-JPEG without Huffman tables,
// segments shorter than their length, bytes between segments, and four colours without
// Adobe's marker are accepted; missing tables are refused. Some images are an error in Go
// that TensorFlow may accept: a JPEG with arithmetic coding, 12 bits, a sampling factor of 3,
// chroma finer than the luma, damaged coded data, or fewer rows than announced; and a GIF
// with more data than its frame has pixels.
package pixels
