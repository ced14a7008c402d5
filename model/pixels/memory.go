package pixels

// MemoryOf returns how many bytes of memory Append takes to decode an image, about at most, besides
// the file itself. It reads the headers only; what it cannot read counts as the costliest.
func (v View) MemoryOf(b []byte, h Header) int64 {
	const rgb, worst = 3, 27
	each := int64(worst) // bytes a pixel, for what Go's decoder keeps and for the picture
	switch h.Format {
	case "jpeg":
		if f, err := readJPEG(b); err == nil {
			samples := int64(max(3, min(len(f.components), 4)))
			each = samples + rgb
			if samples == 4 {
				each += samples // CMYK is put together from four planes
			}
			if !f.sequential {
				each += 4 * samples // coefficients of the whole picture
			}
		}
	case "png":
		const depth = 24 // in IHDR, which Go's decoder wants first
		if each = 9 + rgb; len(b) > depth && b[depth] == 16 {
			each = 16 + rgb
		}
	case "gif":
		each = 1 + rgb
	case "bmp":
		each = rgb
	case "webp":
		each = 14 + rgb // colours, alpha and what both are made from
	}
	if orientationOf(b, h.Format) != upright && v.Upright {
		each += rgb // the picture, turned
	}
	return each * int64(h.Width) * int64(h.Height)
}
