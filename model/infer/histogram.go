package infer

import "math"

// magnitude are the bits of a float32 besides its sign. They have the order of the absolute values,
// with infinity and NaN at the end.
const magnitude = 1<<31 - 1

// largestOf returns the largest absolute value, or NaN if one is that.
func largestOf(values []float32) float32 {
	largest := uint32(0)
	for _, v := range values {
		largest = max(largest, math.Float32bits(v)&magnitude)
	}
	return math.Float32frombits(largest)
}

// A histogram counts absolute values in bins of which each spans 1/64 of the way to the next power
// of two. It needs no range beforehand, and the order of values does not matter. The bins are those
// of the first bits of a float32: the exponent, and 6 bits after it. It takes 24 KiB.
type histogram struct {
	total int64   // values
	max   float32 // the largest value
	bins  [histogramBins]int64
}

const (
	binShift      = 23 - 6                                  // bits of a float32 that do not count
	lowestBits    = (127 - 24) << 23                        // of 2^-24: smaller values are in the first bin
	histogramBins = ((127+24)<<23 - lowestBits) >> binShift // up to 2^24: larger values are in the last one
	percentile    = 0.999

	// int8Steps is how many steps there are from zero to a range.
	int8Steps = 255
)

// add counts values. The largest of them is that of largestOf.
func (h *histogram) add(values []float32, largest float32) {
	h.total += int64(len(values))
	h.max = max(h.max, largest)
	for _, v := range values {
		bin := (int32(math.Float32bits(v)&magnitude) - lowestBits) >> binShift
		h.bins[min(max(bin, 0), histogramBins-1)]++
	}
}

// binStart returns the least value of a bin; the first one has smaller values, too.
func binStart(bin int) float32 { return math.Float32frombits(uint32(lowestBits + bin<<binShift)) }

// ends returns the ranges that the methods choose.
func (h *histogram) ends() LayerRange {
	return LayerRange{Max: h.max, Percentile: h.percentile(), LeastError: h.leastError()}
}

// percentile returns the end of the bin below which 99.9 % of the values are, or the largest value
// if that is less.
func (h *histogram) percentile() float32 {
	above, most := int64(0), int64(float64(h.total)*(1-percentile))
	last := histogramBins - 1
	for ; last > 0; last-- {
		if above += h.bins[last]; above > most {
			break
		}
	}
	if last == histogramBins-1 { // it has no end
		return h.max
	}
	return min(h.max, binStart(last+1))
}

// leastError returns the range with which int8 represents the values with the least sum of squared
// errors: those of rounding, and those of the values above the range, which are cut off. Values in
// the first bin do not count: most of them are zero, which int8 represents exactly.
func (h *histogram) leastError() float32 {
	within := -float64(h.bins[0])
	for _, n := range h.bins {
		within += float64(n)
	}
	rounding := func(end float64) float64 { // of a value, in the mean
		step := end / int8Steps
		return step * step / 12
	}
	best, least := h.max, within*rounding(float64(h.max))
	if h.bins[histogramBins-1] > 0 { // nobody knows how large these values are
		return best
	}
	var count, sum, squares float64 // of the values from a bin on, with the middle of its bin for each
	for bin := histogramBins - 2; bin > 0; bin-- {
		start, n := float64(binStart(bin)), float64(h.bins[bin])
		middle := (start + float64(binStart(bin+1))) / 2
		count, sum, squares, within = count+n, sum+n*middle, squares+n*middle*middle, within-n
		if count == 0 {
			continue
		}
		cutOff := squares - 2*start*sum + start*start*count
		if e := cutOff + within*rounding(start); e < least {
			best, least = float32(start), e
		}
	}
	return best
}
