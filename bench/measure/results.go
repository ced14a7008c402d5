package measure

import (
	"fmt"
	"slices"
)

// Results are the values of each name, one a round.
type Results map[string][]float64

// Add adds a round's value.
func (r Results) Add(name string, v float64) { r[name] = append(r[name], v) }

// Has tells whether there is a value of each of the names.
func (r Results) Has(names ...string) bool {
	for _, name := range names {
		if len(r[name]) == 0 {
			return false
		}
	}
	return true
}

// Median is zero of nothing.
func (r Results) Median(name string) float64 { return Quantile(r[name], 0.5) }

// Each combines the values of rounds.
func Each(a, b []float64, f func(a, b float64) float64) []float64 {
	var out []float64
	for i := range min(len(a), len(b)) {
		out = append(out, f(a[i], b[i]))
	}
	return out
}

// Ratio is a / b.
func Ratio(a, b float64) float64 { return a / b }

// Sum is a + b.
func Sum(a, b float64) float64 { return a + b }

// Quantile takes the value at q of 1, between two neighbours where it falls
// between them.
func Quantile[T ~int64 | ~float64](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + T((at-float64(below))*float64(sorted[above]-sorted[below]))
}

// Spread is the median of values, and the least and the largest, scaled, with
// so many decimals.
func Spread(values []float64, scale float64, decimals int) string {
	return fmt.Sprintf("%.*f (%.*f – %.*f)", decimals, scale*Quantile(values, 0.5),
		decimals, scale*slices.Min(values), decimals, scale*slices.Max(values))
}
