// Package measure provides what the benchmarks share: photos, clients that send them, the use of
// processor and memory from /proc, and medians.
package measure
